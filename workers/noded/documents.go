package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// follow reads the machine's documents until ctx ends. Each is kept before it is acknowledged.
func (b *bus) follow(ctx context.Context, nc *nats.Conn) {
	for ctx.Err() == nil {
		if err := b.consume(ctx, nc); err != nil && ctx.Err() == nil {
			b.log.Debug("documents are read anew", "why", err)
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

func (b *bus) consume(ctx context.Context, nc *nats.Conn) error {
	js, err := jetstream.NewWithAPIPrefix(nc, events.MachineAPIPrefix)
	if err != nil {
		return fmt.Errorf("open documents: %w", err)
	}
	lookUp, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	cons, err := js.Consumer(lookUp, events.StreamDesired, events.DesiredConsumer(b.a.machine, b.a.conf.BootID))
	if err != nil {
		return fmt.Errorf("find consumer of documents: %w", err)
	}
	msgs, err := cons.Messages(jetstream.PullMaxMessages(256), jetstream.PullExpiry(30*time.Second), jetstream.PullHeartbeat(5*time.Second))
	if err != nil {
		return fmt.Errorf("read documents: %w", err)
	}
	watched, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.untilRemade(watched, cons)
		msgs.Stop()
	}()
	defer func() { stop(); <-done }()
	for {
		msg, err := msgs.Next()
		if err != nil {
			return fmt.Errorf("read documents: %w", err)
		}
		b.take(msg)
	}
}

// untilRemade returns when ctx ends, the connection was made again, or the consumer is not the one that was found. The control plane
// makes it anew a moment after each connect, and a pull from the old one would wait in vain until its heartbeat is missed.
func (b *bus) untilRemade(ctx context.Context, cons jetstream.Consumer) {
	created := cons.CachedInfo().Created
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		var check <-chan time.Time
		if wait < 10*time.Second {
			check = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-b.again:
			return
		case <-check:
		}
		asked, cancel := context.WithTimeout(ctx, answerTimeout)
		info, err := cons.Info(asked)
		cancel()
		if err != nil || !info.Created.Equal(created) {
			return
		}
	}
}

// take hands one document to the loop. One that cannot be read is logged and acknowledged: it would only come again.
func (b *bus) take(msg jetstream.Msg) {
	d, err := desired.Decode(msg.Data())
	if err != nil {
		b.log.Error("document is not understood", "subject", msg.Subject(), "err", err)
		_ = msg.Ack()
		return
	}
	v, err := b.a.loop.Offer(d)
	if err != nil {
		b.log.Error("document is not kept", "subject", msg.Subject(), "err", err)
		_ = msg.NakWithDelay(time.Second)
		return
	}
	b.log.Info("document", "object", string(d.Kind)+"/"+d.ID, "term", d.Generation.Term, "number", d.Generation.Number, "verdict", v)
	_ = msg.Ack() // an acknowledgement that is lost brings the document once more, and it is the same then
}

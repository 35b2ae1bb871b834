package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// Documents come by pulls from this boot's consumer on DESIRED. The requests are our own, because an abandoned one is dangerous: the
// consumer lies in another bus account, cannot see that nobody listens any more, and would give it documents that then come again only
// after the acknowledgement's time-out. So all pulls of a connection answer to one subscription that lives as long as it does, and
// a pull too many only adds credit.
const (
	pullBatch  = 256             // documents that one pull asks for
	pullAgain  = 5 * time.Second // a pull may have been lost with a consumer that was made anew
	pullExpiry = 6 * time.Second //
	pullFirst  = 50 * time.Millisecond
)

// pull is the body of CONSUMER.MSG.NEXT (JetStream wire API).
type pull struct {
	Batch   int           `json:"batch"`
	Expires time.Duration `json:"expires"` // ns
}

// follow reads the machine's documents until ctx ends. Each is kept before it is acknowledged.
func (b *bus) follow(ctx context.Context, nc *nats.Conn) {
	inbox := nc.NewInbox()
	more := make(chan bool, 1) // true: at once; false: something is wrong, soon
	credit := 0                // of the handler alone
	sub, err := nc.Subscribe(inbox, func(m *nats.Msg) {
		if status := m.Header.Get("Status"); status != "" {
			if status != "408" && status != "100" { // its time is over; heartbeat
				b.log.Debug("documents", "status", status, "description", m.Header.Get("Description"))
				nudge(more, false)
			}
			return
		}
		b.take(m)
		if credit++; credit >= pullBatch/2 {
			credit = 0
			nudge(more, true)
		}
	})
	if err != nil {
		b.log.Error("listen for documents", "err", err)
		return
	}
	defer func() { _ = sub.Unsubscribe() }()
	b.pull(ctx, nc, inbox, more)
}

func nudge(more chan bool, now bool) {
	select {
	case more <- now:
	default:
	}
}

// pull asks for documents: often after a connect, since the control plane makes the consumer anew a moment later, then whenever
// half of a batch has come, and every few seconds.
func (b *bus) pull(ctx context.Context, nc *nats.Conn, inbox string, more chan bool) {
	subject := events.MachineAPIPrefix + ".CONSUMER.MSG.NEXT." + events.StreamDesired + "." + events.DesiredConsumer(b.a.machine, b.a.conf.BootID)
	body, err := json.Marshal(pull{pullBatch, pullExpiry})
	if err != nil {
		panic(fmt.Sprintf("encode pull: %v", err)) // two numbers
	}
	wait := pullFirst
	for {
		if nc.IsConnected() {
			if err := nc.PublishRequest(subject, inbox, body); err != nil {
				b.log.Debug("ask for documents", "err", err)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-b.again:
			wait = pullFirst
		case now := <-more:
			if !now { // wait out the timer: what is missing is being made
				wait = pullFirst
				select {
				case <-ctx.Done():
				case <-timer.C:
				}
			}
		case <-timer.C:
			wait = min(2*wait, pullAgain)
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// take hands one document to the loop. One that cannot be read is logged and acknowledged: it would only come again.
func (b *bus) take(m *nats.Msg) {
	d, err := desired.Decode(m.Data)
	if err != nil {
		b.log.Error("document is not understood", "subject", m.Subject, "err", err)
		_ = m.Ack()
		return
	}
	v, err := b.a.loop.Offer(d)
	if err != nil {
		b.log.Error("document is not kept", "object", string(d.Kind)+"/"+d.ID, "err", err)
		_ = m.NakWithDelay(time.Second)
		return
	}
	if b.a.chain != nil {
		b.a.chain.wake()
	}
	b.log.Info("document", "object", string(d.Kind)+"/"+d.ID, "term", d.Generation.Term, "number", d.Generation.Number, "verdict", v)
	_ = m.Ack() // an acknowledgement that is lost brings the document once more, and it is the same then
}

package desired

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

// Log is the log, as far as a Publisher reads it.
type Log interface {
	// Last gives the number of the last decision, 0 if there is none.
	Last(ctx context.Context) (uint64, error)
	// Follow gives all decisions from a number on, in order and without gaps, and then those to come, until ctx ends or each fails.
	Follow(ctx context.Context, from uint64, each func([]events.Recorded) error) error
}

// Publisher brings the DESIRED stream to what the fold of the log says, while it is active. Before it publishes anything it has folded
// the log to its end: a document of the past, published as if it were of today, could start a VM a second time.
type Publisher struct {
	js     jetstream.JetStream
	active func() bool
	log    *slog.Logger
	wake   chan struct{}

	mu     sync.Mutex
	queue  []events.Recorded // to be folded
	queued uint64            // number of the last decision that was ever queued
	room   chan struct{}     // closed and replaced when the queue was taken
}

// Limits of a Publisher.
const (
	maxQueue   = 4096                   // decisions; the follower of the log waits, the fast path never does
	lookAgain  = 50 * time.Millisecond  // at whether we are active
	retryPause = 100 * time.Millisecond // after the stream did not take a document
)

// NewPublisher makes one. active says whether this server is the one that publishes; it is asked often and must be quick.
func NewPublisher(js jetstream.JetStream, active func() bool, log *slog.Logger) *Publisher {
	return &Publisher{js: js, active: active, log: log, wake: make(chan struct{}, 1), room: make(chan struct{})}
}

// Apply takes decisions that were just stored, so that their documents are published without the way through the log. It does not
// block. Decisions that are known are ignored, and so are those that do not follow on what is known: they come by the log.
func (p *Publisher) Apply(d []events.Recorded) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.take(d)
}

// take queues what follows on what is queued. The caller holds the lock.
func (p *Publisher) take(d []events.Recorded) {
	for len(d) > 0 && d[0].Number <= p.queued {
		d = d[1:]
	}
	if len(d) == 0 || d[0].Number != p.queued+1 {
		return
	}
	p.queue = append(p.queue, d...)
	p.queued = d[len(d)-1].Number
	p.Wake()
}

// Wake lets the publisher look at once whether it is active.
func (p *Publisher) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// feed is Apply for the log's follower: it waits while the queue is full.
func (p *Publisher) feed(ctx context.Context, d []events.Recorded) error {
	for {
		p.mu.Lock()
		full, room := len(p.queue) >= maxQueue, p.room
		if !full {
			p.take(d)
		}
		p.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *Publisher) drain() []events.Recorded {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.queue
	p.queue = nil
	close(p.room)
	p.room = make(chan struct{})
	return d
}

// Run folds the log and publishes, until ctx ends; then it returns nil. Any other end is the Log's error, or ErrGap.
func (p *Publisher) Run(ctx context.Context, l Log) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	followed := make(chan error, 1)
	go func() {
		followed <- l.Follow(inner, 1, func(d []events.Recorded) error { return p.feed(inner, d) })
		cancel()
	}()
	w := &work{p: p, l: l, fold: NewFold()}
	err := w.loop(inner)
	cancel()
	followErr := <-followed
	if ctx.Err() != nil {
		return nil
	}
	if followErr != nil && !errors.Is(followErr, context.Canceled) {
		return fmt.Errorf("follow the log: %w", followErr)
	}
	return err
}

// work is what only Run's own goroutine touches.
type work struct {
	p      *Publisher
	l      Log
	fold   *Fold
	stream *stream // nil: we are not active, or do not know what the stream holds
	dirty  []string
}

func (w *work) loop(ctx context.Context) error {
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for {
		select {
		case <-w.p.wake:
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := w.foldQueue(); err != nil {
			return err
		}
		if err := w.publish(ctx); err != nil && ctx.Err() == nil {
			w.p.log.Warn("documents cannot be published, trying again", "err", err)
			w.stream = nil // what it holds has to be read again
			select {
			case <-time.After(retryPause):
			case <-ctx.Done():
			}
		}
	}
}

func (w *work) foldQueue() error {
	for _, r := range w.p.drain() {
		changed, err := w.fold.Apply(w.dirty, &r)
		if errors.Is(err, ErrGap) {
			return err
		}
		if err != nil {
			w.p.log.Error("an object cannot be rendered", "decision", r.Number, "err", err)
		}
		if w.dirty = changed; w.stream == nil {
			w.dirty = w.dirty[:0] // everything will be compared
		}
	}
	return nil
}

// publish publishes what is due. The first time, and after any error, it compares everything.
func (w *work) publish(ctx context.Context) error {
	if !w.p.active() {
		w.stream, w.dirty = nil, nil
		return nil
	}
	if w.stream == nil {
		last, err := w.l.Last(ctx)
		if err != nil {
			return fmt.Errorf("find the end of the log: %w", err)
		}
		if w.fold.At() < last {
			return nil // not caught up; what comes wakes us
		}
		s, err := readStream(ctx, w.p.js)
		if err != nil {
			return err
		}
		w.stream, w.dirty = s, s.differences(w.fold, w.p.log)
	}
	if len(w.dirty) == 0 {
		return nil
	}
	dirty := w.dirty
	w.dirty = nil
	return w.stream.publish(ctx, w.fold, dirty)
}

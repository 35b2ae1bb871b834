package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

// Retention is how long FEED keeps a message. An event of an older decision is not published when FEED is filled from nothing.
const Retention = 30 * 24 * time.Hour

// Log is what the Deriver reads.
type Log interface {
	// Read gives decisions in order, beginning with number from: at least one if there is one, and about limit at most. None
	// and no error: the log ends before from.
	Read(ctx context.Context, from uint64, limit int) ([]events.Recorded, error)
	// End gives the number and the term of the last decision; zeros if there is none.
	End(ctx context.Context) (number, term uint64, err error)
}

const (
	batchSize = 512             // decisions read at once
	window    = 256             // publishes under way
	maxQueue  = 4096            // decisions that Apply may be ahead; beyond it they are read from the log
	pollEvery = 2 * time.Second // how often the log is asked when Apply is silent
)

// Deriver publishes every event of the log on FEED, in order. It runs on the active server. Two that run by mistake do no harm: each
// publish expects the sequence that follows from the log, so both can only write the same.
type Deriver struct {
	js        jetstream.JetStream
	log       Log
	slog      *slog.Logger
	wake      chan struct{}
	published atomic.Uint64 // number of the last decision that is completely on FEED

	level bool // nothing is known to be in the log beyond what was published; only Run's goroutine uses it

	mu    sync.Mutex
	queue []events.Recorded // contiguous
}

// NewDeriver makes a deriver. The connection stays the caller's; it must be of the control plane's account.
func NewDeriver(nc *nats.Conn, log Log, logger *slog.Logger) (*Deriver, error) {
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(2*window), jetstream.WithPublishAsyncTimeout(10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("open JetStream for FEED: %w", err)
	}
	return &Deriver{js: js, log: log, slog: logger, wake: make(chan struct{}, 1)}, nil
}

// Published is the number of the last decision whose events are all on FEED. 0 before Run has found it.
func (d *Deriver) Published() uint64 { return d.published.Load() }

// Apply tells of decisions that were just stored, so that they need not be read again. It never blocks and may leave out some.
func (d *Deriver) Apply(rs []events.Recorded) {
	if len(rs) == 0 {
		return
	}
	d.mu.Lock()
	if n := len(d.queue); n > 0 && d.queue[n-1].Number+1 != rs[0].Number || n+len(rs) > maxQueue {
		d.queue = nil
	}
	if len(rs) <= maxQueue {
		d.queue = append(d.queue, rs...)
	}
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run publishes until ctx ends, and gives nil then. It goes on after every error, where FEED ends.
func (d *Deriver) Run(ctx context.Context) error {
	const first, last = 50 * time.Millisecond, 5 * time.Second
	pause := first
	for ctx.Err() == nil {
		began := time.Now()
		err := d.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > last {
			pause = first
		}
		d.slog.Warn("FEED is derived again from where it ends", "after", pause, "error", err)
		rest(ctx, pause)
		pause = min(2*pause, last)
	}
	return nil
}

// end is where FEED ends: the place of its last event and the sequence of its message.
type end struct {
	place
	seq   uint64
	since time.Time // decisions before are not published
}

func (d *Deriver) follow(ctx context.Context) error {
	d.level = false
	at, err := d.locate(ctx)
	if err != nil {
		return err
	}
	for {
		rs, err := d.next(ctx, at)
		if err != nil {
			return err
		}
		if at, err = d.publish(ctx, at, rs); err != nil {
			return err
		}
		d.published.Store(at.number)
	}
}

// next waits for decisions from the one at the end of FEED on, which may be half published.
func (d *Deriver) next(ctx context.Context, at end) ([]events.Recorded, error) {
	from := at.number
	if at.index == whole {
		from++
	}
	for {
		rs, gap := d.take(from)
		if len(rs) > 0 {
			d.level = true
			return rs, nil
		}
		if d.level && !gap {
			d.level = false
			if err := d.wait(ctx); err != nil {
				return nil, err
			}
			continue
		}
		rs, err := d.log.Read(ctx, from, batchSize)
		if err != nil {
			return nil, fmt.Errorf("read the log from decision %d: %w", from, err)
		}
		if len(rs) > 0 {
			return rs, nil
		}
		d.level = true
	}
}

func (d *Deriver) wait(ctx context.Context) error {
	t := time.NewTimer(pollEvery)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.wake:
	case <-t.C:
	}
	return nil
}

// take gives what was applied, if it goes on at from. A gap says that what is between has to be read.
func (d *Deriver) take(from uint64) (rs []events.Recorded, gap bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.queue)
	switch {
	case n == 0:
		return nil, false
	case d.queue[0].Number > from:
		return nil, true
	case d.queue[n-1].Number < from:
		d.queue = nil
		return nil, false
	}
	skip := int(from - d.queue[0].Number)
	stop := min(n, skip+batchSize)
	out := slices.Clone(d.queue[skip:stop])
	d.queue = d.queue[stop:]
	return out, false
}

// whole stands for the index after a decision's last event.
const whole = int(^uint(0) >> 1)

// publish stores the events of decisions that come after at. On an error it is not known what was stored.
func (d *Deriver) publish(ctx context.Context, at end, rs []events.Recorded) (end, error) {
	var under []jetstream.PubAckFuture
	acked := at.seq // sequence of the last future that was waited for
	for _, r := range rs {
		first := 0
		if r.Number == at.number {
			first = at.index + 1
		}
		for i := first; i < len(r.Events) && !r.Time.Before(at.since); i++ {
			m, err := render(r, i)
			if err != nil {
				return at, err
			}
			f, err := d.js.PublishMsgAsync(m, jetstream.WithExpectLastSequence(at.seq))
			if err != nil {
				return at, fmt.Errorf("publish event %s: %w", place{r.Number, i}.id(), err)
			}
			at.seq++
			if under = append(under, f); len(under) >= window {
				acked++
				if err := d.ack(ctx, under[0], acked); err != nil {
					return at, err
				}
				under = under[1:]
			}
		}
		at.place = place{r.Number, whole}
	}
	for _, f := range under {
		acked++
		if err := d.ack(ctx, f, acked); err != nil {
			return at, err
		}
	}
	return at, nil
}

// ack waits until one publish was stored where the log wants it.
func (d *Deriver) ack(ctx context.Context, f jetstream.PubAckFuture, seq uint64) error {
	select {
	case a := <-f.Ok():
		if a.Sequence != seq {
			return fmt.Errorf("publish on FEED: stored at sequence %d, not %d (duplicate: %v)", a.Sequence, seq, a.Duplicate)
		}
		return nil
	case err := <-f.Err():
		return fmt.Errorf("publish on FEED at sequence %d: %w", seq, err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// locate finds where FEED ends. What is under way from an earlier attempt is waited for first. A FEED that is not of this log, as
// after a restore, is emptied and filled again; its sequences go on.
func (d *Deriver) locate(ctx context.Context) (end, error) {
	select {
	case <-d.js.PublishAsyncComplete():
	case <-ctx.Done():
		return end{}, ctx.Err()
	}
	s, err := d.js.Stream(ctx, events.StreamFeed)
	if err != nil {
		return end{}, fmt.Errorf("look up stream %s: %w", events.StreamFeed, err)
	}
	state := s.CachedInfo().State
	if state.Msgs > 0 {
		at, err := d.verify(ctx, s, state.LastSeq)
		if !errors.Is(err, errForeign) {
			return at, err
		}
		d.slog.Error("FEED is not of this log: it is emptied and derived again", "error", err)
		if err := s.Purge(ctx); err != nil {
			return end{}, fmt.Errorf("empty stream %s: %w", events.StreamFeed, err)
		}
	}
	return end{place{0, whole}, state.LastSeq, time.Now().Add(-Retention)}, nil
}

// errForeign says that FEED holds an event that the log does not hold.
var errForeign = errors.New("it was derived from another log")

// verify reads the last message of FEED and compares it with the log.
func (d *Deriver) verify(ctx context.Context, s jetstream.Stream, seq uint64) (end, error) {
	m, err := s.GetMsg(ctx, seq)
	if err != nil {
		return end{}, fmt.Errorf("read the last message of FEED: %w", err)
	}
	p, term, err := placeOf(m.Header)
	if err != nil {
		return end{}, errors.Join(err, errForeign)
	}
	var have events.FeedMessage
	if err := json.Unmarshal(m.Data, &have); err != nil {
		return end{}, errors.Join(fmt.Errorf("read the last message of FEED: %w", err), errForeign)
	}
	rs, err := d.log.Read(ctx, p.number, 1)
	if err != nil {
		return end{}, fmt.Errorf("read decision %d: %w", p.number, err)
	}
	if len(rs) == 0 {
		return end{}, d.beyond(ctx, p.number, term)
	}
	r := rs[0]
	if r.Number != p.number || r.Term != term || p.index >= len(r.Events) || r.Intent != have.Intent || r.Events[p.index].Type != have.Event.Type {
		return end{}, fmt.Errorf("event %s of term %d: %w", p.id(), term, errForeign)
	}
	return end{p, seq, time.Time{}}, nil
}

// beyond judges a FEED that goes on after the log's end. A log that was opened again (a later term) will never hold that event. In the
// same term it may only be that what was read is not the newest: try again.
func (d *Deriver) beyond(ctx context.Context, number, term uint64) error {
	last, now, err := d.log.End(ctx)
	if err != nil {
		return fmt.Errorf("ask for the end of the log: %w", err)
	}
	if now > term {
		return fmt.Errorf("decision %d of term %d, where the log has term %d: %w", number, term, now, errForeign)
	}
	return fmt.Errorf("FEED holds decision %d of term %d, the log ends with %d", number, term, last)
}

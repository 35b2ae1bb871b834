package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cloudengine/events"
)

// Run folds the log and decides while this server leads it, until ctx ends. It returns the error of ctx.
func (d *Dispatcher) Run(ctx context.Context) error {
	answering := make(chan struct{})
	go func() { defer close(answering); d.giveAnswers() }()
	defer func() { close(d.replies); <-answering }()
	var folded time.Time
	for first := true; ctx.Err() == nil; {
		leads := d.stopped.Load() == nil && d.o.Leader()
		if leads || time.Since(folded) >= d.o.Poll {
			err := d.catchUp(ctx)
			if err == nil && first {
				first = false
				close(d.ready)
			}
			if d.note(ctx, err); err == nil && leads {
				d.note(ctx, d.guarded(ctx))
			}
			folded = time.Now()
		}
		d.dismiss(nil)
		select {
		case <-ctx.Done():
		case <-time.After(min(d.o.Poll, leaderCheck)):
		}
	}
	d.dismiss(nil)
	return ctx.Err()
}

// giveAnswers answers what is stored, beside the loop.
func (d *Dispatcher) giveAnswers() {
	for batch := range d.replies {
		for _, w := range batch {
			w.p.reply(w.answer, nil)
		}
	}
}

// note keeps the last trouble for Status, and stops for good when the log is broken.
func (d *Dispatcher) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		d.lastErr.Store(nil)
		return
	case errors.Is(err, events.ErrBroken):
		d.stop(err)
	default:
		d.o.Logger.Warn("the log cannot be used now", "err", err)
	}
	d.lastErr.Store(&err)
}

// stop ends deciding until the process is started again. Folding goes on as far as it can; machines and VMs run on.
func (d *Dispatcher) stop(err error) {
	if d.stopped.CompareAndSwap(nil, &err) {
		d.o.Logger.Error("deciding has stopped", "err", err)
	}
}

// dismiss tells all that wait that there is no decision now.
func (d *Dispatcher) dismiss(extra []*pending) {
	err := d.refusal()
	if err == nil {
		err = ErrNotActive
	}
	for _, p := range extra {
		p.reply(events.Answer{}, err)
	}
	for {
		select {
		case p := <-d.users:
			p.reply(events.Answer{}, err)
		case p := <-d.internal:
			p.reply(events.Answer{}, err)
		default:
			return
		}
	}
}

// catchUp folds what is stored behind the fold's position. Only what is stored may be in the fold.
func (d *Dispatcher) catchUp(ctx context.Context) error {
	if e := d.stopped.Load(); e != nil && errors.Is(*e, events.ErrBroken) {
		return *e
	}
	if d.dirty {
		return d.refold(ctx)
	}
	_, err := d.o.Log.Load(ctx, d.pos, func(p events.Position, b *events.Block) error {
		recorded := b.Recorded()
		d.mu.Lock()
		for _, r := range recorded {
			d.core.Evolve(r)
		}
		d.pos = p
		d.mu.Unlock()
		d.stopOnUnknown(recorded)
		d.announce(recorded)
		return nil
	})
	if err != nil {
		return fmt.Errorf("fold the log: %w", err)
	}
	return nil
}

// ErrNewer says that a newer version of the program has written to the log.
var ErrNewer = errors.New("the log was written by a newer version of this program")

// stopOnUnknown stops when the log holds, or may hold, what a newer version wrote: deciding without it could break what it stands for.
func (d *Dispatcher) stopOnUnknown(recorded []events.Recorded) {
	for _, r := range recorded {
		for _, e := range r.Events {
			switch p := e.Data.(type) {
			case events.Unknown:
				d.stop(fmt.Errorf("%w: decision %d has an event of type %s, which this version does not know; start that version, nothing is lost", ErrNewer, r.Number, p.Type))
			case events.LogLevelRaised:
				if p.Level > events.Level {
					d.stop(fmt.Errorf("%w: decision %d raised the log to level %d, and this version knows %d; start one that knows it, nothing is lost", ErrNewer, r.Number, p.Level, events.Level))
				}
			}
		}
	}
}

// refold throws the fold away and makes it again from what is stored: it holds decisions that are not.
func (d *Dispatcher) refold(ctx context.Context) error {
	fresh := d.o.Core()
	var at events.Position
	var behind [][]events.Recorded
	at, err := d.o.Log.Load(ctx, at, func(_ events.Position, b *events.Block) error {
		recorded := b.Recorded()
		for _, r := range recorded {
			fresh.Evolve(r)
		}
		if b.Last() > d.applied.Load() {
			behind = append(behind, recorded)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("fold the log again: %w", err)
	}
	d.mu.Lock()
	d.core, d.pos = fresh, at
	d.mu.Unlock()
	d.dirty = false
	for _, recorded := range behind {
		d.stopOnUnknown(recorded)
		d.announce(recorded)
	}
	return nil
}

// announce tells of decisions that are stored and folded, those that were not told of before.
func (d *Dispatcher) announce(recorded []events.Recorded) {
	seen := d.applied.Load()
	recorded = recorded[min(len(recorded), countUpTo(recorded, seen)):]
	if len(recorded) == 0 {
		return
	}
	select {
	case <-d.ready:
		for _, f := range d.hooks {
			f(slices.Clip(recorded))
		}
	default: // the first fold is history
	}
	d.applied.Store(recorded[len(recorded)-1].Number)
	d.waitMu.Lock()
	close(d.moved)
	d.moved = make(chan struct{})
	d.waitMu.Unlock()
}

// countUpTo says how many of the decisions have a number up to n.
func countUpTo(recorded []events.Recorded, n uint64) int {
	if len(recorded) == 0 || recorded[0].Number > n {
		return 0
	}
	return int(n - recorded[0].Number + 1)
}

package mysql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloudengine/events"
)

// applier is Run at work. One transaction is on its way at most; when many decisions wait, the next batch is folded meanwhile. A lone
// decision is committed at once, and what comes while a commit is under way shares the next one.
type applier struct {
	p      *Projector
	e      *Engine
	todo   []events.Recorded // not known to be committed: first those that are on their way, then those that are folded, then the rest
	flight *prepared         // on its way
	done   chan error        // its end
	next   *prepared         // folded
	failed int               // attempts since the last success
}

// apply applies what comes until blocks is closed or what it meets cannot be mended by trying again.
func (p *Projector) apply(ctx context.Context, blocks <-chan []events.Recorded) error {
	e, err := p.open(ctx)
	if err != nil {
		return err
	}
	a := &applier{p: p, e: e, done: make(chan error, 1)}
	defer a.land()
	for {
		if err := a.work(ctx); err != nil {
			return err
		}
		in, done := blocks, a.done
		if len(a.todo) >= 4*MaxBatch {
			in = nil // enough waits in memory
		}
		select {
		case block, ok := <-in:
			if !ok {
				return nil
			}
			if block, err = a.follows(block); err != nil {
				return err
			}
			a.todo = append(a.todo, block...)
		case err := <-done:
			if err = a.landed(ctx, err); err != nil {
				return err
			}
		case h := <-p.handovers:
			if err := a.standAside(ctx, h); err != nil {
				return err
			}
		}
	}
}

// land waits for what is on its way: nothing of it may outlive Run.
func (a *applier) land() {
	if a.flight != nil {
		<-a.done
		a.flight = nil
	}
}

// work folds and starts what can be.
func (a *applier) work(ctx context.Context) error {
	for {
		flying := 0
		if a.flight != nil {
			flying = len(a.flight.batch)
		}
		rest := a.todo[flying:]
		if a.next == nil && (flying == 0 && len(rest) > 0 || len(rest) >= MaxBatch) {
			next, err := a.e.prepare(ctx, rest[:min(MaxBatch, len(rest))], a.flight)
			if err != nil {
				if err = a.again(ctx, err); err != nil {
					return err
				}
				continue
			}
			a.next = next
		}
		if a.flight != nil || a.next == nil {
			return nil
		}
		a.flight, a.next = a.next, nil
		go func(e *Engine, p *prepared) { a.done <- e.commit(ctx, p) }(a.e, a.flight)
	}
}

// landed takes over what was committed, or mends what failed.
func (a *applier) landed(ctx context.Context, err error) error {
	p := a.flight
	a.flight = nil
	mend := err != nil
	parked, err := a.e.finish(ctx, p, err)
	if err != nil {
		return a.again(ctx, err)
	}
	for _, x := range parked {
		a.p.log.Error("event cannot be applied, its object is parked", "number", x.Number, "object", x.Object.String(), "type", x.Type, "err", x.Err)
	}
	if a.next != nil {
		a.next.stage.under, a.next.after = nil, nil // it is in the cache now
	}
	if mend {
		a.next = nil // it was folded on what turned out otherwise
	}
	a.todo = a.todo[len(p.batch):]
	a.failed = 0
	a.p.reached(a.e.At().Number)
	return nil
}

// again begins anew at the checkpoint after an error, unless nothing mends it. What was on its way may be committed all the same.
func (a *applier) again(ctx context.Context, err error) error {
	a.land()
	a.next = nil
	if ctx.Err() != nil || errors.Is(err, ErrOtherOwner) || errors.Is(err, ErrGap) {
		return err
	}
	if a.failed == 0 {
		a.p.log.Warn("read models cannot be written, trying again", "after", a.e.At().Number, "err", err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond << min(a.failed, 6)):
	}
	a.failed++
	before := a.e.At().Number
	e, err := a.p.open(ctx)
	if err != nil {
		return err
	}
	if at := e.At().Number; at < before || at > before+uint64(len(a.todo)) {
		return fmt.Errorf("read models are at decision %d after writing from %d: %w", at, before, ErrOtherOwner)
	}
	a.e = e
	a.todo, err = a.follows(a.todo)
	a.p.reached(e.At().Number)
	return err
}

// follows drops what is applied already, after comparing the decision of the checkpoint.
func (a *applier) follows(d []events.Recorded) ([]events.Recorded, error) {
	at := a.e.At()
	for len(d) > 0 && d[0].Number <= at.Number {
		if d[0].Number == at.Number && (d[0].Intent != at.Intent || d[0].Term != at.Term) {
			return nil, fmt.Errorf("decision %d is intent %s in the log and %s in the read models: %w; build them anew if the log is right (\"serve --rebuild\")",
				at.Number, d[0].Intent, at.Intent, ErrOtherLog)
		}
		d = d[1:]
	}
	return d, nil
}

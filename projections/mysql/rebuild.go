package mysql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloudengine/events"
)

// RebuildOptions say what a rebuild is for, beside making the read models anew.
type RebuildOptions struct {
	Lift     events.Ref     // if given: this parked object has to go on, or nothing is changed
	Drop     events.Ref     // if given: the event that parked this object is given up
	Reason   string         // why it is dropped
	By       string         // who drops it
	Progress func(Progress) // is called about ten times a second; nil: nobody listens

	of Checkpoint // the log has to be the one with this decision
}

// Built says what was built.
type Built struct {
	Number    uint64 // of the last decision in it, at the swap
	Decisions uint64 // that were folded
	Rows      uint64 // that were loaded
	Parked    int    // objects that are parked in it
	Took      time.Duration
}

var (
	// ErrStillParked says that an object's events cannot be applied this time either.
	ErrStillParked = errors.New("it still cannot be applied")
	// ErrHeld says that the new tables could not take the place of the old ones: a transaction of some reader did not end.
	ErrHeld = errors.New("a reader's transaction did not end")
)

// noRef names nothing.
var noRef events.Ref

// Limits of a swap.
const (
	swapTime  = 5 * time.Minute // of all attempts
	swapPause = 200 * time.Millisecond
)

// Rebuild builds the read models anew from the log while Run keeps the present ones up to date, and swaps. Readers see the present ones
// until then and the new ones from then on, in one moment. On any error the present ones stay. One rebuild of a database runs at a
// time: ErrBuilding. Other errors: ErrNotParked, ErrStillParked, ErrHeld, the log's and the database's.
func (p *Projector) Rebuild(ctx context.Context, r Reader, o RebuildOptions) (Built, error) {
	return p.rebuild(ctx, r, o, p.handOver)
}

// turn runs do while nobody writes the live tables, and tells it how far they are.
type turn func(ctx context.Context, do func(ctx context.Context, at Checkpoint) error) error

func (p *Projector) rebuild(ctx context.Context, r Reader, o RebuildOptions, alone turn) (Built, error) {
	s, err := wanted()
	if err != nil {
		return Built{}, err
	}
	b, err := lockTables(ctx, p.db, s)
	if err != nil {
		return Built{}, err
	}
	defer b.release()
	if err := b.cleanUp(ctx); err != nil {
		return Built{}, err
	}
	dropped, err := p.toDrop(ctx, b, o)
	if err != nil {
		return Built{}, err
	}
	x := newBuild(b, p.db, r, p.log, dropped)
	x.of = o.of
	stop := tell(x, o.Progress)
	defer stop()
	built, err := x.run(ctx, o.Lift, alone)
	if err != nil {
		x.forget()
		return built, err
	}
	return built, nil
}

// toDrop gives the events to leave out: those that were dropped before, and the one that is to be dropped now.
func (p *Projector) toDrop(ctx context.Context, b *builder, o RebuildOptions) ([]DroppedEvent, error) {
	for _, ref := range []events.Ref{o.Lift, o.Drop} {
		if ref == noRef {
			continue
		}
		if parked, err := ReadParked(ctx, p.db, ref, 1); err != nil {
			return nil, err
		} else if len(parked) == 0 {
			return nil, fmt.Errorf("find %s among parked events: %w", ref, ErrNotParked)
		}
	}
	there, err := hasTable(ctx, b, droppedTable)
	if err != nil || !there { // tables of an older version
		return nil, err
	}
	dropped, err := readDropped(ctx, b, live)
	if err != nil || o.Drop == noRef {
		return dropped, err
	}
	parked, err := ReadParked(ctx, p.db, o.Drop, 1)
	if err != nil || len(parked) == 0 {
		return nil, errors.Join(err, ErrNotParked)
	}
	e := parked[0]
	return append(dropped, DroppedEvent{Number: e.Number, Index: e.Index, Object: e.Object, Type: e.Type, Error: e.Error, Reason: o.Reason, By: o.By,
		At: time.Now().UTC().Truncate(time.Microsecond)}), nil
}

// run builds the next generation from the log and makes it the live one.
func (x *build) run(ctx context.Context, lift events.Ref, alone turn) (Built, error) {
	last := x.until
	if last == 0 {
		var err error
		if last, err = lastOf(ctx, x.r); err != nil {
			return Built{}, err
		}
	}
	err := x.fold(ctx, last)
	if err != nil && !errors.Is(err, errMisfit) {
		return Built{}, err
	}
	for _, s := range x.stops {
		if s.Object == lift {
			return Built{}, fmt.Errorf("decision %d: %w: %w", s.Number, ErrStillParked, s.Err)
		}
	}
	built := Built{Decisions: last}
	if err == nil {
		err = x.load(ctx)
	}
	if errors.Is(err, errMisfit) {
		err = x.again(ctx, err)
	}
	if err != nil {
		return built, err
	}
	built.Rows = x.toLoad.Load()
	if err := x.reachEnd(ctx); err != nil {
		return built, err
	}
	if x.engine.parked[lift] {
		return built, ErrStillParked
	}
	if err := x.takeOver(ctx, alone); err != nil {
		return built, err
	}
	built.Parked = len(x.engine.parked)
	built.Number, built.Took = x.engine.At().Number, time.Since(x.began)
	x.enter(PhaseDone)
	return built, x.b.schema.remove(ctx, x.b, retired)
}

// takeOver swaps, again and again while some reader's transaction holds the tables: those that come meanwhile must not wait long.
func (x *build) takeOver(ctx context.Context, alone turn) error {
	x.enter(PhaseSwap)
	for began, pause := time.Now(), swapPause; ; pause = min(2*pause, 5*time.Second) {
		err := alone(ctx, func(ctx context.Context, at Checkpoint) error {
			if err := x.catchUp(ctx, at.Number); err != nil {
				return err
			}
			return x.b.swap(ctx)
		})
		if !errors.Is(err, errHeld) {
			return err
		}
		if time.Since(began) > swapTime {
			return fmt.Errorf("swap tables for %s: %w: end it (SHOW PROCESSLIST tells who is connected), and try again: %w", swapTime, ErrHeld, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		if err := x.reachEnd(ctx); err != nil {
			return err
		}
	}
}

// forget removes what a build that failed has made. If it cannot, the next start or rebuild will.
func (x *build) forget() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := x.b.cleanUp(ctx); err != nil {
		x.log.Warn("what a rebuild left behind cannot be removed now; the next one will", "err", err)
	}
}

// tell reports progress until it is stopped, and once more then.
func tell(x *build, to func(Progress)) (stop func()) {
	if to == nil {
		return func() {}
	}
	over, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			to(x.progress())
			select {
			case <-tick.C:
			case <-over:
				to(x.progress())
				return
			}
		}
	}()
	return func() { close(over); <-told }
}

// handover asks the one who writes the live tables to stand aside.
type handover struct {
	do   func(context.Context, Checkpoint) error
	done chan error // of capacity 1
}

// handOver is the turn beside a projector that runs.
func (p *Projector) handOver(ctx context.Context, do func(context.Context, Checkpoint) error) error {
	h := handover{do, make(chan error, 1)}
	select {
	case p.handovers <- h:
	case <-ctx.Done():
		return fmt.Errorf("wait for the projector to stand aside: %w", ctx.Err())
	}
	return <-h.done
}

// standAside lets someone else work on the live tables, and goes on with what is there then.
func (a *applier) standAside(ctx context.Context, h handover) error {
	for a.flight != nil {
		if err := a.landed(ctx, <-a.done); err != nil {
			h.done <- err
			return err
		}
	}
	a.next = nil
	h.done <- h.do(ctx, a.e.At())
	e, err := a.p.open(ctx)
	if err != nil {
		return err
	}
	a.e = e
	a.todo, err = a.follows(a.todo)
	a.p.reached(e.At().Number)
	return err
}

// isStale says whether the tables are of another version than this program's.
func (p *Projector) isStale(ctx context.Context) (bool, error) {
	s, err := wanted()
	if err != nil {
		return false, err
	}
	now, err := schemaVersion(ctx, p.db)
	return now != s.version, err
}

// renew builds the read models anew before the projector begins. The old ones serve meanwhile; while they lack columns that this program
// reads, it cannot read those tables, and others can. at is how far the old ones are.
func (p *Projector) renew(ctx context.Context, r Reader, at Checkpoint, whatever bool) error {
	p.log.Info("the read models are built anew; the present ones serve until then")
	note := func(now *Progress) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.renewing = now
	}
	defer note(nil)
	o := RebuildOptions{Progress: func(now Progress) { note(&now) }}
	if !whatever {
		o.of = at
	}
	built, err := p.rebuild(ctx, r, o, func(ctx context.Context, do func(context.Context, Checkpoint) error) error {
		return do(ctx, Checkpoint{})
	})
	if err != nil {
		return fmt.Errorf("build the read models anew: %w", err)
	}
	p.mu.Lock()
	p.anew = false
	p.mu.Unlock()
	p.log.Info("the read models were built anew", "decisions", built.Decisions, "rows", built.Rows, "took", built.Took.Round(time.Millisecond))
	return nil
}

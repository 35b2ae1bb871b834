package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"cloudengine/events"
	"cloudengine/projections"
)

// build makes a generation of the read models beside the live one: it folds the log in memory, loads the rows, most of them once, and then
// follows the log until it can take over. Nothing of it is seen before the swap.
type build struct {
	b   *builder
	db  *sql.DB
	r   Reader
	log *slog.Logger

	rows    *eager
	parked  map[events.Ref]bool
	stops   []stop
	dropped []DroppedEvent
	isGone  map[partID]bool
	at      Checkpoint
	of      Checkpoint // a decision that the log has to have
	until   uint64     // the last decision to apply; 0: the log's last
	engine  *Engine    // of the next generation, once it is loaded

	began   time.Time
	goal    atomic.Uint64 // where the fold ends
	folded  atomic.Uint64
	toLoad  atomic.Uint64
	loaded  atomic.Uint64
	inPhase atomic.Int64
	since   atomic.Int64 // Unix ns: when the phase began
}

// stop is a parked event with the time of its decision.
type stop struct {
	projections.Parked
	time time.Time
}

func newBuild(b *builder, db *sql.DB, r Reader, log *slog.Logger, dropped []DroppedEvent) *build {
	x := &build{b: b, db: db, r: r, log: log, parked: map[events.Ref]bool{}, dropped: dropped, isGone: map[partID]bool{},
		began: time.Now()}
	for _, d := range dropped {
		x.isGone[partID{d.Number, d.Index}] = true
	}
	x.enter(PhaseFold)
	return x
}

var errEnough = errors.New("that is enough of the log")

// readTo gives the decisions from one number to another.
func readTo(ctx context.Context, r Reader, from, to uint64, each func([]events.Recorded) error) error {
	if from > to {
		return nil
	}
	err := r.Follow(ctx, from, func(d []events.Recorded) error {
		last := d[len(d)-1].Number
		if last > to {
			d = d[:uint64(len(d))-(last-to)]
		}
		if err := each(d); err != nil {
			return err
		}
		if last >= to {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// lastOf asks for the end of the log, again for some seconds if nobody answers: a leader may just be changing.
func lastOf(ctx context.Context, r Reader) (last uint64, err error) {
	for range 20 {
		if last, err = r.Last(ctx); err == nil || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
	if err != nil {
		err = fmt.Errorf("find the end of the log: %w", err)
	}
	return last, err
}

// fold makes the tables of the next generation, and reads the log up to a decision, while what was read before is folded and loaded.
func (x *build) fold(ctx context.Context, to uint64) error {
	x.goal.Store(to)
	if err := x.b.schema.create(ctx, x.b, next); err != nil {
		return err
	}
	x.rows = newEager(ctx, x.db, next, &x.loaded)
	return errors.Join(x.readAll(ctx, to), x.rows.end())
}

func (x *build) readAll(ctx context.Context, to uint64) error {
	blocks := make(chan []events.Recorded, 256)
	done := make(chan error, 1)
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		var err error
		for d := range blocks {
			for i := range d {
				if err == nil {
					err = x.add(&d[i])
				}
			}
			if err != nil {
				cancel()
			}
		}
		done <- err
	}()
	err := readTo(reading, x.r, 1, to, func(d []events.Recorded) error {
		select {
		case blocks <- d:
			return nil
		case <-reading.Done():
			return reading.Err()
		}
	})
	close(blocks)
	if failed := <-done; failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	return nil
}

// add folds one decision, as an Engine would.
func (x *build) add(r *events.Recorded) error {
	if r.Number != x.at.Number+1 {
		return fmt.Errorf("fold decision %d where %d is due: %w", r.Number, x.at.Number+1, ErrGap)
	}
	if err := x.rows.next(r.Number); err != nil {
		return err
	}
	for _, p := range projections.Parts(r) {
		if len(x.isGone) > 0 && x.isGone[partID{r.Number, p.Index}] {
			continue
		}
		why := projections.ErrParked
		if ref := p.Object(r); len(x.parked) == 0 || !x.parked[ref] {
			parked, err := projections.ApplyPart(x.rows, r, p)
			if err == nil {
				continue
			}
			if !parked {
				return err
			}
			why = err
			x.parked[ref] = true
		}
		x.stops = append(x.stops, stop{p.Park(r, why), r.Time})
	}
	x.at = Checkpoint{r.Number, r.Term, r.Intent}
	if r.Number == x.of.Number && x.at != x.of {
		return fmt.Errorf("decision %d is intent %s in the log and %s in the read models: %w; build them anew if the log is right (\"serve --rebuild\")",
			r.Number, r.Intent, x.of.Intent, ErrOtherLog)
	}
	x.folded.Store(r.Number)
	return nil
}

// load loads the rows that are not loaded yet.
func (x *build) load(ctx context.Context) error {
	x.toLoad.Store(x.rows.count())
	x.enter(PhaseLoad)
	all, again := x.rows.rest()
	if err := fill(ctx, x.db, all, &x.loaded); err != nil {
		return err
	}
	if err := run(ctx, x.b, again); err != nil {
		if isDataError(err) {
			err = fmt.Errorf("%w: %w", errMisfit, err)
		}
		return err
	}
	for _, s := range x.stops {
		if err := run(ctx, x.b, []statement{parking(next, s.Parked, s.time)}); err != nil {
			return err
		}
	}
	x.rows, x.stops = nil, nil // they are in the tables now
	return x.open(ctx, x.at)
}

// again makes the tables of the next generation anew, empty, to be filled event by event: what does not fit parks its object then.
func (x *build) again(ctx context.Context, why error) error {
	x.log.Warn("a row of the new read models does not fit its table: they are written event by event, which takes longer", "err", why)
	x.rows, x.stops = nil, nil
	if err := x.b.schema.remove(ctx, x.b, next); err != nil {
		return err
	}
	if err := x.b.schema.create(ctx, x.b, next); err != nil {
		return err
	}
	return x.open(ctx, Checkpoint{})
}

// open completes what was loaded and opens an engine on it.
func (x *build) open(ctx context.Context, at Checkpoint) error {
	for _, d := range x.dropped {
		if err := run(ctx, x.b, []statement{dropping(next, d)}); err != nil {
			return err
		}
	}
	err := startCheckpoint(ctx, x.b, next, at)
	if err == nil {
		err = x.b.schema.seal(ctx, x.b, next)
	}
	if err == nil {
		x.engine, err = openEngine(ctx, x.db, next)
	}
	x.enter(PhaseCatchUp)
	return err
}

// catchUp applies the log up to a decision to the next generation.
func (x *build) catchUp(ctx context.Context, to uint64) error {
	return readTo(ctx, x.r, x.engine.At().Number+1, to, func(d []events.Recorded) error {
		for len(d) > 0 {
			n := min(len(d), MaxBatch)
			if _, err := x.engine.Apply(ctx, d[:n]); err != nil {
				return err
			}
			x.folded.Store(x.engine.At().Number)
			d = d[n:]
		}
		return nil
	})
}

// reachEnd catches up until so little is left that a swap need not wait for it.
func (x *build) reachEnd(ctx context.Context) error {
	if x.until > 0 {
		return x.catchUp(ctx, x.until)
	}
	for {
		last, err := lastOf(ctx, x.r)
		if err != nil {
			return err
		}
		if last <= x.engine.At().Number+MaxBatch/10 {
			return nil
		}
		if err := x.catchUp(ctx, last); err != nil {
			return err
		}
	}
}

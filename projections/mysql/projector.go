package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"cloudengine/events"
)

var (
	// ErrAhead says that the checkpoint is beyond the log's end: the log was replaced by an older one.
	ErrAhead = errors.New("the read models are ahead of the log")
	// ErrOtherLog says that the read models were filled from another log.
	ErrOtherLog = errors.New("the read models were filled from another log")
)

// Reader is the log, as far as a projector reads it.
type Reader interface {
	// Last gives the number of the last decision, 0 if there is none.
	Last(ctx context.Context) (uint64, error)
	// Follow gives all decisions from a number on, in order and without gaps, and then those to come, until ctx ends or each fails.
	// It returns ctx's error, or each's, or its own.
	Follow(ctx context.Context, from uint64, each func([]events.Recorded) error) error
}

// Projector keeps the read models up with the log.
type Projector struct {
	db  *sql.DB
	log *slog.Logger

	mu      sync.Mutex
	applied uint64
	moved   chan struct{} // closed and replaced when applied rises
}

// NewProjector makes one. Run does the work.
func NewProjector(db *sql.DB, log *slog.Logger) *Projector {
	return &Projector{db: db, log: log, moved: make(chan struct{})}
}

// Applied gives the number of the last decision that the read models have.
func (p *Projector) Applied() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applied
}

// Wait returns when decision n is applied, or with ctx's error.
func (p *Projector) Wait(ctx context.Context, n uint64) error {
	for {
		p.mu.Lock()
		applied, moved := p.applied, p.moved
		p.mu.Unlock()
		if applied >= n {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *Projector) reached(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n > p.applied {
		p.applied = n
		close(p.moved)
		p.moved = make(chan struct{})
	}
}

// Run applies the log from the checkpoint on, until ctx ends. It outlives the database's restarts. It returns nil when ctx ended;
// ErrAhead, ErrOtherLog and ErrOtherOwner say that these read models are not ours to fill, or have to be rebuilt; any other error is
// the Reader's.
func (p *Projector) Run(ctx context.Context, r Reader) error {
	if err := p.check(ctx, r); err != nil {
		return ended(ctx, err)
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	blocks := make(chan []events.Recorded, 64)
	read := make(chan error, 1)
	from := max(p.Applied(), 1) // once more the one of the checkpoint, to see that this is the same log
	go func() {
		defer close(blocks)
		read <- r.Follow(inner, from, func(d []events.Recorded) error {
			select {
			case blocks <- d:
				return nil
			case <-inner.Done():
				return inner.Err()
			}
		})
	}()
	err := p.consume(ctx, blocks)
	cancel()
	readErr := <-read
	if err == nil {
		err = readErr
	}
	return ended(ctx, err)
}

// ended: that the context has ended is no error.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return nil
	}
	return err
}

func (p *Projector) check(ctx context.Context, r Reader) error {
	last, err := r.Last(ctx)
	if err != nil {
		return fmt.Errorf("find the end of the log: %w", err)
	}
	e, err := p.open(ctx)
	if err != nil {
		return err
	}
	at := e.At()
	if at.Number > last {
		return fmt.Errorf("read models are at decision %d and the log ends with %d: %w; rebuild them if the log is right", at.Number, last, ErrAhead)
	}
	p.reached(at.Number)
	return nil
}

// open opens an engine, however often it takes.
func (p *Projector) open(ctx context.Context) (*Engine, error) {
	pause := 20 * time.Millisecond
	for first := true; ; first = false {
		e, err := OpenEngine(ctx, p.db)
		if err == nil || ctx.Err() != nil {
			return e, err
		}
		if first {
			p.log.Warn("the database does not answer, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// consume applies what comes: all that waits, up to MaxBatch decisions, in one transaction. So a lone decision does not wait for
// others, and many share a commit.
func (p *Projector) consume(ctx context.Context, blocks <-chan []events.Recorded) error {
	e, err := p.open(ctx)
	if err != nil {
		return err
	}
	var batch []events.Recorded
	for block := range blocks {
		if batch, err = p.follows(e, append(batch[:0], block...)); err != nil {
			return err
		}
		batch = gather(batch, blocks)
		for len(batch) > 0 {
			n := min(len(batch), MaxBatch)
			if e, err = p.apply(ctx, e, batch[:n]); err != nil {
				return err
			}
			batch = batch[n:]
		}
	}
	return ctx.Err()
}

func gather(batch []events.Recorded, blocks <-chan []events.Recorded) []events.Recorded {
	for len(batch) < MaxBatch {
		select {
		case more, ok := <-blocks:
			if !ok {
				return batch
			}
			batch = append(batch, more...)
		default:
			return batch
		}
	}
	return batch
}

// follows drops what is applied already, after comparing the decision of the checkpoint.
func (p *Projector) follows(e *Engine, batch []events.Recorded) ([]events.Recorded, error) {
	at := e.At()
	for len(batch) > 0 && batch[0].Number <= at.Number {
		if batch[0].Number == at.Number && (batch[0].Intent != at.Intent || batch[0].Term != at.Term) {
			return nil, fmt.Errorf("decision %d is intent %s in the log and %s in the read models: %w; rebuild them if the log is right",
				at.Number, batch[0].Intent, at.Intent, ErrOtherLog)
		}
		batch = batch[1:]
	}
	return batch, nil
}

// apply applies one batch, however often the database has to be reached for it, and gives the engine to go on with.
func (p *Projector) apply(ctx context.Context, e *Engine, batch []events.Recorded) (*Engine, error) {
	last := batch[len(batch)-1]
	for failures := 0; ; failures++ {
		parked, err := e.Apply(ctx, batch)
		for _, x := range parked {
			if err == nil {
				p.log.Error("event cannot be applied, its object is parked", "number", x.Number, "object", x.Object.String(), "type", x.Type, "err", x.Err)
			}
		}
		switch {
		case err == nil:
			p.reached(last.Number)
			return e, nil
		case ctx.Err() != nil, errors.Is(err, ErrOtherOwner), errors.Is(err, ErrGap):
			return e, err
		case failures == 0:
			p.log.Warn("read models cannot be written, trying again", "decision", batch[0].Number, "err", err)
		}
		if e, batch, err = p.again(ctx, batch, min(failures, 6)); err != nil || len(batch) == 0 {
			p.reached(e.At().Number)
			return e, err
		}
	}
}

// again opens the engine anew after an error. The commit may have happened all the same, or a half of the batch before it.
func (p *Projector) again(ctx context.Context, batch []events.Recorded, failures int) (*Engine, []events.Recorded, error) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond << failures):
	}
	e, err := p.open(ctx)
	if err != nil {
		return &Engine{}, nil, err
	}
	first, last := batch[0].Number, batch[len(batch)-1].Number
	if at := e.At().Number; at+1 < first || at > last {
		return e, nil, fmt.Errorf("read models are at decision %d after writing %d to %d: %w", at, first, last, ErrOtherOwner)
	}
	batch, err = p.follows(e, batch)
	return e, batch, err
}

package mysql

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	driver "github.com/go-sql-driver/mysql"

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

	handovers chan handover

	mu       sync.Mutex
	anew     bool // build the read models anew when Run begins
	renewing *Progress
	applied  uint64
	moved    chan struct{} // closed and replaced when applied rises
}

// NewProjector makes one. Run does the work.
func NewProjector(db *sql.DB, log *slog.Logger) *Projector {
	return &Projector{db: db, log: log, handovers: make(chan handover), moved: make(chan struct{})}
}

// Anew has the next Run build the read models anew, whatever they say and of whatever log they are.
func (p *Projector) Anew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.anew = true
}

// Renewing says how far Run is with building the read models anew before it follows the log; ok is false if it is not at that.
func (p *Projector) Renewing() (at Progress, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.renewing == nil {
		return Progress{}, false
	}
	return *p.renewing, true
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
	err := p.apply(ctx, blocks)
	cancel()
	readErr := <-read
	if err == nil {
		err = readErr
	}
	return ended(ctx, err)
}

// ended: that the context has ended is no error. The statement that it meets closes the connection, and a later one on it says no more than that.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil || err == nil {
		return err
	}
	if slices.ContainsFunc([]error{context.Canceled, context.DeadlineExceeded, sqldriver.ErrBadConn, driver.ErrInvalidConn}, func(e error) bool { return errors.Is(err, e) }) {
		return nil
	}
	return err
}

// check looks whether these read models are of this log, and builds them anew if they have to be.
func (p *Projector) check(ctx context.Context, r Reader) error {
	last, err := lastOf(ctx, r)
	if err != nil {
		return err
	}
	p.mu.Lock()
	anew := p.anew
	p.mu.Unlock()
	var at Checkpoint
	var stale bool
	err = p.insist(ctx, func() (err error) {
		if stale, err = p.isStale(ctx); err != nil {
			return err
		}
		if there, err := hasTable(ctx, p.db, checkpointTable); err != nil || !there {
			return err
		}
		at, err = ReadCheckpoint(ctx, p.db)
		return err
	})
	if err != nil {
		return err
	}
	if !anew && at.Number > last {
		return fmt.Errorf("read models are at decision %d and the log ends with %d: %w; build them anew if the log is right (\"serve --rebuild\")", at.Number, last, ErrAhead)
	}
	if anew || stale || at.Number == 0 && last >= manyDecisions {
		if !anew {
			p.reached(at.Number) // so far the old ones can be read
		}
		if err := p.renew(ctx, r, at, anew); err != nil {
			return err
		}
	}
	e, err := p.open(ctx)
	if err != nil {
		return err
	}
	p.reached(e.At().Number)
	return nil
}

// manyDecisions are applied to empty tables faster by a rebuild.
const manyDecisions = 50_000

// open opens an engine, however often it takes.
func (p *Projector) open(ctx context.Context) (e *Engine, err error) {
	err = p.insist(ctx, func() error {
		e, err = OpenEngine(ctx, p.db)
		return err
	})
	return e, err
}

// insist asks the database until it answers.
func (p *Projector) insist(ctx context.Context, ask func() error) error {
	pause := 20 * time.Millisecond
	for first := true; ; first = false {
		err := ask()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if first {
			p.log.Warn("the database does not answer, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, 2*time.Second)
	}
}

package moment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"cloudengine/events"
)

// Limits of what a Keeper keeps in memory, and how long its work may take.
const (
	every      = 5000     // decisions between snapshots
	pageMemory = 64 << 20 // bytes of pages
	maxMoments = 4        // folds
	maxFolds   = 2        // in the making
	foldTime   = time.Minute
)

// Options say how a Keeper works. Only Dir and Log must be given.
type Options struct {
	Dir     string // of the snapshot files; nobody else's
	Log     Log
	Logger  *slog.Logger     // nil: nothing is logged
	Every   uint64           // decisions between snapshots; 0 = 5000
	Version string           // of the program: snapshots of another are made again
	Now     func() time.Time // nil: the clock
	Full    func() bool      // whether the disk is so full that no more snapshots are made; nil: never
}

// Keeper makes snapshots and finds moments. It may be used by several goroutines.
type Keeper struct {
	opts   Options
	schema string
	pages  *pages
	making sync.Mutex // held while a snapshot is made

	slots chan struct{} // taken while folding
	folds sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	snaps   []*snapshot // by number
	moments []*folding  // the last used first
	running map[*folding]context.CancelFunc
	moved   chan struct{} // closed and replaced when a snapshot was made
}

// folding is a moment in the making, or made.
type folding struct {
	number uint64
	done   chan struct{}
	moment *Moment
	err    error
}

// Open finds the snapshots that are there. What is damaged, or of another version, is told and removed. Close must be called.
func Open(o Options) (*Keeper, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Every == 0 {
		o.Every = every
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	schema, err := schemaOf(o.Version)
	if err != nil {
		return nil, err
	}
	k := &Keeper{opts: o, schema: schema, pages: newPages(pageMemory), moved: make(chan struct{}),
		slots: make(chan struct{}, maxFolds), running: map[*folding]context.CancelFunc{}}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of the snapshots: %w", err)
	}
	return k, k.find()
}

// find opens the files. One that cannot be used takes those after it with it, for they go on from its pages.
func (k *Keeper) find() error {
	files, err := os.ReadDir(k.opts.Dir)
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	var names []string
	for _, f := range files {
		if isOurs(f.Name()) {
			names = append(names, f.Name())
		}
	}
	sort.Strings(names)
	bad := false
	for _, name := range names {
		path := filepath.Join(k.opts.Dir, name)
		s, err := openSnapshot(path, k.schema)
		if err == nil && !bad {
			k.pages.add(s.Block.Number, path)
			k.snaps = append(k.snaps, s)
			continue
		}
		switch {
		case err == nil:
			err = errors.New("a snapshot that it goes on from is not usable")
		case !errors.Is(err, errOther):
			bad = true
		}
		k.opts.Logger.Warn("a snapshot is not used, and removed; it is made again from the log", "file", path, "reason", err)
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove snapshot: %w", err)
		}
	}
	return nil
}

// errOther says that a file was written by another version.
var errOther = errors.New("it is of another version of the program")

func openSnapshot(path, schema string) (*snapshot, error) {
	if name := filepath.Base(path); len(name) < len(schema) || name[:len(schema)] != schema {
		return nil, errOther
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	a, err := readAnchor(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if a.Schema != schema || filepath.Base(path) != fileName(schema, a.Block.Number) {
		return nil, errors.New("it is not the snapshot that its name says")
	}
	return &snapshot{anchor: a, path: path}, nil
}

// Close ends what is under way and forgets the files. Moments that are still used give errors then.
func (k *Keeper) Close() error {
	k.mu.Lock()
	k.closed = true
	for _, cancel := range k.running {
		cancel()
	}
	k.mu.Unlock()
	k.folds.Wait()
	k.making.Lock()
	defer k.making.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.snaps {
		k.pages.drop(s.Block.Number)
	}
	k.snaps, k.moments = nil, nil
	return nil
}

// Reached gives the number of the last decision that is in a snapshot, 0 if there is none.
func (k *Keeper) Reached() uint64 {
	if s := k.nearest(^uint64(0)); s != nil {
		return s.Block.Number
	}
	return 0
}

// nearest gives the last snapshot up to a decision, or nil.
func (k *Keeper) nearest(number uint64) *snapshot {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := sort.Search(len(k.snaps), func(i int) bool { return k.snaps[i].Block.Number > number })
	if n == 0 {
		return nil
	}
	return k.snaps[n-1]
}

// Run keeps making snapshots as the log grows, and looks for that every so often, until ctx ends. It returns nil then. What fails is
// logged and tried again.
func (k *Keeper) Run(ctx context.Context, pause time.Duration) error {
	for ctx.Err() == nil {
		made, err := k.Make(ctx)
		if err != nil && ctx.Err() == nil {
			k.opts.Logger.Warn("a snapshot could not be made, trying again", "error", err)
		}
		if made && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// Make makes the next snapshot, if there are enough decisions for it.
func (k *Keeper) Make(ctx context.Context) (made bool, err error) {
	k.making.Lock()
	defer k.making.Unlock()
	base, err := k.usable(ctx, ^uint64(0))
	if err != nil {
		return false, err
	}
	end, err := k.end(ctx)
	if err != nil {
		return false, err
	}
	l := newLayer(k.pages, base)
	if end.Number < l.number+k.opts.Every || k.opts.Full != nil && k.opts.Full() {
		return false, nil
	}
	_, err = k.opts.Log.Load(ctx, l.at, func(at events.Position, b *events.Block) error {
		if err := l.apply(at, b, ^uint64(0)); err != nil {
			return err
		}
		if l.number >= base.number()+k.opts.Every {
			return errEnough
		}
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errEnough) {
		return false, k.hurt(fmt.Errorf("fold for a snapshot: %w", err))
	}
	s, err := writeSnapshot(k.opts.Dir, k.pages, l.number, k.schema, l.write(k.schema))
	if err != nil {
		return false, k.hurt(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.snaps = append(k.snaps, s)
	close(k.moved)
	k.moved = make(chan struct{})
	return true, nil
}

func (s *snapshot) number() uint64 {
	if s == nil {
		return 0
	}
	return s.Block.Number
}

// usable gives the last snapshot up to a decision, after its block was found in the log. Those of another log are removed.
func (k *Keeper) usable(ctx context.Context, number uint64) (*snapshot, error) {
	for {
		s := k.nearest(number)
		if s == nil || k.isAnchored(s) {
			return s, nil
		}
		at, err := k.opts.Log.At(ctx, s.Block.Seq)
		switch {
		case err == nil && same(at, s.Block.position()):
			k.mu.Lock()
			s.anchored = true
			k.mu.Unlock()
			return s, nil
		case err == nil || errors.Is(err, events.ErrBroken):
			if err := k.forget(s.Block.Number, fmt.Errorf("its block %d is not in this log (%w)", s.Block.Seq, errOtherLog)); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("compare snapshot with the log: %w", err)
		}
	}
}

func same(a, b events.Position) bool {
	return a.Seq == b.Seq && a.Number == b.Number && a.Term == b.Term && a.Digest == b.Digest && a.Time.Equal(b.Time)
}

func (k *Keeper) isAnchored(s *snapshot) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return s.anchored
}

var errOtherLog = errors.New("it was made from another log")

// forget removes a snapshot and all after it, which go on from its pages, and the moments that were folded.
func (k *Keeper) forget(from uint64, why error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := sort.Search(len(k.snaps), func(i int) bool { return k.snaps[i].Block.Number >= from })
	var errs []error
	for _, s := range k.snaps[n:] {
		k.opts.Logger.Warn("a snapshot is not used any more, and removed; it is made again from the log", "file", s.path, "reason", why)
		k.pages.drop(s.Block.Number)
		errs = append(errs, os.Remove(s.path))
	}
	k.snaps, k.moments = k.snaps[:n], nil
	return errors.Join(errs...)
}

// hurt looks whether an error is damage of a snapshot, which then is forgotten; it gives the error.
func (k *Keeper) hurt(err error) error {
	var d *damaged
	if !errors.As(err, &d) {
		return err
	}
	return errors.Join(fmt.Errorf("%w (%w)", ErrNotYet, err), k.forget(d.file, d))
}

// end gives the position of the log's end.
func (k *Keeper) end(ctx context.Context) (events.Position, error) {
	seq, err := k.opts.Log.Last(ctx)
	if err != nil {
		return events.Position{}, err
	}
	return k.opts.Log.At(ctx, seq)
}

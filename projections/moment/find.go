package moment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"time"

	"cloudengine/events"
	"cloudengine/schemas"
)

// rowsVersion rises when the same events give other rows with the same columns, or a file is written in another way.
const rowsVersion = 3

// schemaOf tells versions apart: by the tables, the events that are known, and the program.
func schemaOf(program string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, rowsVersion, events.Names(), program)
	names, err := fs.Glob(schemas.MySQL, "mysql/*.sql")
	if err != nil || len(names) == 0 {
		return "", fmt.Errorf("list the tables' statements: %w", errors.Join(err, fs.ErrNotExist))
	}
	for _, name := range names {
		b, err := fs.ReadFile(schemas.MySQL, name)
		if err != nil {
			return "", fmt.Errorf("read statement %s: %w", name, err)
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func noMoment(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrNoMoment, fmt.Sprintf(format, a...))
}

// At gives the moment that a text names: the number of a decision, a time in RFC 3339 (the last decision whose block is not later), or
// "now". Errors are ErrNoMoment, ErrNotYet, ctx's, and those of the log.
func (k *Keeper) At(ctx context.Context, text string) (*Moment, error) {
	number, err := k.Resolve(ctx, text)
	if err != nil {
		return nil, err
	}
	return k.Moment(ctx, number)
}

// Resolve gives the number of the decision that a text names.
func (k *Keeper) Resolve(ctx context.Context, text string) (uint64, error) {
	end, err := k.end(ctx)
	if err != nil {
		return 0, fmt.Errorf("find the end of the log: %w", err)
	}
	if end.Number == 0 {
		return 0, noMoment("the log is empty")
	}
	if text == "now" {
		return end.Number, nil
	}
	if number, err := strconv.ParseUint(text, 10, 64); err == nil {
		switch {
		case number == 0:
			return 0, noMoment("decision 0 is before the log, which begins with decision 1")
		case number > end.Number:
			return 0, noMoment("decision %d is in the future: the log ends with decision %d", number, end.Number)
		}
		return number, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0, noMoment("%.60q is neither the number of a decision, nor a time like 2026-11-22T15:04:05Z, nor \"now\"", text)
	}
	if t.After(end.Time) {
		if now := k.opts.Now(); t.After(now) {
			return 0, noMoment("%s is in the future: it is %s", t.Format(time.RFC3339Nano), now.UTC().Format(time.RFC3339))
		}
		return end.Number, nil
	}
	return k.before(ctx, t, end)
}

// before finds the last block whose time is not after t, by halving; blocks are in the order of their times.
func (k *Keeper) before(ctx context.Context, t time.Time, end events.Position) (uint64, error) {
	if !end.Time.After(t) {
		return end.Number, nil
	}
	var best events.Position
	for high := end.Seq; high-best.Seq > 1; {
		at, err := k.opts.Log.At(ctx, best.Seq+(high-best.Seq)/2)
		if err != nil {
			return 0, fmt.Errorf("find %s in the log: %w", t.Format(time.RFC3339Nano), err)
		}
		if at.Time.After(t) {
			high = at.Seq
		} else {
			best = at
		}
	}
	if best.Number == 0 {
		first, err := k.opts.Log.At(ctx, 1)
		if err != nil {
			return 0, fmt.Errorf("find the beginning of the log: %w", err)
		}
		return 0, noMoment("%s is before the log, which begins at %s", t.Format(time.RFC3339Nano), first.Time.UTC().Format(time.RFC3339Nano))
	}
	return best.Number, nil
}

// Before gives the position after which the block with a decision comes: the log's blocks from there on have all that is wanted of it.
func (k *Keeper) Before(ctx context.Context, number uint64) (events.Position, error) {
	if number <= 1 {
		return events.Position{}, nil
	}
	s, err := k.usable(ctx, number-1)
	if err != nil {
		return events.Position{}, err
	}
	var low events.Position // ends before number
	if s != nil {
		low = s.Block.position()
	}
	high, err := k.opts.Log.Last(ctx)
	if err != nil {
		return events.Position{}, fmt.Errorf("find the end of the log: %w", err)
	}
	for high++; high-low.Seq > 1; {
		at, err := k.opts.Log.At(ctx, low.Seq+(high-low.Seq)/2)
		if err != nil {
			return events.Position{}, fmt.Errorf("find decision %d: %w", number, err)
		}
		if at.Number < number {
			low = at
		} else {
			high = at.Seq
		}
	}
	return low, nil
}

// Moment gives the read models after a decision, which must be in the log. Who asks for the same moment as another waits for the same
// fold, which goes on when he leaves.
func (k *Keeper) Moment(ctx context.Context, number uint64) (*Moment, error) {
	f, err := k.folding(ctx, number)
	if err != nil {
		return nil, err
	}
	select {
	case <-f.done:
		return f.moment, f.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNotYet, ctx.Err())
	}
}

var errClosed = errors.New("the keeper of moments is closed")

// folding gives the moment in the making, and begins to make it if nobody has.
func (k *Keeper) folding(ctx context.Context, number uint64) (*folding, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, errClosed
	}
	for i, f := range k.moments {
		if f.number == number {
			copy(k.moments[1:i+1], k.moments[:i])
			k.moments[0] = f
			return f, nil
		}
	}
	f := &folding{number: number, done: make(chan struct{})}
	k.moments = append([]*folding{f}, k.moments...)
	k.moments = k.moments[:min(len(k.moments), maxMoments)]
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), foldTime)
	k.running[f] = cancel
	k.folds.Go(func() {
		defer close(f.done)
		defer cancel()
		f.moment, f.err = k.fold(ctx, number)
		k.folded(f)
	})
	return f, nil
}

// folded takes a moment from those in the making, and if it could not be made from those that are kept.
func (k *Keeper) folded(f *folding) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.running, f)
	if f.err != nil {
		k.moments = slices.DeleteFunc(k.moments, func(x *folding) bool { return x == f })
	}
}

// fold makes a moment. While the snapshots are far behind, it waits for them.
func (k *Keeper) fold(ctx context.Context, number uint64) (*Moment, error) {
	base, err := k.near(ctx, number)
	if err != nil {
		return nil, err
	}
	select {
	case k.slots <- struct{}{}:
		defer func() { <-k.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNotYet, ctx.Err())
	}
	l := newLayer(k.pages, base)
	if l.number < number {
		_, err = k.opts.Log.Load(ctx, l.at, func(at events.Position, b *events.Block) error {
			if err := l.apply(at, b, number); err != nil {
				return err
			}
			if l.number == number {
				return errEnough
			}
			return ctx.Err()
		})
		if err != nil && !errors.Is(err, errEnough) {
			return nil, k.hurt(fmt.Errorf("fold the log up to decision %d: %w", number, err))
		}
	}
	if l.number != number {
		return nil, noMoment("decision %d is in the future: the log ends with decision %d", number, l.number)
	}
	l.tried = nil
	return &Moment{l: l, time: l.at.Time, marks: k.marks(base), fail: func(err error) error {
		if err == nil {
			return nil
		}
		return k.hurt(err)
	}}, nil
}

// marks gives the indices of decisions of a snapshot and all before it.
func (k *Keeper) marks(last *snapshot) []ref {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []ref
	for _, s := range k.snaps {
		if s.Block.Number <= last.number() {
			out = append(out, s.Roots[objectTree])
		}
	}
	return out
}

// near gives a snapshot that is not far before a decision; nil: the log's beginning is not far.
func (k *Keeper) near(ctx context.Context, number uint64) (*snapshot, error) {
	for {
		k.mu.Lock()
		moved := k.moved
		k.mu.Unlock()
		s, err := k.usable(ctx, number)
		if err != nil || number-s.number() <= 3*k.opts.Every {
			return s, err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: they have reached decision %d of %d", ErrNotYet, k.Reached(), number)
		}
	}
}

package feed

import (
	"context"
	"errors"
	"fmt"

	"cloudengine/events"
	"cloudengine/events/journal"
)

// fromJournal reads decisions by number out of the journal, which is ordered by blocks.
type fromJournal struct {
	j  *journal.Journal
	at events.Position // where the last Read ended
}

// FromJournal gives the log to one Deriver. Not safe for concurrent use.
func FromJournal(j *journal.Journal) Log { return &fromJournal{j: j} }

var errEnough = errors.New("enough was read")

// Read gives whole blocks: it may give more than limit, and ends at the log's present end.
func (l *fromJournal) Read(ctx context.Context, from uint64, limit int) ([]events.Recorded, error) {
	at := l.at
	if at.Number+1 != from {
		var err error
		if at, err = l.before(ctx, from); err != nil {
			return nil, err
		}
	}
	var out []events.Recorded
	_, err := l.j.Load(ctx, at, func(p events.Position, b *events.Block) error {
		if len(out) >= limit {
			return errEnough
		}
		for _, r := range b.Recorded() {
			if r.Number >= from {
				out = append(out, r)
			}
		}
		at = p
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	l.at = at
	return out, nil
}

// End asks the leader.
func (l *fromJournal) End(ctx context.Context) (number, term uint64, err error) {
	seq, err := l.j.Last(ctx)
	if err != nil {
		return 0, 0, err
	}
	at, err := l.j.At(ctx, seq)
	return at.Number, at.Term, err
}

// before finds the position after the last block that ends before a decision, by halving.
func (l *fromJournal) before(ctx context.Context, number uint64) (events.Position, error) {
	if number <= 1 {
		return events.Position{}, nil
	}
	high, err := l.j.Last(ctx)
	if err != nil {
		return events.Position{}, err
	}
	var low events.Position // ends before number
	for high++; high-low.Seq > 1; {
		mid, err := l.j.At(ctx, low.Seq+(high-low.Seq)/2)
		if err != nil {
			return events.Position{}, fmt.Errorf("find decision %d: %w", number, err)
		}
		if mid.Number < number {
			low = mid
		} else {
			high = mid.Seq
		}
	}
	return low, nil
}

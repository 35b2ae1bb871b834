package events

import (
	"errors"
	"fmt"
	"time"
)

// ErrBroken says that what is stored is not the log that it should be: a gap, a broken chain, a falling term, a lost tail.
// Who meets it stops; nothing that comes after can be trusted.
var ErrBroken = errors.New("the log is broken")

// Position is a place in the log: just after one block. The zero Position is before the first block.
type Position struct {
	Seq    uint64    // sequence of the block in EVENTS
	Number uint64    // of the block's last decision
	Term   uint64    // of the block
	Digest string    // of the block's payload: what the next block names in Prev
	Time   time.Time // of the block
}

// Next verifies that a block is the one that follows p, and gives the position after it. digest is that of the block's payload.
// Errors are ErrBroken.
func (p Position) Next(seq uint64, b *Block, digest string) (Position, error) {
	broken := func(format string, args ...any) (Position, error) {
		return p, fmt.Errorf("block at sequence %d: %s: %w", seq, fmt.Sprintf(format, args...), ErrBroken)
	}
	switch {
	case seq != p.Seq+1:
		return broken("the one before has sequence %d", p.Seq)
	case b.First != p.Number+1:
		return broken("begins with decision %d after decision %d", b.First, p.Number)
	case b.Term < p.Term:
		return broken("term %d after term %d", b.Term, p.Term)
	case b.Prev != p.Digest:
		return broken("names %.12q as the block before, which is %.12q", b.Prev, p.Digest)
	case b.Time.Before(p.Time):
		return broken("time %s after %s", b.Time.Format(time.RFC3339Nano), p.Time.Format(time.RFC3339Nano))
	}
	return Position{seq, b.Last(), b.Term, digest, b.Time}, nil
}

package projectionstest

import (
	"context"
	"fmt"
	"sync"

	"cloudengine/events"
)

// Chain is a log in memory, of blocks as the journal has them. It may be used by several goroutines.
type Chain struct {
	mu     sync.Mutex
	blocks []*events.Block
	ends   []events.Position
}

// NewChain puts decisions into blocks; size says how many come into the next one. All decisions of a block have the time of its last.
func NewChain(all []events.Recorded, size func() int) *Chain {
	c := &Chain{}
	for len(all) > 0 {
		n := min(max(1, size()), len(all))
		c.Append(all[:n]...)
		all = all[n:]
	}
	return c
}

// Append adds a block of at least one decision.
func (c *Chain) Append(all ...events.Recorded) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var end events.Position
	if n := len(c.ends); n > 0 {
		end = c.ends[n-1]
	}
	last := all[len(all)-1]
	b := &events.Block{Format: events.Format, Term: last.Term, First: end.Number + 1, Time: last.Time, Prev: end.Digest}
	if b.Time.Before(end.Time) {
		b.Time = end.Time
	}
	for _, r := range all {
		b.Decisions = append(b.Decisions, r.Decision)
	}
	payload, err := b.Encode()
	if err != nil {
		panic(err) // our own types
	}
	next, err := end.Next(end.Seq+1, b, events.Digest(payload))
	if err != nil {
		panic(err)
	}
	c.blocks, c.ends = append(c.blocks, b), append(c.ends, next)
}

// Recorded gives all decisions, with the times of their blocks.
func (c *Chain) Recorded() []events.Recorded {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []events.Recorded
	for _, b := range c.blocks {
		out = append(out, b.Recorded()...)
	}
	return out
}

// Blocks gives the positions after all blocks.
func (c *Chain) Blocks() []events.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]events.Position{}, c.ends...)
}

// Last gives the sequence of the last block.
func (c *Chain) Last(context.Context) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint64(len(c.ends)), nil
}

// At gives the position after a block.
func (c *Chain) At(_ context.Context, seq uint64) (events.Position, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case seq == 0:
		return events.Position{}, nil
	case seq > uint64(len(c.ends)):
		return events.Position{}, fmt.Errorf("read block at sequence %d: it is not there: %w", seq, events.ErrBroken)
	}
	return c.ends[seq-1], nil
}

// Load gives the blocks after a position, as the journal does.
func (c *Chain) Load(ctx context.Context, from events.Position, f func(events.Position, *events.Block) error) (events.Position, error) {
	c.mu.Lock()
	blocks, ends := c.blocks, c.ends
	c.mu.Unlock()
	if from.Seq > uint64(len(ends)) {
		return from, fmt.Errorf("read log after sequence %d: it ends at %d: %w", from.Seq, len(ends), events.ErrBroken)
	}
	for i := from.Seq; i < uint64(len(ends)); i++ {
		if _, err := from.Next(i+1, blocks[i], ends[i].Digest); err != nil {
			return from, err
		}
		if err := f(ends[i], blocks[i]); err != nil {
			return from, err
		}
		from = ends[i]
	}
	return from, ctx.Err()
}

// Payload gives the bytes of a block.
func (c *Chain) Payload(_ context.Context, seq uint64) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if seq == 0 || seq > uint64(len(c.blocks)) {
		return nil, fmt.Errorf("read block at sequence %d: it is not there: %w", seq, events.ErrBroken)
	}
	return c.blocks[seq-1].Encode()
}

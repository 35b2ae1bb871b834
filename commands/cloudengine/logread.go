package main

import (
	"context"
	"fmt"

	"cloudengine/events"
	"cloudengine/events/journal"

	"github.com/nats-io/nats.go/jetstream"
)

// byNumber reads the log by the numbers of decisions, for those who count them and not blocks. It is safe for concurrent use.
type byNumber struct {
	js      jetstream.JetStream
	journal *journal.Journal
}

// Last gives the number of the last decision, 0 if there is none.
func (l byNumber) Last(ctx context.Context) (uint64, error) {
	seq, err := l.journal.Last(ctx)
	if err != nil {
		return 0, err
	}
	p, err := l.journal.At(ctx, seq)
	return p.Number, err
}

// before gives the position before the block that holds a decision, or the end of the log if it is not there yet. It looks at one
// block for each halving of the log.
func (l byNumber) before(ctx context.Context, number uint64) (events.Position, error) {
	last, err := l.journal.Last(ctx)
	if err != nil {
		return events.Position{}, err
	}
	low, high := uint64(0), last // the last block whose decisions all come before number is in here
	var at events.Position
	for low < high {
		mid := low + (high-low+1)/2
		p, err := l.journal.At(ctx, mid)
		if err != nil {
			return events.Position{}, fmt.Errorf("find decision %d: %w", number, err)
		}
		if p.Number < number {
			low, at = mid, p
		} else {
			high = mid - 1
		}
	}
	return at, nil
}

// Follow gives all decisions from a number on, in order and without gaps, and then those to come, until ctx ends or each fails. It
// returns ctx's error, or each's, or that of the log.
func (l byNumber) Follow(ctx context.Context, from uint64, each func([]events.Recorded) error) error {
	at, err := l.before(ctx, from)
	if err != nil {
		return err
	}
	return journal.Read(ctx, l.js, at, func(_ uint64, b *events.Block, _ []byte) error {
		list := b.Recorded()
		for len(list) > 0 && list[0].Number < from {
			list = list[1:]
		}
		if len(list) == 0 {
			return nil
		}
		return each(list)
	})
}

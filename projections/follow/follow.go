// Package follow reads the log by decision numbers, for those who keep a checkpoint of them.
//
// It finds the block that holds a decision and follows the log from there. It promises order and no gaps, because the journal does. It
// keeps no state and writes nothing.
package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/journal"
)

// Log is the log of one control plane. It may be used by several goroutines.
type Log struct{ js jetstream.JetStream }

// New reads the log over a connection of the control plane, which it does not close.
func New(js jetstream.JetStream) *Log { return &Log{js} }

// Last gives the number of the last decision that is stored, 0 if there is none. It asks the leader.
func (l *Log) Last(ctx context.Context) (uint64, error) {
	j, err := journal.Open(ctx, l.js)
	if err != nil {
		return 0, err
	}
	seq, err := j.Last(ctx)
	if err != nil {
		return 0, err
	}
	at, err := j.At(ctx, seq)
	return at.Number, err
}

// Follow gives all decisions from a number (at least 1) on, in order, and then those to come, until ctx ends or each fails. It outlives a
// server that does not answer for a while. It returns ctx's error, each's, or events.ErrBroken.
func (l *Log) Follow(ctx context.Context, from uint64, each func([]events.Recorded) error) error {
	var failed error
	pause := 50 * time.Millisecond
	for {
		err := l.read(ctx, from, func(d []events.Recorded) error {
			if failed = each(d); failed == nil {
				from, pause = d[len(d)-1].Number+1, 50*time.Millisecond
			}
			return failed
		})
		if failed != nil || ctx.Err() != nil || errors.Is(err, events.ErrBroken) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, 2*time.Second)
	}
}

func (l *Log) read(ctx context.Context, from uint64, each func([]events.Recorded) error) error {
	j, err := journal.Open(ctx, l.js)
	if err != nil {
		return err
	}
	at, err := before(ctx, j, from)
	if err != nil {
		return err
	}
	return journal.Read(ctx, l.js, at, func(_ uint64, b *events.Block, _ []byte) error {
		d := b.Recorded()
		for len(d) > 0 && d[0].Number < from {
			d = d[1:]
		}
		if len(d) == 0 {
			return nil
		}
		return each(d)
	})
}

// before gives the position after which the block with decision n comes: the last block that ends before n. Blocks are asked for one
// by one, about twenty in a log of a million.
func before(ctx context.Context, j *journal.Journal, n uint64) (events.Position, error) {
	last, err := j.Last(ctx)
	if err != nil || n <= 1 {
		return events.Position{}, err
	}
	low, best := uint64(0), events.Position{} // block low ends before n, block high+1 does not, or is not there
	for high := last; low < high; {
		middle := low + (high-low+1)/2
		at, err := j.At(ctx, middle)
		if err != nil {
			return events.Position{}, fmt.Errorf("find decision %d: %w", n, err)
		}
		if at.Number < n {
			low, best = middle, at
		} else {
			high = middle - 1
		}
	}
	return best, nil
}

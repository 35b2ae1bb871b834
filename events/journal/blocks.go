package journal

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

// Payload gives the bytes of the block with a sequence, as they are stored. A block that is not there is events.ErrBroken.
func (j *Journal) Payload(ctx context.Context, seq uint64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	m, err := j.stream.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("read block at sequence %d: it is not there: %w", seq, events.ErrBroken)
	}
	if err != nil {
		return nil, fmt.Errorf("read block at sequence %d: %w", seq, err)
	}
	return m.Data, nil
}

// idleTime is for how long nothing may come of a log that is not at its end.
const idleTime = 30 * time.Second

// Blocks gives f the bytes of each block after a sequence, up to the present end of the log, in order. It verifies nothing: what is not
// there is left out. Its error is f's, that of ctx, or that of reading.
func (j *Journal) Blocks(ctx context.Context, after uint64, f func(seq uint64, payload []byte) error) error {
	last, err := j.Last(ctx)
	if err != nil || last <= after {
		return err
	}
	if last-after <= fewBlocks {
		return j.few(ctx, after, last, f)
	}
	return j.many(ctx, after, last, f)
}

func (j *Journal) few(ctx context.Context, after, last uint64, f func(uint64, []byte) error) error {
	for seq := after + 1; seq <= last; seq++ {
		payload, err := j.Payload(ctx, seq)
		if errors.Is(err, events.ErrBroken) {
			continue
		}
		if err == nil {
			err = f(seq, payload)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) many(ctx context.Context, after, last uint64, f func(uint64, []byte) error) error {
	c, err := j.js.OrderedConsumer(ctx, events.StreamEvents, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
	})
	if err != nil {
		return fmt.Errorf("read log after sequence %d: %w", after, err)
	}
	var came atomic.Uint64
	done, ended := make(chan error, 1), false
	consume, err := c.Consume(func(m jetstream.Msg) {
		if ended {
			return
		}
		meta, err := m.Metadata()
		if err == nil && meta.Sequence.Stream <= last {
			err = f(meta.Sequence.Stream, m.Data())
			came.Add(1)
		}
		if err != nil || meta.Sequence.Stream >= last || meta.NumPending == 0 {
			ended = true
			done <- err
		}
	}, jetstream.PullMaxBytes(readAheadBytes), jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(10*time.Second))
	if err != nil {
		return fmt.Errorf("read log after sequence %d: %w", after, err)
	}
	err = wait(ctx, done, &came)
	consume.Stop()
	<-consume.Closed() // f is not called any more
	return err
}

func wait(ctx context.Context, done <-chan error, came *atomic.Uint64) error {
	tick := time.NewTicker(idleTime)
	defer tick.Stop()
	for before := uint64(0); ; {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			n := came.Load()
			if n == before {
				return fmt.Errorf("read log: nothing came for %s after %d blocks", idleTime, n)
			}
			before = n
		}
	}
}

// Package journal appends blocks to the log and reads them back: the EVENTS stream as one linear chain.
//
// It promises that a block is appended exactly behind the one that its writer names or not at all, that a time-out is resolved by
// looking, never by guessing, and that what a reader gets is contiguous: sequences, decision numbers, terms, times and digests are
// verified, and a reader that finds a gap stops with events.ErrBroken. It keeps no position for its callers, folds nothing and
// decides nothing.
package journal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

// ErrUncertain says that a block was sent and that nobody could be asked in time whether it was stored. It may still be.
var ErrUncertain = errors.New("not known whether the block was stored")

const (
	appendTry  = 2 * time.Second // for one publish; then the tail is read
	appendTime = 20 * time.Second
	askTime    = 2 * time.Second
	endTime    = 700 * time.Millisecond // a stream without a leader does not answer at all, and is asked again
)

// Journal appends to and reads the log. It is safe for concurrent use, but only one Append at a time can succeed.
type Journal struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// Open finds the log.
func Open(ctx context.Context, js jetstream.JetStream) (*Journal, error) {
	s, err := js.Stream(ctx, events.StreamEvents)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &Journal{js, s}, nil
}

// Append stores payload as the block after the one with sequence after, and gives its sequence. The caller must not send the next
// before this one returned. Errors: events.ErrConflict when another block is there; ErrUncertain when no answer could be had;
// others when the block was certainly not stored.
func (j *Journal) Append(ctx context.Context, after uint64, payload []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTime)
	defer cancel()
	msg := &nats.Msg{Subject: events.SubjectEvents, Data: payload, Header: nats.Header{
		jetstream.ExpectedLastSeqHeader: []string{strconv.FormatUint(after, 10)},
		jetstream.ExpectedStreamHeader:  []string{events.StreamEvents},
	}}
	sent := false // a publish may have reached the stream and its answer not us
	for {
		seq, err := j.publish(ctx, msg)
		switch {
		case err == nil && seq == after+1:
			return seq, nil
		case err == nil:
			return 0, fmt.Errorf("append block after sequence %d: stored as %d: %w", after, seq, events.ErrBroken)
		case permanent(err) && !sent:
			return 0, fmt.Errorf("append block after sequence %d: %w", after, err)
		}
		if !errors.Is(err, nats.ErrNoResponders) {
			sent = true
		}
		switch found, ours := j.tail(ctx, after+1, payload); {
		case ours:
			return after + 1, nil
		case found:
			return 0, fmt.Errorf("append block after sequence %d: %w", after, events.ErrConflict)
		}
		select { // not there: the same bytes again, behind the same guard, so at most one copy can be stored
		case <-ctx.Done():
			if !sent {
				return 0, fmt.Errorf("append block after sequence %d: %w", after, err)
			}
			return 0, fmt.Errorf("append block after sequence %d: %w (%w)", after, ErrUncertain, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (j *Journal) publish(ctx context.Context, msg *nats.Msg) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTry)
	defer cancel()
	ack, err := j.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// tail says whether there is a block with that sequence, and whether it is ours.
func (j *Journal) tail(ctx context.Context, seq uint64, payload []byte) (found, ours bool) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	m, err := j.stream.GetMsg(ctx, seq) // asked of the leader: direct gets are off
	if err != nil {
		return false, false
	}
	return true, len(m.Data) == len(payload) && events.Digest(m.Data) == events.Digest(payload)
}

// permanent says whether an answer of the stream means that this block was refused and will be. A wrong last sequence is not among
// them: the block that is there may be ours.
func permanent(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrConnectionClosed)
	}
	switch api.ErrorCode {
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
		return false
	}
	return api.Code != 503 && api.Code != 409
}

// Last gives the sequence of the log's last block, as the leader knows it; 0 if there is none.
func (j *Journal) Last(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	info, err := j.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask for the end of the log: %w", err)
	}
	return info.State.LastSeq, nil
}

// At gives the position just after the block with a sequence, as it is stored. Sequence 0 gives the beginning.
func (j *Journal) At(ctx context.Context, seq uint64) (events.Position, error) {
	if seq == 0 {
		return events.Position{}, nil
	}
	b, payload, err := j.get(ctx, seq)
	if err != nil {
		return events.Position{}, err
	}
	return events.Position{Seq: seq, Number: b.Last(), Term: b.Term, Digest: events.Digest(payload), Time: b.Time}, nil
}

func (j *Journal) get(ctx context.Context, seq uint64) (*events.Block, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	m, err := j.stream.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil, fmt.Errorf("read block at sequence %d: it is not there: %w", seq, events.ErrBroken)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read block at sequence %d: %w", seq, err)
	}
	b, err := events.DecodeBlock(m.Data)
	if err != nil {
		return nil, nil, fmt.Errorf("read block at sequence %d: %w: %w", seq, err, events.ErrBroken)
	}
	return b, m.Data, nil
}

const fewBlocks = 64 // are asked for one by one

// Load reads from a position to the present end of the log, in order, and gives the position where it stopped: at the end, or before
// the block at which f failed. It asks the leader for the end.
func (j *Journal) Load(ctx context.Context, from events.Position, f func(events.Position, *events.Block) error) (events.Position, error) {
	last, err := j.Last(ctx)
	if err != nil {
		return from, err
	}
	if last < from.Seq {
		return from, lostTail(from, last)
	}
	if last-from.Seq > fewBlocks {
		return j.loadMany(ctx, from, last, f)
	}
	for from.Seq < last {
		b, payload, err := j.get(ctx, from.Seq+1)
		if err != nil {
			return from, err
		}
		next, err := from.Next(from.Seq+1, b, events.Digest(payload))
		if err != nil {
			return from, err
		}
		if err := f(next, b); err != nil {
			return from, err
		}
		from = next
	}
	return from, nil
}

func (j *Journal) loadMany(ctx context.Context, from events.Position, last uint64, f func(events.Position, *events.Block) error) (events.Position, error) {
	r, err := NewReader(ctx, j.js, from)
	if err != nil {
		return from, err
	}
	defer r.Stop()
	for from.Seq < last {
		batch, err := r.Next(ctx, 256)
		if err != nil {
			return from, err
		}
		for _, e := range batch {
			if err := f(e.Position, e.Block); err != nil {
				return from, err
			}
			from = e.Position
		}
	}
	return from, nil
}

func lostTail(from events.Position, last uint64) error {
	return fmt.Errorf("read log after sequence %d: it ends at %d: what was stored is lost: %w", from.Seq, last, events.ErrBroken)
}

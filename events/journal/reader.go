package journal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

// Entry is one block as a reader gives it.
type Entry struct {
	Position events.Position // after the block; the place to go on from
	Block    *events.Block
	Payload  []byte
}

// Reader reads the log in order from a position and follows it. One goroutine at a time may call Next.
type Reader struct {
	at      events.Position
	entries chan *slot
	work    chan *slot
	filling *slot   // used by the consumer alone
	rest    []piece // decoded, and not given yet
	done    chan struct{}
	stop    sync.Once
	consume jetstream.ConsumeContext
	workers sync.WaitGroup

	mu  sync.Mutex
	err error // the connection is gone
}

// slot is a run of messages on its way through the decoders. It keeps its place in line.
type slot struct {
	pieces  []piece
	bytes   int
	decoded chan struct{}
}

// piece is one message.
type piece struct {
	seq     uint64
	payload []byte
	block   *events.Block
	digest  string
	err     error
}

const (
	readAhead      = 64       // runs of blocks decoded ahead of Next
	runBlocks      = 32       // blocks of one run at most; what is there is not waited for
	runBytes       = 32 << 10 // payloads of one run at most, but for the last
	readAheadBytes = 16 << 20 // bytes asked for ahead of that
)

// NewReader begins to read after a position. A position that lies behind the log's end is events.ErrBroken: what was stored is lost.
// Stop must be called.
func NewReader(ctx context.Context, js jetstream.JetStream, from events.Position) (*Reader, error) {
	j, err := Open(ctx, js)
	if err != nil {
		return nil, err
	}
	last, err := j.Last(ctx)
	if err != nil {
		return nil, err
	}
	if last < from.Seq {
		return nil, lostTail(from, last)
	}
	c, err := js.OrderedConsumer(ctx, events.StreamEvents, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from.Seq + 1,
	})
	if err != nil {
		return nil, fmt.Errorf("read log after sequence %d: %w", from.Seq, err)
	}
	r := &Reader{at: from, entries: make(chan *slot, readAhead), work: make(chan *slot, readAhead), done: make(chan struct{})}
	for range min(runtime.GOMAXPROCS(0), 4) {
		r.workers.Go(r.decode)
	}
	r.consume, err = c.Consume(r.take, jetstream.PullMaxBytes(readAheadBytes), jetstream.PullHeartbeat(time.Second),
		jetstream.PullExpiry(10*time.Second), jetstream.ConsumeErrHandler(r.failed))
	if err != nil {
		r.Stop()
		return nil, fmt.Errorf("read log after sequence %d: %w", from.Seq, err)
	}
	return r, nil
}

// take adds a message to the run that is being filled, and hands the run on when it is full or nothing more is there.
func (r *Reader) take(m jetstream.Msg) {
	p := piece{payload: m.Data()}
	pending := uint64(0)
	if meta, err := m.Metadata(); err != nil {
		p.err = err
	} else {
		p.seq, pending = meta.Sequence.Stream, meta.NumPending
	}
	if r.filling == nil {
		n := 1
		if pending > 0 {
			n = min(runBlocks, runBytes/(len(p.payload)+1)+1)
		}
		r.filling = &slot{pieces: make([]piece, 0, n), decoded: make(chan struct{})}
	}
	s := r.filling
	s.pieces, s.bytes = append(s.pieces, p), s.bytes+len(p.payload)
	if pending > 0 && len(s.pieces) < runBlocks && s.bytes < runBytes {
		return
	}
	r.filling = nil
	select {
	case r.entries <- s:
	case <-r.done:
		return
	}
	select {
	case r.work <- s:
	case <-r.done:
	}
}

func (r *Reader) decode() {
	for {
		select {
		case <-r.done:
			return
		case s := <-r.work:
			for i := range s.pieces {
				if p := &s.pieces[i]; p.err == nil {
					p.digest = events.Digest(p.payload)
					p.block, p.err = events.DecodeBlock(p.payload)
				}
			}
			close(s.decoded)
		}
	}
}

// failed hears of the consumer's troubles. It makes itself anew after all but the end of the connection.
func (r *Reader) failed(_ jetstream.ConsumeContext, err error) {
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, jetstream.ErrConnectionClosed) {
		r.mu.Lock()
		r.err = fmt.Errorf("read log: %w", err)
		r.mu.Unlock()
		r.close()
	}
}

// Next gives the next blocks: it waits for one, and takes what else is there already, up to max. An error ends the reader:
// events.ErrBroken when what is stored is not the continuation of what was read; the error of ctx; or the end of the connection.
func (r *Reader) Next(ctx context.Context, max int) ([]Entry, error) {
	out := make([]Entry, 0, min(max, readAhead))
	for len(out) < max {
		if len(r.rest) == 0 {
			more, err := r.next(ctx, len(out) == 0)
			if err != nil {
				return nil, err
			}
			if more == nil {
				break
			}
			r.rest = more.pieces
		}
		p := &r.rest[0]
		if p.err != nil {
			return nil, fmt.Errorf("read block at sequence %d: %w: %w", p.seq, p.err, events.ErrBroken)
		}
		at, err := r.at.Next(p.seq, p.block, p.digest)
		if err != nil {
			return nil, err
		}
		r.at, r.rest = at, r.rest[1:]
		out = append(out, Entry{at, p.block, p.payload})
	}
	return out, nil
}

// next gives the next run when it is decoded; nil if there is none and it is not to wait.
func (r *Reader) next(ctx context.Context, wait bool) (*slot, error) {
	var s *slot
	if wait {
		select {
		case s = <-r.entries:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.done:
			return nil, r.ended()
		}
	} else {
		select {
		case s = <-r.entries:
		default:
			return nil, nil
		}
	}
	select {
	case <-s.decoded:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.done:
		return nil, r.ended()
	}
}

func (r *Reader) ended() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	return errors.New("read log: the reader is stopped")
}

func (r *Reader) close() { r.stop.Do(func() { close(r.done) }) }

// Stop ends the reader and waits for its goroutines.
func (r *Reader) Stop() {
	r.close()
	if r.consume != nil {
		r.consume.Stop()
	}
	r.workers.Wait()
}

// Read gives each block after a position to f, in order, and follows the log until ctx ends or f fails. It never returns nil.
func Read(ctx context.Context, js jetstream.JetStream, from events.Position, f func(seq uint64, b *events.Block, payload []byte) error) error {
	r, err := NewReader(ctx, js, from)
	if err != nil {
		return err
	}
	defer r.Stop()
	for {
		batch, err := r.Next(ctx, readAhead)
		if err != nil {
			return err
		}
		for _, e := range batch {
			if err := f(e.Position.Seq, e.Block, e.Payload); err != nil {
				return err
			}
		}
	}
}

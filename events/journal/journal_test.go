package journal_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/broker"
	"cloudengine/events/journal"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T) (jetstream.JetStream, *journal.Journal) {
	t.Helper()
	srv, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), UnsafeNoFsync: true})
	must(t, err)
	t.Cleanup(srv.Shutdown)
	nc, err := srv.Connect("test")
	must(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(t, err)
	j, err := journal.Open(t.Context(), js)
	must(t, err)
	return js, j
}

var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// block makes a block of n decisions behind a position.
func block(at events.Position, n int) *events.Block {
	b := &events.Block{Format: events.Format, Term: 1, First: at.Number + 1, Prev: at.Digest, Time: start.Add(time.Duration(at.Number) * time.Second)}
	for i := range n {
		b.Decisions = append(b.Decisions, events.Decision{Intent: events.IntentID(fmt.Sprint(b.First + uint64(i))), Actor: "alice",
			Kind: events.KindAccount, Verb: "create", Outcome: events.Outcome{Status: events.Nothing}})
	}
	return b
}

func write(t *testing.T, j *journal.Journal, at events.Position, b *events.Block) events.Position {
	t.Helper()
	payload, err := b.Encode()
	must(t, err)
	seq, err := j.Append(t.Context(), at.Seq, payload)
	must(t, err)
	next, err := at.Next(seq, b, events.Digest(payload))
	must(t, err)
	return next
}

func TestAppendThenLoad(t *testing.T) {
	_, j := open(t)
	for _, blocks := range []int{3, 100} { // one by one, and by a consumer
		at, err := j.Load(t.Context(), events.Position{}, func(events.Position, *events.Block) error { return nil })
		must(t, err)
		from := at
		for range blocks {
			at = write(t, j, at, block(at, 2))
		}
		n := 0
		end, err := j.Load(t.Context(), from, func(p events.Position, b *events.Block) error { n += len(b.Decisions); return nil })
		must(t, err)
		if end != at || n != 2*blocks {
			t.Fatalf("loaded %d decisions up to %+v, want %d up to %+v", n, end, 2*blocks, at)
		}
		found, err := j.At(t.Context(), at.Seq)
		must(t, err)
		if found != at {
			t.Fatalf("position %+v, want %+v", found, at)
		}
	}
}

func TestConflict(t *testing.T) {
	_, j := open(t)
	write(t, j, events.Position{}, block(events.Position{}, 1))
	other, err := block(events.Position{}, 2).Encode()
	must(t, err)
	if _, err := j.Append(t.Context(), 0, other); !errors.Is(err, events.ErrConflict) {
		t.Fatalf("error %v", err)
	}
}

// TestSameBytesAgain is what happens after a lost acknowledgement: the block is there, and it is ours.
func TestSameBytesAgain(t *testing.T) {
	_, j := open(t)
	b := block(events.Position{}, 1)
	at := write(t, j, events.Position{}, b)
	if again := write(t, j, events.Position{}, b); again != at {
		t.Fatalf("stored again: %+v and %+v", at, again)
	}
}

func TestReaderFollows(t *testing.T) {
	js, j := open(t)
	at := write(t, j, events.Position{}, block(events.Position{}, 1))
	r, err := journal.NewReader(t.Context(), js, events.Position{})
	must(t, err)
	defer r.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	batch, err := r.Next(ctx, 10)
	must(t, err)
	if len(batch) != 1 || batch[0].Position != at {
		t.Fatalf("batch %+v", batch)
	}
	for range 200 {
		at = write(t, j, at, block(at, 1))
	}
	for got := batch[0].Position; got != at; {
		batch, err := r.Next(ctx, 50)
		must(t, err)
		got = batch[len(batch)-1].Position
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := r.Next(stopped, 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
}

func TestBrokenLogHaltsReaders(t *testing.T) {
	at := events.Position{Seq: 1, Number: 1, Term: 1}
	for name, change := range map[string]func(*events.Block){
		"chain":     func(b *events.Block) { b.Prev = events.Digest([]byte("another")) },
		"numbers":   func(b *events.Block) { b.First = 3 },
		"time":      func(b *events.Block) { b.Time = start.Add(-time.Hour) },
		"decisions": func(b *events.Block) { b.Decisions = nil },
	} {
		t.Run(name, func(t *testing.T) {
			js, j := open(t)
			at = write(t, j, events.Position{}, block(events.Position{}, 1))
			b := block(at, 1)
			change(b)
			payload, err := b.Encode()
			must(t, err)
			_, err = j.Append(t.Context(), 1, payload)
			must(t, err)
			seen := 0
			err = journal.Read(t.Context(), js, events.Position{}, func(uint64, *events.Block, []byte) error { seen++; return nil })
			if !errors.Is(err, events.ErrBroken) || seen > 1 {
				t.Fatalf("read %d blocks, error %v", seen, err)
			}
			_, err = j.Load(t.Context(), events.Position{}, func(events.Position, *events.Block) error { return nil })
			if !errors.Is(err, events.ErrBroken) {
				t.Fatalf("load: %v", err)
			}
		})
	}
}

func TestPositionBehindTheEnd(t *testing.T) {
	js, j := open(t)
	if _, err := journal.NewReader(t.Context(), js, events.Position{Seq: 7}); !errors.Is(err, events.ErrBroken) {
		t.Fatalf("reader: %v", err)
	}
	if _, err := j.Load(t.Context(), events.Position{Seq: 7}, nil); !errors.Is(err, events.ErrBroken) {
		t.Fatalf("load: %v", err)
	}
}

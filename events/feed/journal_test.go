package feed

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/journal"
)

// mustAppend writes decisions to the journal in blocks of 1, 2, 3, … decisions.
func mustAppend(t testing.TB, js jetstream.JetStream, at events.Position, rs []events.Recorded) events.Position {
	t.Helper()
	j, err := journal.Open(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1; len(rs) > 0; size++ {
		n := min(size, len(rs))
		b := &events.Block{Format: events.Format, Term: rs[0].Term, First: rs[0].Number, Time: rs[0].Time.UTC(), Prev: at.Digest}
		for _, r := range rs[:n] {
			b.Decisions = append(b.Decisions, r.Decision)
		}
		payload, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		seq, err := j.Append(t.Context(), at.Seq, payload)
		if err != nil {
			t.Fatal(err)
		}
		at = events.Position{Seq: seq, Number: b.Last(), Term: b.Term, Digest: events.Digest(payload), Time: b.Time}
		rs = rs[n:]
	}
	return at
}

func TestReadFromJournal(t *testing.T) {
	_, js := mustBus(t)
	l := &fakeLog{}
	at := mustAppend(t, js, events.Position{}, l.decided(1000, 1, time.Now()))
	j, err := journal.Open(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	read := FromJournal(j)
	for _, from := range []uint64{1, 2, 3, 4, 600, 999, 1000, 1, 77} {
		next := from
		for next <= 1000 {
			rs, err := read.Read(t.Context(), next, 300)
			if err != nil {
				t.Fatal(err)
			}
			if len(rs) == 0 || rs[0].Number != next {
				t.Fatalf("read from %d: got %d decisions", next, len(rs))
			}
			for _, r := range rs {
				if r.Number != next || r.Intent != l.rs[next-1].Intent {
					t.Fatalf("read %d: got decision %d", next, r.Number)
				}
				next++
			}
		}
		for _, beyond := range []uint64{1001, 5000} {
			if rs, err := read.Read(t.Context(), beyond, 10); err != nil || len(rs) > 0 {
				t.Fatalf("read beyond the end: %d decisions, %v", len(rs), err)
			}
		}
	}
	mustAppend(t, js, at, l.decided(2, 1, time.Now()))
	if rs, err := read.Read(t.Context(), 1001, 10); err != nil || len(rs) != 2 {
		t.Fatalf("read what was appended: %d decisions, %v", len(rs), err)
	}
}

// The whole of it: blocks in EVENTS, messages on FEED, over restarts.
func TestDeriveFromJournal(t *testing.T) {
	nc, js := mustBus(t)
	l := &fakeLog{}
	var at events.Position
	for round := range 5 {
		at = mustAppend(t, js, at, l.decided(400, 1, time.Now()))
		j, err := journal.Open(t.Context(), js)
		if err != nil {
			t.Fatal(err)
		}
		d := mustDeriver(t, nc, FromJournal(j))
		stop := start(t, d)
		eventually(t, "half of it", func() bool { return d.Published() >= uint64(400*round+200) })
		stop()
	}
	j, err := journal.Open(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	d := mustDeriver(t, nc, FromJournal(j))
	defer start(t, d)()
	eventually(t, "FEED is level with the log", func() bool { return d.Published() == 2000 })
	mustHold(t, js, l.places())
}

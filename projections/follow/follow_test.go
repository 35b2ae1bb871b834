package follow_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/broker"
	"cloudengine/events/journal"
	"cloudengine/projections/follow"
	"cloudengine/projections/projectionstest"
)

func TestFollowFromAnyDecision(t *testing.T) {
	srv, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(srv.Shutdown)
	nc, err := srv.Connect("test")
	must(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(t, err)
	j, err := journal.Open(t.Context(), js)
	must(t, err)
	log := follow.New(js)
	if n, err := log.Last(t.Context()); n != 0 || err != nil {
		t.Fatalf("an empty log ends with %d, %v", n, err)
	}

	all := projectionstest.New(rand.New(rand.NewPCG(1, 1)).IntN, 2).Steps(120).All()
	later := all[len(all)-3:]
	seq, prev := uint64(0), ""
	put := func(d []events.Recorded) {
		b := events.Block{Format: events.Format, Term: 1, First: d[0].Number, Time: d[len(d)-1].Time, Prev: prev}
		for _, r := range d {
			b.Decisions = append(b.Decisions, r.Decision)
		}
		payload, err := b.Encode()
		must(t, err)
		seq, err = j.Append(t.Context(), seq, payload)
		must(t, err)
		prev = events.Digest(payload)
	}
	for rest, n := all[:len(all)-3], 1; len(rest) > 0; n = n%7 + 1 {
		n = min(n, len(rest))
		put(rest[:n])
		rest = rest[n:]
	}
	if n, err := log.Last(t.Context()); n != uint64(len(all)-3) || err != nil {
		t.Fatalf("the log ends with %d, %v; want %d", n, err, len(all)-3)
	}

	enough := errors.New("enough")
	for from := 1; from <= len(all)-3; from += 5 {
		next := uint64(from)
		err := log.Follow(t.Context(), next, func(d []events.Recorded) error {
			for _, r := range d {
				if r.Number != next || r.Intent != all[next-1].Intent {
					t.Fatalf("from %d: decision %d, want %d", from, r.Number, next)
				}
				next++
			}
			if next > uint64(len(all)-3) {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Fatalf("from %d: %v", from, err)
		}
	}

	// Beyond the end: what comes later is given.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := make(chan uint64, 1)
	go func() {
		_ = log.Follow(ctx, later[0].Number, func(d []events.Recorded) error { got <- d[0].Number; return enough })
	}()
	put(later)
	select {
	case n := <-got:
		if n != later[0].Number {
			t.Fatalf("got decision %d, want %d", n, later[0].Number)
		}
	case <-ctx.Done():
		t.Fatal("nothing came")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

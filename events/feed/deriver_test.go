package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

// fakeLog is a log in memory.
type fakeLog struct {
	mu    sync.Mutex
	rs    []events.Recorded
	reads int
}

func (l *fakeLog) Read(_ context.Context, from uint64, limit int) ([]events.Recorded, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	if from == 0 || from > uint64(len(l.rs)) {
		return nil, nil
	}
	return l.rs[from-1 : min(len(l.rs), int(from)-1+limit)], nil
}

func (l *fakeLog) End(context.Context) (uint64, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rs) == 0 {
		return 0, 0, nil
	}
	r := l.rs[len(l.rs)-1]
	return r.Number, r.Term, nil
}

// decided appends n decisions with 0 to 3 events each.
func (l *fakeLog) decided(n int, term uint64, at time.Time) []events.Recorded {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := len(l.rs)
	for range n {
		number := uint64(len(l.rs) + 1)
		r := events.Recorded{Number: number, Term: term, Time: at}
		r.Intent, r.Actor = events.FreeFormID("test", fmt.Sprint(term, number)), "ada"
		for i := range int(number % 4) {
			id := string(events.FreeFormID("vm", fmt.Sprint(number, i)))
			r.Events = append(r.Events, events.New(events.KindVM, id, 1, events.VMCreated{Name: fmt.Sprint("vm", number)}))
		}
		l.rs = append(l.rs, r)
	}
	return l.rs[first:]
}

// places are the events that FEED should hold, in order.
func (l *fakeLog) places() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, r := range l.rs {
		for i := range r.Events {
			out = append(out, fmt.Sprintf("%d.%d %s %s", r.Number, i, r.Intent, events.FeedSubject(r.Events[i])))
		}
	}
	return out
}

func mustDeriver(t testing.TB, nc *nats.Conn, l Log) *Deriver {
	t.Helper()
	d, err := NewDeriver(nc, l, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// start runs a deriver until the returned function is called.
func start(t testing.TB, d *Deriver) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return func() { cancel(); wg.Wait() }
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-tick.C {
		if is() {
			return
		}
	}
	t.Fatalf("not within 20 s: %s", what)
}

// held is what FEED holds, as fakeLog.places tells it.
func held(t *testing.T, js jetstream.JetStream) []string {
	t.Helper()
	s, err := js.Stream(t.Context(), events.StreamFeed)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	state := s.CachedInfo().State
	for seq := state.FirstSeq; state.Msgs > 0 && seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatalf("read sequence %d of %+v: %v", seq, state, err)
		}
		var f events.FeedMessage
		if err := json.Unmarshal(m.Data, &f); err != nil {
			t.Fatal(err)
		}
		p, _, err := placeOf(m.Header)
		if err != nil || p != (place{f.Number, f.Index}) || m.Header.Get(jetstream.MsgIDHeader) != p.id() {
			t.Fatalf("headers %v of body %+v: %v", m.Header, f, err)
		}
		out = append(out, fmt.Sprintf("%d.%d %s %s", f.Number, f.Index, f.Intent, m.Subject))
	}
	return out
}

func mustHold(t *testing.T, js jetstream.JetStream, want []string) {
	t.Helper()
	got := held(t, js)
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("FEED has %d messages, want %d; they differ from the %d-th on: got %q", len(got), len(want), i, got[i:min(i+3, len(got))])
		}
	}
}

func TestEveryEventOnce(t *testing.T) {
	nc, js := mustBus(t)
	l := &fakeLog{}
	l.decided(1500, 1, time.Now())
	d := mustDeriver(t, nc, l)
	defer start(t, d)()
	eventually(t, "FEED is level with the log", func() bool { return d.Published() == 1500 })
	for range 20 { // live
		d.Apply(l.decided(7, 1, time.Now()))
	}
	eventually(t, "FEED is level with the log", func() bool { return d.Published() == 1640 })
	mustHold(t, js, l.places())
}

// What Apply tells is published without reading it again.
func TestApplyNeedsNoRead(t *testing.T) {
	nc, js := mustBus(t)
	l := &fakeLog{}
	d := mustDeriver(t, nc, l)
	defer start(t, d)()
	const rounds = 100
	for i := range rounds {
		d.Apply(l.decided(4, 1, time.Now()))
		eventually(t, "the next decisions", func() bool { return d.Published() == uint64(4*i+4) })
	}
	l.mu.Lock()
	reads := l.reads
	l.mu.Unlock()
	if reads > rounds/2 { // at the start, and on a slow machine at times between
		t.Fatalf("%d reads of the log for %d batches", reads, rounds)
	}
	mustHold(t, js, l.places())
}

// A crash at any moment, and two derivers at once, leave no gap and no duplicate.
func TestStopsAnywhereTwoAtOnce(t *testing.T) {
	const all = 2000
	nc, js := mustBus(t)
	l := &fakeLog{}
	l.decided(all, 1, time.Now())
	rng := rand.New(rand.NewPCG(1, 2))
	for target := uint64(0); target < all; target += uint64(rng.IntN(all / 8)) {
		a, b := mustDeriver(t, nc, l), mustDeriver(t, nc, l)
		stopA, stopB := start(t, a), start(t, b)
		eventually(t, "some progress", func() bool { return max(a.Published(), b.Published()) >= target })
		if rng.IntN(2) == 0 {
			stopA, stopB = stopB, stopA
		}
		stopA()
		stopB()
	}
	d := mustDeriver(t, nc, l)
	defer start(t, d)()
	eventually(t, "FEED is level with the log", func() bool { return d.Published() == all })
	mustHold(t, js, l.places())
}

// A crash between two events of one decision.
func TestHalfADecision(t *testing.T) {
	nc, js := mustBus(t)
	l := &fakeLog{}
	rs := l.decided(11, 1, time.Now())
	for _, r := range rs[:7] { // of the seventh, with three events, two
		for i := range min(len(r.Events), 2+int(7-r.Number)) {
			m, err := render(r, i)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := js.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	d := mustDeriver(t, nc, l)
	defer start(t, d)()
	eventually(t, "FEED is level with the log", func() bool { return d.Published() == 11 })
	mustHold(t, js, l.places())
}

// A restored log is shorter and has a later term: FEED is emptied, and holds the new history alone. Its sequences go on.
func TestRestoredLog(t *testing.T) {
	nc, js := mustBus(t)
	old := &fakeLog{}
	old.decided(100, 1, time.Now())
	d := mustDeriver(t, nc, old)
	stop := start(t, d)
	eventually(t, "the old history", func() bool { return d.Published() == 100 })
	stop()
	for _, n := range []int{20, 200} { // shorter and longer than what was published
		restored := &fakeLog{rs: append([]events.Recorded(nil), old.rs[:50]...)}
		restored.decided(n, uint64(1+n), time.Now())
		d := mustDeriver(t, nc, restored)
		stop := start(t, d)
		eventually(t, "the new history", func() bool { return d.Published() == uint64(50+n) })
		stop()
		mustHold(t, js, restored.places())
	}
}

// Filled from nothing, FEED holds what is not older than its retention.
func TestOldEventsAreNotPublished(t *testing.T) {
	nc, js := mustBus(t)
	l := &fakeLog{}
	l.decided(10, 1, time.Now().Add(-Retention-time.Hour))
	l.decided(10, 1, time.Now())
	d := mustDeriver(t, nc, l)
	defer start(t, d)()
	eventually(t, "FEED is level with the log", func() bool { return d.Published() == 20 })
	if got := held(t, js); len(got) != len((&fakeLog{rs: l.rs[10:]}).places()) {
		t.Fatalf("got %d messages: %q", len(got), got)
	}
}

// BenchmarkDerive tells how fast FEED is filled from a log in memory, on one server.
func BenchmarkDerive(b *testing.B) {
	nc, _ := mustBus(b)
	l := &fakeLog{}
	l.decided(b.N, 1, time.Now())
	d := mustDeriver(b, nc, l)
	b.ResetTimer()
	stop := start(b, d)
	defer stop()
	eventually(b, "FEED is level with the log", func() bool { return d.Published() == uint64(b.N) })
	b.ReportMetric(float64(len(l.places()))/b.Elapsed().Seconds(), "events/s")
}

package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

type seen struct {
	mu  sync.Mutex
	all []Delivery
}

func (s *seen) add(d Delivery) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, d)
	return len(s.all)
}

func (s *seen) list() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Delivery(nil), s.all...)
}

func mustRoute(t *testing.T, js jetstream.JetStream, regs ...Registration) (stop func()) {
	t.Helper()
	if err := EnsureParked(t.Context(), js, 1); err != nil {
		t.Fatal(err)
	}
	r, err := NewRouter(js, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, reg := range regs {
		if err := r.Handle(reg); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-r.Running():
	case <-time.After(10 * time.Second):
		t.Fatal("the router does not run within 10 s")
	}
	return func() { cancel(); wg.Wait() }
}

func mustPublishEvents(t *testing.T, nc *nats.Conn, n int) *fakeLog {
	t.Helper()
	l := &fakeLog{}
	l.decided(n, 1, time.Now())
	d := mustDeriver(t, nc, l)
	stop := start(t, d)
	defer stop()
	eventually(t, "FEED is level with the log", func() bool { return d.Published() == uint64(n) })
	return l
}

// Handlers get the events of their filter in order, with their place, and go on where they stopped.
func TestHandlerGoesOnWhereItStopped(t *testing.T) {
	nc, js := mustBus(t)
	l := mustPublishEvents(t, nc, 40)
	want := l.places()
	got := &seen{}
	for round := range 3 {
		enough := len(got.list()) + len(want)/3
		full := make(chan struct{})
		var once sync.Once
		stop := mustRoute(t, js, Registration{Name: "reader", Subjects: "feed.vm.*.vm_created_v1,feed.none.>", Handle: func(_ context.Context, d Delivery) error {
			n, at := got.add(d), fmt.Sprintf("%d.%d %s %s", d.Number, d.Index, d.Intent, events.FeedSubject(d.Event))
			if round < 2 && n >= enough || at == want[len(want)-1] {
				once.Do(func() { close(full) })
			}
			return nil
		}})
		select {
		case <-full:
		case <-time.After(time.Minute):
			t.Fatalf("%d of %d events within a minute", len(got.list()), enough)
		}
		stop()
	}
	next := 0
	for _, d := range got.list() {
		at := fmt.Sprintf("%d.%d %s %s", d.Number, d.Index, d.Intent, events.FeedSubject(d.Event))
		switch {
		case next < len(want) && at == want[next]:
			if d.Sequence != uint64(next+1) || d.Correlation != string(d.Intent) {
				t.Fatalf("delivery %+v: want sequence %d", d, next+1)
			}
			next++
		case next > 0 && at == want[next-1] && d.Attempt > 1: // delivered again after a stop
		default:
			t.Fatalf("got %s out of order, after %d", at, next)
		}
	}
	if next != len(want) {
		t.Fatalf("%d of %d events", next, len(want))
	}
}

// A failing event is retried, then parked with its bytes and the reason; what cannot be read or mended is parked at once; a panic is an error.
func TestRetryAndPark(t *testing.T) {
	nc, js := mustBus(t)
	mustPublishEvents(t, nc, 5) // events 1.0 2.0 2.1 3.0 3.1 3.2 5.0
	if _, err := js.Publish(t.Context(), "feed.vm.x.vm_created_v1", []byte("no JSON")); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	tries := map[string]int{}
	broken := errors.New("broken")
	handle := func(_ context.Context, d Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		id := place{d.Number, d.Index}.id()
		tries[id]++
		switch {
		case id == "1.0" && tries[id] < 3:
			return broken // mends
		case id == "2.0":
			return broken
		case id == "2.1":
			return Permanent(broken)
		case id == "3.0":
			panic("a bug")
		}
		return nil
	}
	regs := []Registration{
		{Name: "one", Subjects: "feed.>", Retries: 3, Pause: time.Millisecond, Handle: handle},
		{Name: "two", Subjects: "feed.>", Retries: 1, Pause: time.Millisecond, Handle: func(context.Context, Delivery) error { return Permanent(broken) }},
	}
	defer mustRoute(t, js, regs...)()
	s, err := js.Stream(t.Context(), StreamParked)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "twelve messages parked", func() bool {
		i, err := s.Info(t.Context())
		return err == nil && i.State.Msgs == 4+8
	})
	mu.Lock()
	defer mu.Unlock()
	for id, want := range map[string]int{"1.0": 3, "2.0": 4, "2.1": 1, "3.0": 4, "3.1": 1, "3.2": 1, "5.0": 1} {
		if tries[id] != want {
			t.Errorf("event %s: %d tries, want %d", id, tries[id], want)
		}
	}
	bad, err := s.GetLastMsgForSubject(t.Context(), "parked.one")
	if err != nil || string(bad.Data) != "no JSON" || bad.Header.Get("reason_poisoned") == "" || bad.Header.Get("handler_poisoned") != "one" {
		t.Fatalf("parked message: %+v, %v", bad, err)
	}
}

func TestBadRegistration(t *testing.T) {
	_, js := mustBus(t)
	r, err := NewRouter(js, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Handle(Registration{Name: "a.b", Handle: func(context.Context, Delivery) error { return nil }}); err == nil {
		t.Error("a name that is no token was taken")
	}
	if err := r.Handle(Registration{Name: "ab"}); err == nil {
		t.Error("a registration without a function was taken")
	}
}

func TestLast(t *testing.T) {
	nc, js := mustBus(t)
	l := mustPublishEvents(t, nc, 7)
	r := l.rs[6]
	m, found, err := Last(t.Context(), js, events.FeedSubject(r.Events[1]))
	if err != nil || !found || m.Number != 7 || m.Index != 1 || m.Intent != r.Intent {
		t.Fatalf("got %+v, %v, %v", m, found, err)
	}
	if _, found, err := Last(t.Context(), js, "feed.vm.none.vm_created_v1"); err != nil || found {
		t.Fatalf("of nothing: %v, %v", found, err)
	}
}

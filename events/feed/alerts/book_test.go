package alerts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/broker"
)

// startStream starts a real bus and declares the stream.
func startStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	bus, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Shutdown)
	nc, err := bus.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err == nil {
		err = EnsureStream(t.Context(), js, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// opened is a book that delivers until stop is called.
type opened struct {
	*Book
	stop func()
}

func open(t *testing.T, js jetstream.JetStream, senders ...Sender) *opened {
	t.Helper()
	b, err := Load(t.Context(), js, slog.New(slog.DiscardHandler), time.Now, senders...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- b.Deliver(ctx, Patience{First: time.Millisecond, Longest: 5 * time.Millisecond, Attempts: 20})
	}()
	stop := sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return &opened{b, stop}
}

// receiver is a real HTTP server that remembers what came, and fails as often as it is told.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	fail   int
	came   []string // id.edge, in order, of those that it took
	tries  int
	broken []string
}

func newReceiver(t *testing.T, secret []byte) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tries++
		body, err := io.ReadAll(q.Body)
		if err != nil || q.Header.Get(HeaderSignature) != Sign(secret, q.Header.Get(HeaderTimestamp), body) {
			r.broken = append(r.broken, fmt.Sprint(err, q.Header))
		}
		if r.fail > 0 {
			r.fail--
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		r.came = append(r.came, q.Header.Get(HeaderAlert))
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) sender(t *testing.T) *Webhook {
	t.Helper()
	w, err := NewWebhook(r.URL, []byte("shared"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (r *receiver) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.came)
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// idle says whether nothing waits to be sent.
func (b *Book) idle() bool {
	return !slices.ContainsFunc(b.List(true), func(r Record) bool { return slices.ContainsFunc(r.Sent, Sending.pending) })
}

func (b *Book) tell(t *testing.T, list ...events.FeedMessage) {
	t.Helper()
	for _, m := range list {
		if err := b.Handler()(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	unknown = message(10, events.KindVM, events.VMBecameUnknown{Host: "h"})
	known   = message(11, events.KindVM, events.VMBecameKnown{Host: "h"})
	again   = message(12, events.KindVM, events.VMBecameUnknown{Host: "h"})
)

// TestOncePerRaiseAndEnd: events come again, in any order of repetition; people hear of each raise and each end once, in order.
func TestOncePerRaiseAndEnd(t *testing.T) {
	js, r := startStream(t), newReceiver(t, []byte("shared"))
	r.fail = 3
	b := open(t, js, r.sender(t))
	b.tell(t, unknown, unknown, known, unknown, known, again, known, again)
	first, second := idOf(Of(unknown)[0]), idOf(Of(again)[0])
	want := []string{first + ".raised", first + ".cleared", second + ".raised"}
	await(t, "three messages", b.idle)
	b.stop()
	// another server takes over, and FEED is told from its start again
	b = open(t, js, r.sender(t))
	b.tell(t, unknown, known, again)
	b.tell(t, message(13, events.KindVM, events.VMBecameUnknown{Host: "h2"})) // it is open already
	b.tell(t, message(14, events.KindVM, events.VMDeleted{}))
	want = append(want, second+".cleared")
	await(t, "the fourth message", b.idle)
	b.stop()
	got := r.list()
	for _, id := range []string{first, second} {
		if slices.Index(got, id+".raised") > slices.Index(got, id+".cleared") {
			t.Errorf("the end of %s came before its raise: %v", id, got)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(r.broken) > 0 || r.tries != 7 {
		t.Errorf("%d tries; bad requests: %v", r.tries, r.broken)
	}
	list := b.List(true)
	if len(list) != 2 || list[0].Times != 2 && list[1].Times != 2 || len(b.List(false)) != 0 {
		t.Errorf("the book: %+v", list)
	}
}

// TestKilledWhileSending: the receiver has the message, and the server dies before it can note that.
func TestKilledWhileSending(t *testing.T) {
	js := startStream(t)
	b, err := Load(t.Context(), js, slog.New(slog.DiscardHandler), time.Now, &told{})
	if err != nil {
		t.Fatal(err)
	}
	b.tell(t, unknown)
	m, _, _ := b.due("told")
	if m == nil {
		t.Fatal("nothing is due")
	}
	// here it was sent; b is gone with its server
	s := &told{}
	c := open(t, js, s)
	await(t, "the message again", func() bool { return len(s.list()) == 1 })
	c.stop()
	if got := s.list()[0]; got != m.ID+"."+m.Edge {
		t.Errorf("it came again as %s, and was %s.%s", got, m.ID, m.Edge)
	}
}

type told struct {
	mu   sync.Mutex
	fail error
	came []string
}

func (s *told) Name() string { return "told" }

func (s *told) Send(_ context.Context, m Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.came = append(s.came, m.ID+"."+m.Edge)
	return nil
}

func (s *told) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.came)
}

func TestDeadAndRetried(t *testing.T) {
	js, s := startStream(t), &told{fail: errors.New("no such address")}
	b := open(t, js, s)
	b.tell(t, unknown)
	dead := func() bool { l := b.List(false); return len(l) == 1 && len(l[0].Sent) == 1 && l[0].Sent[0].Dead }
	await(t, "giving up", dead)
	if got := b.List(false)[0].Sent[0]; got.Attempts != 20 || got.Error != "no such address" {
		t.Errorf("%+v", got)
	}
	b.tell(t, known)
	if got := b.List(false); len(got) != 1 {
		t.Errorf("what could not be sent is not shown any more: %+v", got)
	}
	s.mu.Lock()
	s.fail = nil
	s.mu.Unlock()
	id := b.List(false)[0].ID
	if _, err := b.Retry(t.Context(), id[:6]); err != nil {
		t.Fatal(err)
	}
	await(t, "raise and end", func() bool { return len(s.list()) == 2 })
	if got := strings.Join(s.list(), " "); got != id+".cleared "+id+".raised" && got != id+".raised "+id+".cleared" {
		t.Errorf("got %s", got)
	}
}

func TestAcknowledged(t *testing.T) {
	js, s := startStream(t), &told{}
	b := open(t, js, s)
	b.tell(t, unknown, message(20, events.KindLog, events.LogOpened{Term: 2, Cause: events.CauseReopened}))
	term, vm := idOf(Of(message(20, events.KindLog, events.LogOpened{Term: 2, Cause: events.CauseReopened}))[0]), idOf(Of(unknown)[0])
	for _, id := range []string{term, vm} {
		if r, err := b.Ack(t.Context(), id, "ann", "seen"); err != nil || r.AckedBy != "ann" {
			t.Fatalf("%+v %v", r, err)
		}
	}
	if _, err := b.Ack(t.Context(), "nothing", "ann", ""); !errors.Is(err, ErrNoAlert) {
		t.Errorf("an unknown one: %v", err)
	}
	if list := b.List(false); len(list) != 1 || list[0].ID != vm {
		t.Errorf("open: %+v", list)
	}
	await(t, "three messages", func() bool { return len(s.list()) == 3 })
	if !slices.Contains(s.list(), term+".cleared") {
		t.Errorf("got %v", s.list())
	}
}

func TestMeasures(t *testing.T) {
	js, s := startStream(t), &told{}
	b := open(t, js, s)
	used := []float64{0.5, 0.81, 0.79, 0.78, 0.93, 0.88, 0.80, 0.5}
	for _, u := range used {
		for _, l := range DiskLevels("s1", u) {
			if err := b.level(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
	}
	await(t, "four messages", func() bool { return len(s.list()) == 4 })
	var lag Lag
	lag.Limit = 30 * time.Second
	at := time.Unix(1000, 0)
	for i, c := range []struct {
		log, follower uint64
		after         time.Duration
		want          bool
	}{{10, 10, 0, false}, {100, 10, 10 * time.Second, false}, {200, 50, 20 * time.Second, false}, {300, 60, 50 * time.Second, true}, {400, 100, 60 * time.Second, false}, {400, 400, 200 * time.Second, false}} {
		if got := lag.Behind(c.log, c.follower, at.Add(c.after)); got != c.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}

type table struct {
	mu   sync.Mutex
	rows map[string]Record
}

func (c *table) Begin(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows = map[string]Record{}
	return nil
}

func (c *table) Put(_ context.Context, r Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows[r.ID] = r
	return nil
}

func TestCopyFollows(t *testing.T) {
	js := startStream(t)
	b := open(t, js)
	b.tell(t, unknown)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, done := &table{}, make(chan error, 1)
	go func() { done <- Follow(ctx, js, c) }()
	has := func(open bool) func() bool {
		return func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			r, ok := c.rows[idOf(Of(unknown)[0])]
			return ok && r.Open() == open
		}
	}
	await(t, "the open alert", has(true))
	b.tell(t, known)
	await(t, "its end", has(false))
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

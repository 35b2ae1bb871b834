package desired_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sort"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/broker"
	document "cloudengine/events/desired"
	"cloudengine/projections/desired"
	"cloudengine/projections/projectionstest"
)

func bus(t *testing.T) jetstream.JetStream {
	t.Helper()
	srv, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	nc, err := srv.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func publisher(t *testing.T, js jetstream.JetStream, log desired.Log, active func() bool) *desired.Publisher {
	t.Helper()
	p := desired.NewPublisher(js, active, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, log) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func always() bool { return true }

func rendered(t *testing.T, all []events.Recorded) *desired.Fold {
	t.Helper()
	f := desired.NewFold()
	for i := range all {
		if _, err := f.Apply(nil, &all[i]); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// awaitStream waits until the stream holds exactly what was rendered.
func awaitStream(t *testing.T, js jetstream.JetStream, f *desired.Fold) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, events.StreamDesired)
	if err != nil {
		t.Fatal(err)
	}
	f.Each(func(subject string, d document.Document) {
		for {
			m, err := s.GetLastMsgForSubject(ctx, subject)
			if err == nil && string(m.Data) == string(desired.Encode(d)) {
				return
			}
			if ctx.Err() != nil {
				t.Fatalf("%s: %v, want %s", subject, err, desired.Encode(d))
			}
		}
	})
	if info, err := s.Info(ctx); err != nil || int(info.State.NumSubjects) != f.Len() {
		t.Fatalf("%d subjects, want %d; %v", info.State.NumSubjects, f.Len(), err)
	}
}

func lastSeq(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), events.StreamDesired)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

func TestPublisherFollowsTheLog(t *testing.T) {
	js := bus(t)
	r := rand.New(rand.NewPCG(7, 1))
	w := projectionstest.New(r.IntN, 3).Steps(300)
	all := w.All()
	log := projectionstest.NewLog(all[:len(all)/2]...)
	p := publisher(t, js, log, always)
	awaitStream(t, js, rendered(t, all[:len(all)/2]))

	p.Apply(all[len(all)/2 : len(all)/2+10]) // the fast path is ahead of the log
	awaitStream(t, js, rendered(t, all[:len(all)/2+10]))
	p.Apply(all[len(all)-1:]) // a gap: it comes by the log
	log.Append(all[len(all)/2:]...)
	awaitStream(t, js, rendered(t, all))

	// A server that starts later finds everything published and writes nothing.
	before := lastSeq(t, js)
	var asked atomic.Int64
	publisher(t, js, log, func() bool { asked.Add(1); return true })
	for end := time.Now().Add(10 * time.Second); asked.Load() < 6 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if after := lastSeq(t, js); after != before || asked.Load() < 6 {
		t.Fatalf("%d documents were published again (looked %d times)", after-before, asked.Load())
	}
}

// A server that was the active one, and does not know that it is no more, never writes an older document over a newer one.
func TestPublisherThatIsBehind(t *testing.T) {
	js := bus(t)
	r := rand.New(rand.NewPCG(8, 1))
	all := projectionstest.New(r.IntN, 3).Steps(200).All()
	old := projectionstest.NewLog(all[:len(all)/2]...)
	behind := publisher(t, js, old, always)
	awaitStream(t, js, rendered(t, all[:len(all)/2]))
	publisher(t, js, projectionstest.NewLog(all...), always)
	awaitStream(t, js, rendered(t, all))
	// Now the one that is behind catches up, decision by decision, and tries to publish each step.
	for i := len(all) / 2; i < len(all); i++ {
		behind.Apply(all[i : i+1])
	}
	old.Append(all[len(all)/2:]...)
	want := rendered(t, all)
	awaitStream(t, js, want)
	for range 20 { // and so it stays
		awaitStream(t, js, want)
	}
}

func TestPublisherOnlyWhenActive(t *testing.T) {
	js := bus(t)
	r := rand.New(rand.NewPCG(9, 1))
	all := projectionstest.New(r.IntN, 3).Steps(100).All()
	var active atomic.Bool
	var asked atomic.Int64
	p := publisher(t, js, projectionstest.NewLog(all...), func() bool { asked.Add(1); return active.Load() })
	for end := time.Now().Add(10 * time.Second); asked.Load() < 3 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := lastSeq(t, js); n != 0 {
		t.Fatalf("%d documents of a server that is not active", n)
	}
	active.Store(true)
	p.Wake()
	awaitStream(t, js, rendered(t, all))
}

// From a stored decision to its document in a machine's hands.
func TestPublishLatency(t *testing.T) {
	js := bus(t)
	w := projectionstest.New(rand.New(rand.NewPCG(10, 1)).IntN, 3).Steps(50)
	from := len(w.All())
	log := projectionstest.NewLog(w.All()...)
	p := publisher(t, js, log, always)
	awaitStream(t, js, rendered(t, w.All()))
	w.Steps(1500)
	c, err := js.OrderedConsumer(t.Context(), events.StreamDesired, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 16)
	cc, err := c.Consume(func(m jetstream.Msg) { got <- m.Subject() })
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Stop()
	f := rendered(t, w.All()[:from])
	var took []time.Duration
	for _, r := range w.All()[from:] {
		changed, err := f.Apply(nil, &r)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		p.Apply([]events.Recorded{r})
		for range uniq(changed) {
			select {
			case <-got:
			case <-time.After(10 * time.Second):
				t.Fatalf("decision %d: no document", r.Number)
			}
		}
		if len(changed) > 0 {
			took = append(took, time.Since(began))
		}
	}
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	t.Logf("%d decisions: p50 %s, p99 %s", len(took), took[len(took)/2], took[len(took)*99/100])
	if p99 := took[len(took)*99/100]; p99 > 2*time.Second { // the figure is for the log: a busy machine stalls
		t.Errorf("p99 is %s", p99)
	}
}

func uniq(s []string) map[string]bool {
	out := map[string]bool{}
	for _, x := range s {
		out[x] = true
	}
	return out
}

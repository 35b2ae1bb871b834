package path

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/workers"
)

// counted is a world that counts what is asked of it.
type counted struct {
	*world
	mu    sync.Mutex
	calls map[string]int
}

func (c *counted) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[what]++
}

func (c *counted) taken() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.calls
	c.calls = map[string]int{}
	return was
}

func (c *counted) Sessions(ctx context.Context) ([]Session, error) {
	c.count("sessions")
	return c.world.Sessions(ctx)
}

func (c *counted) LUNs(ctx context.Context) ([]LUN, error) {
	c.count("units")
	return c.world.LUNs(ctx)
}

func (c *counted) Probe(ctx context.Context, dev string) error {
	c.count("probes")
	return c.world.Probe(ctx, dev)
}

func (c *counted) List() ([]Device, error) {
	c.count("devices")
	return c.world.List()
}

func (c *counted) Maps() ([]Device, error) {
	c.count("maps")
	return c.world.Maps()
}

func (c *counted) Paths(name string) ([]Path, error) {
	c.count("paths")
	return c.world.Paths(name)
}

func (c *counted) Tell(name, text string) error {
	c.count("told")
	return c.world.Tell(name, text)
}

// ear is a Listener that a test speaks to.
type ear struct {
	armed chan struct{}
	waits chan time.Duration
	tells chan bool
}

func newEar() *ear {
	return &ear{armed: make(chan struct{}, 100), waits: make(chan time.Duration), tells: make(chan bool)}
}

func (e *ear) Arm() error { e.armed <- struct{}{}; return nil }

func (e *ear) Wait(ctx context.Context, most time.Duration) (bool, error) {
	select {
	case e.waits <- most:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	select {
	case told := <-e.tells:
		return told, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// TestWhatACalmHostCosts: while each map has a path that works, one check in ten seconds asks each path once, and tells the kernel nothing; what
// happens to a map is followed at once.
func TestWhatACalmHostCosts(t *testing.T) {
	x := &counted{world: newWorld(100 * mib), calls: map[string]int{}}
	e := newEar()
	w := &Worker{Initiator: x, Mapper: x, Patience: time.Millisecond, Listen: func() (Listener, error) { return e, nil }}
	docs := docsOf(disk(vol1, arrayA, events.Segment{Count: 1}))
	settle(t, w, docs)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	waits := func(want time.Duration, what string) map[string]int {
		t.Helper()
		select {
		case got := <-e.waits:
			if got != want {
				t.Fatalf("%s: the next check waits %s, want %s", what, got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: no check", what)
		}
		return x.taken()
	}
	waits(defaultCalm, "all is well")
	for range 3 {
		e.tells <- false
		calls := waits(defaultCalm, "all is well")
		if calls["units"] != 1 || calls["maps"] != 1 || calls["probes"] != 2 || len(calls) != 3 {
			t.Errorf("a check without anything new asks %v", calls)
		}
	}
	x.world.mu.Lock()
	x.world.down[proxy1] = true
	x.world.mu.Unlock()
	e.tells <- true
	waits(defaultHurry, "no path works")
	e.tells <- true
	waits(defaultHurry, "no path works still")
	x.world.mu.Lock()
	x.world.active[arrayA] = proxy2
	x.world.mu.Unlock()
	e.tells <- false
	waits(defaultInterval, "one works again")
	e.tells <- true // by what the kernel was told
	waits(defaultCalm, "nothing new")
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestRestless: a look at a host is soon followed by another while something may become better by itself, and only then.
func TestRestless(t *testing.T) {
	x := newWorld(100 * mib)
	w := newWorker(x)
	docs := docsOf(disk(vol1, arrayA, events.Segment{Count: 1}))
	restless := func(want bool, what string) {
		t.Helper()
		seen, err := w.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := w.Restless(docs, seen); got != want {
			t.Errorf("%s: restless %v, want %v", what, got, want)
		}
	}
	restless(true, "nothing is there yet")
	settle(t, w, docs)
	restless(false, "all is there")
	x.down[proxy2] = true
	restless(true, "a session is lost")
	x.down[proxy2] = false
	x.luns[0].State = "transport-offline"
	restless(true, "a unit is offline")
	x.luns[0].State = "running"
	x.active[arrayA] = ""
	w.check(t.Context())
	restless(true, "no path works")
	x.active[arrayA] = proxy1
	w.check(t.Context())
	restless(false, "all is as before")
}

var _ workers.Restless[Observed] = (*Worker)(nil)

package initiator

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// quiet is a target that answers until it is silent, and notes what is done about it.
type quiet struct {
	mu     sync.Mutex
	silent bool
	resets []string
	forgot []string
}

func (q *quiet) into(x *tree) {
	x.i.edges.answers = func(context.Context, string) error {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.silent {
			return context.DeadlineExceeded
		}
		return nil
	}
	x.i.edges.reset = func(disk string) error {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.resets = append(q.resets, disk)
		return errors.New("input/output error")
	}
	x.i.edges.forget = func(device string, addr netip.Addr) error {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.forgot = append(q.forgot, device+" "+addr.String())
		return nil
	}
}

func (q *quiet) fall(silent bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.silent = silent
}

func TestASilentTargetsSessionIsReset(t *testing.T) {
	x := newTree(t)
	x.units = []unit{{1, naa1, "0"}, {2, naa2, "0"}}
	var q quiet
	q.into(x)
	for _, target := range []Target{srpTarget, tcpTarget} {
		if err := x.i.Login(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
	var w watch
	ask := func(times int) {
		for range times {
			x.i.askAll(t.Context(), &w)
		}
		w.resets.Wait()
	}
	ask(5)
	q.fall(true)
	ask(silentAsks - 1)
	q.fall(false)
	ask(1)
	q.fall(true)
	ask(silentAsks - 1)
	if len(q.resets) > 0 {
		t.Fatalf("reset after answers in between: %q", q.resets)
	}
	ask(1)
	if want := []string{"sda"}; !slices.Equal(q.resets, want) {
		t.Fatalf("resets %q, want %q: one of the session, and none over iSCSI", q.resets, want)
	}
	if want := []string{" 10.2.0.1"}; !slices.Equal(q.forgot, want) {
		t.Errorf("forgotten are %q, want %q", q.forgot, want)
	}
	sessions, err := x.i.srpSessions()
	if err != nil || len(sessions) != 1 {
		t.Fatalf("sessions %+v, %v", sessions, err)
	}
	ports, err := x.i.ports(sessions[0].Host)
	if err != nil || len(ports) != 1 {
		t.Fatalf("ports %q, %v", ports, err)
	}
	if err := x.put(ports[0]+"/state", "fail-fast"); err != nil { // as after a reset that failed
		t.Fatal(err)
	}
	ask(2 * silentAsks)
	if len(q.resets) > 1 {
		t.Errorf("a session that is down is reset: %q", q.resets)
	}
}

// TestRunAsksTargets: it goes on until its context ends, and leaves nothing behind.
func TestRunAsksTargets(t *testing.T) {
	x := newTree(t)
	x.units = []unit{{1, naa1, "0"}}
	asked := make(chan string, 64)
	x.i.edges.answers = func(_ context.Context, addr string) error {
		select {
		case asked <- addr:
		default:
		}
		return nil
	}
	if err := x.i.Login(t.Context(), srpTarget); err != nil {
		t.Fatal(err)
	}
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- x.i.Run(ctx) }()
	for range 2 {
		select {
		case addr := <-asked:
			if addr != "10.2.0.1:5555" {
				t.Errorf("asked %s", addr)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nobody asks")
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

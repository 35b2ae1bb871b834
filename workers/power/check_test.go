package power

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudengine/commands"
	"cloudengine/events"
)

// health lists what was reported of BMCs, in order.
func health(w *world) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, c := range w.commands {
		var r commands.ReportBMC
		if c.Verb == "report_bmc" && json.Unmarshal(c.Args, &r) == nil {
			out = append(out, fmt.Sprintf("%v %s", r.Healthy, r.Detail))
		}
	}
	w.commands = nil
	return out
}

func TestHealthIsToldWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		p, b := w.worker(), w.bmc(0)
		id := b.id.String()
		for _, c := range []struct {
			do   func()
			want string
		}{
			{func() {}, "[true " + id + "] [off×1]"},
			{func() {}, "[] []"},
			{func() { b.down = errors.New("no answer") }, "[false no answer] []"},
			{func() {}, "[] []"},
			{func() { b.down = nil; b.on = true }, "[true " + id + "] [on×1]"},
			{func() { b.on = false }, "[] [off×1]"}, // it never booted: nothing to prove
			{func() { b.id.GUID = strings.Repeat("f", 32) }, "[true " + id[:len(id)-32] + strings.Repeat("f", 32) + "] []"}, // the decider knows better
			{func() {}, "[] []"},
			{func() { b.password = "changed" }, "[false RAKP authentication failed] []"},
		} {
			b.mu.Lock()
			c.do()
			b.mu.Unlock()
			p.CheckAll(t.Context())
			if got := line(health(w), w.told()); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		}
		if len(b.acts) > 0 {
			t.Errorf("a check acted: %s", b)
		}
	})
}

// proofs lists the machines whose boot was proven off.
func proofs(w *world) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, r := range w.log {
		for _, e := range r.Events {
			if o, ok := e.Data.(events.MachinePowerObserved); ok && o.Proof {
				out = append(out, e.Aggregate.ID)
			}
		}
	}
	return out
}

// A machine that lost its power by itself is proven off, for the boot that was known; a flicker is not.
func TestLostPowerIsProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		for i := range 3 {
			w.boot(i)
		}
		p := w.worker()
		p.CheckAll(t.Context())
		if got := fmt.Sprint(w.told()); got != "[]" {
			t.Fatalf("all on, as recorded: %s", got)
		}
		w.bmc(1).set(false)
		w.bmc(2).set(false)
		flicker := w.bmc(2)
		reads := 0
		flicker.hook = func() {
			if reads++; reads == 1 {
				flicker.set(true)
			}
		}
		began := time.Now()
		p.CheckAll(t.Context())
		if got := fmt.Sprint(w.told(), proofs(w)); got != fmt.Sprint([]string{"off×2"}, []string{string(w.ids[1])}) || time.Since(began) < 2*time.Second {
			t.Fatalf("got %s after %s", got, time.Since(began))
		}
		p.CheckAll(t.Context())
		if got := fmt.Sprint(w.told()); got != "[]" {
			t.Fatalf("told again: %s", got)
		}
	})
}

// When many machines are read as off within the window, the readings are not believed as proof; also not when they come one by one.
func TestBrake(t *testing.T) {
	for name, rounds := range map[string][]int{"at_once": {5}, "one_by_one": {1, 1, 1, 1, 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 8)
				for i := range 8 {
					w.boot(i)
				}
				p := w.worker()
				p.CheckAll(t.Context())
				next := 0
				for _, n := range rounds {
					for range n {
						w.bmc(next).set(false)
						next++
					}
					time.Sleep(time.Minute)
					p.CheckAll(t.Context())
				}
				want := 0
				if name == "one_by_one" {
					want = brakeFew
				}
				if got := proofs(w); len(got) != want {
					t.Fatalf("%d machines proven off, want %d", len(got), want)
				}
				for i := range next { // what was read is recorded all the same
					if m, _ := w.Machine(w.ids[i]); m.Power != events.PowerIsOff {
						t.Fatalf("machine %d is recorded as %q", i, m.Power)
					}
				}
				// A human who asks gets the proof.
				mustHandle(t, p, w.power(4, events.PowerOff))
				if got := proofs(w); len(got) != want+1 {
					t.Fatalf("%d machines proven off after a human asked, want %d", len(got), want+1)
				}
				// Long after, a single loss counts again.
				time.Sleep(brakeWindow + time.Minute)
				w.bmc(7).set(false)
				p.CheckAll(t.Context())
				if got := proofs(w); len(got) != want+2 {
					t.Fatalf("%d machines proven off, want %d", len(got), want+2)
				}
			})
		})
	}
}

// Run checks until it is stopped, and leaves a machine alone that has an action under way.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		p := w.worker()
		unlock, err := p.lock(t.Context(), w.ids[0])
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		time.Sleep(3 * time.Minute)
		if got := health(w); len(got) != 1 {
			t.Errorf("reports %q, want the second machine's only", got)
		}
		unlock()
		time.Sleep(2 * lookOut)
		if got := health(w); len(got) != 1 {
			t.Errorf("reports %q, want the first machine's", got)
		}
		w.bmc(1).down = errors.New("no answer")
		time.Sleep(2 * lookOut)
		if got := health(w); len(got) != 0 {
			t.Errorf("reports %q before the time", got)
		}
		w.boot(1) // whoever enrols is checked at once
		time.Sleep(2 * lookOut)
		if got := health(w); len(got) != 1 {
			t.Errorf("reports %q, want that of the machine that enrolled", got)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

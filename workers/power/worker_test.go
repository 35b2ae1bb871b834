package power

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cloudengine/commands"
	"cloudengine/events"
)

func mustHandle(t *testing.T, p *Worker, m events.FeedMessage) {
	t.Helper()
	if err := p.Handle(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func line(a ...any) string { return strings.TrimSpace(fmt.Sprintln(a...)) }

func TestActions(t *testing.T) {
	for _, c := range []struct {
		action string
		on     bool
		slow   int
		acts   string
		told   string
		isOn   bool
	}{
		{events.PowerStatus, true, 0, "[]", "[on×1]", true},
		{events.PowerStatus, false, 0, "[]", "[off×1]", false},
		{events.PowerOn, false, 0, "[pxe on]", "[on×1]", true},
		{events.PowerOn, true, 0, "[]", "[on×1]", true},
		{events.PowerOff, true, 0, "[off]", "[off×2]", false},
		{events.PowerOff, false, 0, "[]", "[off×2]", false},
		{events.PowerCycle, true, 0, "[off pxe on]", "[off×2 on×1]", true},
		{events.PowerCycle, false, 0, "[pxe on]", "[off×2 on×1]", true},
	} {
		t.Run(fmt.Sprintf("%s_when_%v", c.action, c.on), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.bmc(0).set(c.on)
				m := w.power(0, c.action)
				p := w.worker()
				began := time.Now()
				mustHandle(t, p, m)
				if got := w.bmc(0).String(); got != c.acts {
					t.Errorf("acts %s, want %s", got, c.acts)
				}
				if got := fmt.Sprint(w.told()); got != c.told {
					t.Errorf("reports %s, want %s", got, c.told)
				}
				if w.ended(m) != "done" || w.bmc(0).isOn() != c.isOn {
					t.Errorf("operation %s, on: %v", w.ended(m), w.bmc(0).isOn())
				}
				if strings.Contains(c.told, "off×2") && time.Since(began) < 2*time.Second {
					t.Errorf("two readings within %s", time.Since(began))
				}
				mustHandle(t, p, m) // once more: the operation is over
				if got := w.bmc(0).String(); got != c.acts || len(w.told()) > 0 {
					t.Errorf("delivered again: acts %s", got)
				}
			})
		})
	}
}

// A BMC that tells the old state for a while, or says off once and on again, gives no proof until off was read twice in a row.
func TestOffIsReadTwiceInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot(0)
		b := w.bmc(0)
		m := w.power(0, events.PowerOff)
		reads := 0
		b.hook = func() {
			if reads++; reads == 2 { // after the first off, somebody presses the button
				b.set(true)
			}
		}
		mustHandle(t, w.worker(), m)
		if got := line(b, w.told(), w.ended(m)); got != "[off off] [off×2] done" || reads < 4 {
			t.Fatalf("got %s after %d readings", got, reads)
		}
	})
}

func TestNotWanted(t *testing.T) {
	for name, c := range map[string]struct {
		before func(w *world, m events.FeedMessage)
		acts   string
		told   string
	}{
		"operation_is_over": {func(w *world, m events.FeedMessage) { w.power(0, events.PowerOn) }, "[]", "[]"},
		"too_old":           {func(w *world, m events.FeedMessage) { time.Sleep(5 * time.Minute) }, "[]", "[]"},
		"machine_is_gone": {func(w *world, m events.FeedMessage) {
			w.must("admin", "machine.remove", commands.MachineRef{Machine: w.ids[0]})
		}, "[]", "[]"},
		"booted_again": {func(w *world, m events.FeedMessage) { w.boot(0) }, "[]",
			"[on×1 the machine has booted again since this was asked for: look, and ask again]"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.boot(0)
				m := w.power(0, events.PowerOff)
				c.before(w, m)
				mustHandle(t, w.worker(), m)
				if got := line(w.bmc(0), w.told()); got != c.acts+" "+c.told {
					t.Fatalf("got %s, want %s %s", got, c.acts, c.told)
				}
			})
		})
	}
}

// The log changes its mind between the worker's look and its act: the last word before the act counts.
func TestSupersededAtTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot(0)
		m := w.power(0, events.PowerOff)
		asked := false
		w.bmc(0).hook = func() {
			if !asked {
				asked = true
				w.power(0, events.PowerOn)
			}
		}
		mustHandle(t, w.worker(), m)
		if got := line(w.bmc(0), w.told()); got != "[] []" {
			t.Fatalf("got %s", got)
		}
	})
}

func TestCycleIsNotRepeatedAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot(0)
		m := w.power(0, events.PowerCycle)
		ctx, crash := context.WithCancel(t.Context())
		w.answer = func(c commands.Command) (events.Answer, error) {
			if strings.Contains(string(c.Args), `"state":"on"`) {
				crash() // after the power is back, before anyone knows
				return events.Answer{}, errors.New("no answer")
			}
			return events.Answer{}, nil
		}
		if err := w.worker().Handle(ctx, m); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		w.answer = nil
		mustHandle(t, w.worker(), m)
		if got := line(w.bmc(0), w.told(), w.ended(m)); got != "[off pxe on] [off×2 on×1] done" {
			t.Fatalf("got %s", got)
		}
	})
}

// A machine that enrols between the two deliveries of a cycle has booted anew: it is not cut off again, whatever FEED remembers.
func TestCycleThatBootedIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot(0)
		m := w.power(0, events.PowerCycle)
		w.boot(0)
		p := w.worker()
		p.cfg.LastObserved = nil
		mustHandle(t, p, m)
		if got := line(w.bmc(0), w.told(), w.ended(m)); got != "[] [on×1] done" {
			t.Fatalf("got %s", got)
		}
	})
}

// A report is repeated with the same id until it is answered; the secret stays out of it.
func TestAnotherControllerIsNotSwitchedAndProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot(0)
		p := w.worker()
		p.CheckAll(t.Context())
		b := w.bmc(0)
		b.mu.Lock()
		b.id.GUID = strings.Repeat("f", 32)
		b.mu.Unlock()
		m := w.power(0, events.PowerOff)
		mustHandle(t, p, m)
		if got := b.String(); got != "[]" || !strings.HasPrefix(w.ended(m), "failed: another controller") {
			t.Errorf("acts %s, operation %s: another machine's power was touched", got, w.ended(m))
		}
		b.set(false) // it is off: of whom this tells is not known
		p.CheckAll(t.Context())
		if got := proofs(w); len(got) > 0 {
			t.Errorf("proofs %v", got)
		}
	})
}

func TestAMachineThatIsHeardIsNotOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.boot(0)
		p := w.worker()
		p.CheckAll(t.Context())
		p.cfg.LastHeard = func(events.MachineID) time.Time { return time.Now().Add(-time.Second) } // it goes on and on
		m := w.power(0, events.PowerOff)
		mustHandle(t, p, m)
		if got := proofs(w); len(got) > 0 || !strings.Contains(w.ended(m), "was heard") {
			t.Errorf("proofs %v, operation %s", got, w.ended(m))
		}
		p.cfg.LastHeard = func(events.MachineID) time.Time { return time.Now().Add(-time.Hour) }
		m = w.power(0, events.PowerOff)
		mustHandle(t, p, m)
		if got := proofs(w); len(got) != 1 || w.ended(m) != "done" {
			t.Errorf("of a silent machine: proofs %v, operation %s", got, w.ended(m))
		}
	})
}

func TestReportUntilAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		m := w.power(0, events.PowerStatus)
		tries := 0
		w.answer = func(commands.Command) (events.Answer, error) {
			switch tries++; tries {
			case 1:
				return events.Answer{}, errors.New("no answer in time")
			case 2:
				return events.Answer{Outcome: events.Outcome{Status: events.Refused, Code: events.CodeBusy}}, nil
			case 3:
				return events.Answer{Outcome: events.Outcome{Status: events.Refused, Code: events.CodeUnavailable}}, nil
			}
			return events.Answer{}, nil
		}
		mustHandle(t, w.worker(), m)
		if len(w.commands) != 4 || w.ended(m) != "done" {
			t.Fatalf("%d reports, operation %s", len(w.commands), w.ended(m))
		}
		for _, c := range w.commands {
			if c.Intent != w.commands[0].Intent || string(c.Args) != string(w.commands[0].Args) || strings.Contains(string(c.Args), testPassword) {
				t.Fatalf("got %+v after %+v", c, w.commands[0])
			}
		}
	})
}

func TestBMCThatIsDownFailsInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.boot(0)
		m := w.power(0, events.PowerOff)
		w.bmc(0).down = errors.New("no route\nto host")
		began := time.Now()
		mustHandle(t, w.worker(), m)
		if took := time.Since(began); took < 2*time.Minute || took > 3*time.Minute {
			t.Errorf("it took %s", took)
		}
		if got := line(w.bmc(0), w.told(), w.ended(m)); got != "[] [unknown×0 no route to host] failed: no route to host" {
			t.Errorf("got %s", got)
		}
		// It comes back within the time: all is well.
		m = w.power(1, events.PowerOn)
		b := w.bmc(1)
		b.down = errors.New("rebooting")
		go func() {
			time.Sleep(30 * time.Second)
			b.mu.Lock()
			b.down = nil
			b.mu.Unlock()
		}()
		mustHandle(t, w.worker(), m)
		if got := line(b, w.told(), w.ended(m)); got != "[pxe on] [on×1] done" {
			t.Errorf("got %s", got)
		}
	})
}

func TestForeignMessage(t *testing.T) {
	w := newWorld(t, 1)
	m := events.FeedMessage{Number: 1, Time: "2026-01-01T00:00:00Z", Event: events.New(events.KindMachine, "x", 1, events.MachineSilent{})}
	if err := w.worker().Handle(t.Context(), m); err == nil {
		t.Fatal("a message that is not for the worker was taken")
	}
}

package power

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"cloudengine/events"
)

// watch makes a BMC complain when something is done to it that the log does not want at that moment.
func (w *world) watch(i int, complain func(string)) {
	b := w.bmc(i)
	b.onAct = func(act string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		m, _ := w.s.Machine(w.ids[i])
		for _, r := range w.log {
			for _, e := range r.Events {
				want, ok := e.Data.(events.MachinePowerWanted)
				if !ok || e.Aggregate.ID != string(w.ids[i]) || !w.s.OperationOpen(want.Operation) || time.Since(r.Time) >= 5*time.Minute {
					continue
				}
				switch {
				case act == "off" && (want.Action == events.PowerOff || want.Action == events.PowerCycle) && want.Boot == m.Boot:
					return
				case act != "off" && (want.Action == events.PowerOn || want.Action == events.PowerCycle):
					return
				}
			}
		}
		complain(fmt.Sprintf("machine %d, boot %s: %s, which nobody wants", i, m.Boot, act))
	}
}

// I7: whatever was asked for, and however often, late and in whatever order its messages come, at one worker or two and over crashes,
// nothing is done to a machine but what the log wants at that very moment.
func TestOnlyWhatIsWantedIsDone(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		synctest.Test(t, func(t *testing.T) { history(t, r) })
	})
}

var pauses = []time.Duration{0, 100 * time.Millisecond, 700 * time.Millisecond, 2 * time.Second, 3 * time.Second, time.Minute, 6 * time.Minute}

func history(t *testing.T, r *rapid.T) {
	const machines = 2
	var (
		w       = newWorld(t, machines)
		sent    []events.FeedMessage
		wrong   []string
		running sync.WaitGroup
		workers = []*Worker{w.worker(), w.worker()}
	)
	for i := range machines {
		w.boot(i)
		w.watch(i, func(s string) { wrong = append(wrong, s) }) // under w.mu
	}
	ctx, crash := context.WithCancel(t.Context())
	machine := rapid.IntRange(0, machines-1)
	for range rapid.IntRange(1, 25).Draw(r, "events") {
		switch rapid.SampledFrom([]string{"ask", "ask", "deliver", "deliver", "deliver", "wait", "boot", "button", "crash"}).Draw(r, "what") {
		case "ask":
			action := rapid.SampledFrom([]string{events.PowerOn, events.PowerOff, events.PowerCycle, events.PowerStatus}).Draw(r, "action")
			sent = append(sent, w.power(machine.Draw(r, "machine"), action))
		case "deliver":
			if len(sent) == 0 {
				continue
			}
			m := rapid.SampledFrom(sent).Draw(r, "message")
			p := rapid.SampledFrom(workers).Draw(r, "worker")
			running.Go(func() { _ = p.Handle(ctx, m) }) // an error: it crashed, and the message may come again
		case "wait":
			time.Sleep(rapid.SampledFrom(pauses).Draw(r, "pause"))
		case "boot":
			w.boot(machine.Draw(r, "machine"))
		case "button":
			w.bmc(machine.Draw(r, "machine")).set(rapid.Bool().Draw(r, "on"))
		case "crash":
			crash()
			running.Wait()
			ctx, crash = context.WithCancel(t.Context())
			workers[0] = w.worker()
		}
	}
	running.Wait()
	crash()
	// All of it once more, as after a rebuild of FEED: by then no operation may be young and open but the last.
	time.Sleep(6 * time.Minute)
	before := fmt.Sprint(w.bmc(0), w.bmc(1))
	for _, m := range sent {
		if err := workers[1].Handle(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if after := fmt.Sprint(w.bmc(0), w.bmc(1)); after != before {
		wrong = append(wrong, fmt.Sprintf("a replay did something: %s, then %s", before, after))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(wrong) > 0 {
		r.Fatalf("%q", wrong)
	}
}

package api

import (
	"fmt"
	"testing"
	"time"

	"cloudengine/events"
)

// TestGateHoldsOneBackAndNotTheOthers has one sender with all that he may have under way, who is told so at first and then not any more.
func TestGateHoldsOneBackAndNotTheOthers(t *testing.T) {
	g := newGate()
	count := map[verdict]int{}
	for range 5000 {
		count[g.enter("eve", "read", mostReads, 1e6)]++
	}
	if count[pass] != mostReads || count[busy] == 0 || count[busy] > 2*toldPerSec || count[drop] == 0 {
		t.Fatalf("verdicts %v", count)
	}
	if v := g.enter("eve", "do", mostIntents, 1e6); v != pass {
		t.Errorf("her questions hold her intents back: %v", v)
	}
	if v := g.enter("bob", "read", mostReads, 1e6); v != pass {
		t.Errorf("another is held back: %v", v)
	}
	g.leave("eve", "read", nil)
	if v := g.enter("eve", "read", mostReads, 1e6); v != pass {
		t.Errorf("one is over, and the next is held back: %v", v)
	}
}

func TestGateBoundsTheRate(t *testing.T) {
	g, passed, began := newGate(), 0, time.Now()
	for range 1000 {
		if g.enter("eve", "do", mostIntents, 200) == pass {
			passed++
			g.leave("eve", "do", nil)
		}
	}
	if passed < 200 || float64(passed) > 400+200*time.Since(began).Seconds() {
		t.Errorf("%d of 1000 at once with 200 per second", passed)
	}
}

// TestGateBoundsWhatIsStored has a user refused again and again: each refusal is kept for ever, so they become few.
func TestGateBoundsWhatIsStored(t *testing.T) {
	g, stored := newGate(), 0
	refused := events.Answer{Number: 7, Outcome: events.Outcome{Status: events.Refused, Code: events.CodeNotFound}}
	for range 4 * refusalsAtATime {
		if g.enter("eve", "do", mostIntents, 1e6) == pass {
			stored++
			g.leave("eve", "do", refused)
		}
	}
	if stored < refusalsAtATime || stored > 2*refusalsAtATime {
		t.Errorf("%d refusals were stored", stored)
	}
	for range 2 * refusalsAtATime {
		if g.enter("bob", "do", mostIntents, 1e6) != pass {
			t.Fatal("one who is not refused is held back")
		}
		g.leave("bob", "do", events.Answer{Number: 8, Outcome: events.Outcome{Status: events.Accepted}})
	}
}

func TestGateForgetsWhoIsGone(t *testing.T) {
	g := newGate()
	for i := range 100 {
		g.enter(fmt.Sprint("user", i), "do", 1, 10)
		if i > 0 {
			g.leave(fmt.Sprint("user", i), "do", nil)
		}
	}
	for _, s := range g.senders {
		s.last = s.last.Add(-2 * idleSender)
	}
	g.swept = time.Time{}
	g.enter("late", "do", 1, 10)
	if n := len(g.senders); n != 2 || g.senders["user0"] == nil {
		t.Errorf("%d senders are known, want the late one and the one with a request under way", n)
	}
}

func TestClassOf(t *testing.T) {
	for subject, want := range map[string]string{
		"do.eve.vm.create": "eve do", "read.eve.vm.list": "eve read", "read.eve.log.why": "eve log", "read.eve.cloud.verify": "eve log",
		"rep.m1.state": "machine:m1 rep", "put.eve.blob": "eve put", "console.eve.vm": "eve console", "own.system.x.y": "system own",
	} {
		who, class, most := classOf(subject)
		if got := who + " " + class; got != want || most < 1 {
			t.Errorf("%s: %s, %d", subject, got, most)
		}
	}
}

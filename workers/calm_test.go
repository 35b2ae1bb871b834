package workers

import (
	"context"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// restlessToy is a toy that is never calm while it holds the object "clock".
type restlessToy struct{ *toy }

func (w restlessToy) Restless(_ []desired.Document, seen map[string]int) bool {
	return seen["clock"] > 0
}

// TestLooksAreRareOnlyAfterAWhileWithoutAnything: what happens, or may happen, makes the loop look often again.
func TestLooksAreRareOnlyAfterAWhileWithoutAnything(t *testing.T) {
	w := newToy()
	now := time.Unix(1000, 0)
	var published []Snapshot
	l := NewLoop[map[string]int](restlessToy{w}, NewWishes("m", "b"), Options{
		Interval: 2 * time.Second, Calm: 10 * time.Second, now: func() time.Time { return now },
		Publish: func(s Snapshot) { published = append(published, s) },
	})
	look := func(want time.Duration, what string) {
		t.Helper()
		if got := l.pass(context.Background()); got != want {
			t.Fatalf("%s: the next look waits %s, want %s", what, got, want)
		}
		now = now.Add(2 * time.Second)
	}
	settle := func(what string) {
		t.Helper()
		for range calmAfter / (2 * time.Second) {
			look(2*time.Second, what)
		}
		look(10*time.Second, what+", after a while")
	}
	look(2*time.Second, "first look")
	settle("nothing happens")

	l.Drain()
	look(10*time.Second, "a complete report is asked for")

	w.values["other"] = 1
	look(2*time.Second, "something is seen")
	settle("seen before")

	l.Wake()
	look(2*time.Second, "woken")
	settle("nothing came of it")

	w.broken = true
	if got := l.pass(context.Background()); got > 2*time.Second {
		t.Fatalf("a look that failed is tried again after %s", got)
	}
	w.broken = false
	look(2*time.Second, "it can be seen again")
	settle("it goes on")

	l.busy[events.Ref{Kind: "toy", ID: "x"}] = true
	for range 20 {
		look(2*time.Second, "steps are under way")
	}
	delete(l.busy, events.Ref{Kind: "toy", ID: "x"})
	look(2*time.Second, "they have ended")
	settle("they have ended")

	w.values["clock"] = 1
	for range 20 {
		look(2*time.Second, "something changes by the clock")
	}
	if n := len(published); n < 80 {
		t.Errorf("%d looks published, want each", n)
	}
}

// TestAReportIsNotMadeOfWhatWasTold: looks that see nothing new do not wake the reporter, unless all must be told again.
func TestAReportIsNotMadeOfWhatWasTold(t *testing.T) {
	r := &StorageReporter{Drain: func() {}}
	publish := r.Part("disks")
	woken := func() bool {
		select {
		case <-r.notice:
			return true
		default:
			return false
		}
	}
	publish(Snapshot{Storage: oneDisk})
	if !woken() {
		t.Fatal("what is new must be told")
	}
	r.told = "what was answered"
	publish(Snapshot{Storage: oneDisk, Complete: true})
	if woken() {
		t.Error("nothing is new")
	}
	publish(Snapshot{Storage: events.StorageReport{}})
	if !woken() {
		t.Error("it is gone: that is new")
	}
	r.Disconnected()
	publish(Snapshot{Storage: events.StorageReport{}})
	if !woken() {
		t.Error("after a loss of the connection all is told again")
	}
}

package proxy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/md"
)

func resync(r desired.Resync) func(*desired.Array) {
	return func(a *desired.Array) { a.Resync = r }
}

func (e *engine) md(t *testing.T) *md.Array {
	t.Helper()
	if len(e.w.arrays) != 1 {
		t.Fatalf("%d arrays run", len(e.w.arrays))
	}
	return &e.w.arrays[0]
}

// running has an array of two legs under epoch 1.
func running(t *testing.T) *engine {
	t.Helper()
	e := newEngine(newWorld(2, 1))
	e.say(e.doc(desired.Active, 1, fresh))
	e.want(t, events.ArrayActive)
	return e
}

func TestSpeedAndHold(t *testing.T) {
	e := running(t)
	if a := e.md(t); a.Sync.MaxKiB != 0 || a.SyncAction != md.ActionIdle {
		t.Fatalf("a document that says nothing changes what md does: %+v", a.Sync)
	}
	e.say(e.doc(desired.Active, 1, resync(desired.Resync{LimitKiB: 500, Hold: desired.HoldPaused})))
	if r := e.want(t, events.ArrayActive); r.Sync != md.ActionFrozen || r.Needs != "" || r.Message != "" {
		t.Fatalf("report %+v", r)
	}
	if a := e.md(t); a.Sync.MaxKiB != 500 || a.Sync.MinKiB != 500 || a.SyncAction != md.ActionFrozen {
		t.Fatalf("md %+v", a)
	}
	before := len(e.w.calls)
	e.restart()
	e.want(t, events.ArrayActive)
	if got := e.w.calls[before:]; len(got) > 0 {
		t.Fatalf("it is so already, and a new agent does %q", got)
	}
	e.say(e.doc(desired.Active, 1, resync(desired.Resync{LimitKiB: desired.NoLimitKiB})))
	e.want(t, events.ArrayActive)
	if a := e.md(t); a.Sync.MaxKiB != desired.NoLimitKiB || a.Sync.MinKiB != 1000 || a.SyncAction != md.ActionIdle {
		t.Fatalf("md %+v", a)
	}
}

// TestALegThatReturnsWhileHeld is taken, so that what it missed is known, and copied to when nothing holds the array any more.
func TestALegThatReturnsWhileHeld(t *testing.T) {
	e := running(t)
	held := resync(desired.Resync{LimitKiB: 20480, Hold: desired.HoldBehind})
	e.say(e.doc(desired.Active, 1, held))
	e.want(t, events.ArrayActive)
	e.w.disks[0].there = false
	for range 4 {
		_, _ = e.pass()
	}
	e.w.disks[0].there = true
	if r := e.want(t, events.ArrayActive); r.Degraded != 1 || r.Needs != events.SyncRecover || r.Sync != md.ActionFrozen || r.Legs[0] != events.LegMissing {
		t.Fatalf("report %+v", r)
	}
	e.say(e.doc(desired.Active, 1, resync(desired.Resync{LimitKiB: 20480})))
	if r := e.want(t, events.ArrayActive); r.Degraded != 0 || r.Needs != "" || r.Sync != "" {
		t.Fatalf("report %+v", r)
	}
}

// TestANewOwnerSaysItAgain: limits and pauses end with md's array.
func TestANewOwnerSaysItAgain(t *testing.T) {
	e := running(t)
	paused := resync(desired.Resync{LimitKiB: 20480, Hold: desired.HoldPaused})
	e.say(e.doc(desired.Active, 1, paused))
	e.want(t, events.ArrayActive)
	e.say(e.doc(desired.Standby, 1))
	e.want(t, events.ArrayStandby)
	e.say(e.doc(desired.Active, 2, paused))
	e.want(t, events.ArrayActive)
	if a := e.md(t); a.Sync.MaxKiB != 20480 || a.SyncAction != md.ActionFrozen {
		t.Fatalf("md %+v", a)
	}
}

func TestCheckFromItsBeginningToItsReport(t *testing.T) {
	e := running(t)
	e.say(e.doc(desired.Active, 1, resync(desired.Resync{Check: "c1"})))
	if r := e.want(t, events.ArrayActive); r.Sync != events.SyncCheck || r.Checked != "" {
		t.Fatalf("report %+v", r)
	}
	e.w.checkBreaks()
	if r := e.want(t, events.ArrayActive); e.w.checks != 2 || r.Checked != "" {
		t.Fatalf("%d checks after one was broken off: report %+v", e.w.checks, r)
	}
	e.restart()
	if r := e.want(t, events.ArrayActive); e.w.checks != 3 || r.Checked != "" { // nobody knows when the other began
		t.Fatalf("%d checks after another agent came: report %+v", e.w.checks, r)
	}
	e.w.checkEnds(128)
	for range 2 {
		if r := e.want(t, events.ArrayActive); r.Checked != "c1" || r.Mismatches != 128 || r.Sectors != sectors || e.w.checks != 3 {
			t.Fatalf("report %+v", r)
		}
	}
	e.say(e.doc(desired.Active, 1))
	if r := e.want(t, events.ArrayActive); r.Checked != "" || e.w.checks != 3 {
		t.Fatalf("report %+v", r)
	}
	e.say(e.doc(desired.Active, 1, resync(desired.Resync{Check: "c2"})))
	if r := e.want(t, events.ArrayActive); r.Checked != "" || e.w.checks != 4 {
		t.Fatalf("what md says of an earlier check is told of the next: %+v", r)
	}
	e.say(e.doc(desired.Active, 1)) // it was stopped
	if r := e.want(t, events.ArrayActive); r.Sync != "" {
		t.Fatalf("report %+v", r)
	}
}

// TestACheckWaits: for a leg that is missing, and for whatever holds the array.
func TestACheckWaits(t *testing.T) {
	e := running(t)
	e.w.disks[1].there = false
	for range 4 {
		_, _ = e.pass()
	}
	e.say(e.doc(desired.Active, 1, resync(desired.Resync{Check: "c1"})))
	for range 4 {
		_, _ = e.pass()
	}
	if r := e.last[arrayID]; r.Degraded != 1 || e.w.checks != 0 {
		t.Fatalf("report %+v", r)
	}
	e.say(e.doc(desired.Active, 1, resync(desired.Resync{Check: "c1", Hold: desired.HoldBehind})))
	e.w.disks[1].there = true
	if e.want(t, events.ArrayActive); e.w.checks != 0 {
		t.Fatal("a check begins while the array is held")
	}
	e.say(e.doc(desired.Active, 1, resync(desired.Resync{Check: "c1"})))
	if r := e.want(t, events.ArrayActive); e.w.checks != 1 || r.Degraded != 0 {
		t.Fatalf("%d checks, report %+v", e.w.checks, r)
	}
	e.say(e.doc(desired.Active, 1, resync(desired.Resync{Check: "c1", Hold: desired.HoldBehind})))
	if r := e.want(t, events.ArrayActive); r.Sync != md.ActionFrozen || r.Checked != "" {
		t.Fatalf("report %+v", r)
	}
	e.check(t)
}

// TestKilledAtEachStep: whatever call the agent dies before or after, the next one ends where it should, and never tells of a check that was
// not done to its end.
func TestKilledAtEachStep(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			e := running(t)
			e.w.disks[0].there = false
			for range 4 {
				_, _ = e.pass()
			}
			e.w.disks[0].there = true
			e.w.killIn, e.w.after = at, after
			e.say(e.doc(desired.Active, 1, resync(desired.Resync{LimitKiB: 2048, Hold: desired.HoldPaused})))
			killed := e.until(t, func() bool { return e.md(t).SyncAction == md.ActionFrozen })
			e.say(e.doc(desired.Active, 1, resync(desired.Resync{LimitKiB: 2048, Check: "c1"})))
			killed = e.until(t, func() bool { return e.last[arrayID].Sync == events.SyncCheck }) || killed
			e.w.checkEnds(0)
			killed = e.until(t, func() bool {
				e.w.checkEnds(0) // of another one, if the agent was killed after it
				return e.last[arrayID].Checked == "c1"
			}) || killed
			if e.w.ended == 0 || e.md(t).Sync.MaxKiB != 2048 || e.last[arrayID].Degraded != 0 {
				t.Fatalf("killed at %d: %d checks ended, md %+v", at, e.w.ended, e.md(t))
			}
			if !killed {
				if at < 4 {
					t.Fatalf("only %d calls: %s", at, strings.Join(e.w.calls, ", "))
				}
				break
			}
		}
	}
}

// until passes until something is so. It says whether the agent was killed meanwhile.
func (e *engine) until(t *testing.T, so func() bool) (killed bool) {
	t.Helper()
	for range 40 {
		if _, err := e.pass(); errors.Is(err, errKilled) {
			killed = true
		}
		e.check(t)
		if so() {
			return killed
		}
	}
	t.Fatalf("not in time: %+v, last calls %v", e.last, slices.Clone(e.w.calls[max(0, len(e.w.calls)-20):]))
	return false
}

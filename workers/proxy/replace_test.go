package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/md"
	"cloudengine/workers/proxy"
)

// replaces names a disk that follows a leg.
func replaces(slot int, d *disk, want string) func(*desired.Array) {
	return func(a *desired.Array) {
		a.Replacements = append(a.Replacements, desired.Replacement{Leg: d.leg(slot), Want: want})
	}
}

// newReplacing has an array of four legs that was made, and a fifth disk.
func newReplacing(t *testing.T) (*engine, *disk) {
	t.Helper()
	w := newWorld(2, 2)
	d := w.addSpare(0)
	e := newEngine(w)
	e.say(e.doc(desired.Active, 1, fresh))
	if r := e.want(t, events.ArrayActive); len(r.Disks) != 4 || r.Disks[0] != w.disks[0].id() || r.Beside != nil {
		t.Fatalf("report %+v", r)
	}
	return e, d
}

// replacedBy passes until a disk is the leg in slot 0, alone.
func (e *engine) replacedBy(t *testing.T, d *disk) events.ArrayReport {
	t.Helper()
	for range 60 {
		_, _ = e.pass()
		e.check(t)
		if r := e.last[arrayID]; r.State == events.ArrayActive && len(r.Disks) > 0 && r.Disks[0] == d.id() && r.Beside == nil {
			return r
		}
		e.clock.now = e.clock.now.Add(3 * time.Second)
	}
	t.Fatalf("%s is not the leg: %+v, last calls %v", d.naa, e.last[arrayID], e.w.calls[max(0, len(e.w.calls)-30):])
	return events.ArrayReport{}
}

// TestReplaceALegThatIsGood: no copy is missing at any time; the report tells when the new disk is the leg.
func TestReplaceALegThatIsGood(t *testing.T) {
	e, d := newReplacing(t)
	e.say(e.doc(desired.Active, 1, replaces(0, d, desired.There)))
	for range 20 {
		if _, err := e.pass(); err != nil {
			t.Fatal(err)
		}
		if r := e.last[arrayID]; r.Degraded != 0 || r.State != events.ArrayActive || r.Legs[0] != events.LegInSync {
			t.Fatalf("report %+v", r)
		}
	}
	e.check(t)
	if r := e.want(t, events.ArrayActive); r.Disks[0] != d.id() || r.Beside != nil || r.Message != "" {
		t.Fatalf("report %+v", r)
	}
	if a := e.w.arrays[0]; len(a.Members) != 4 || a.Of(dev(e.w.disks[0].naa)) != nil {
		t.Fatalf("md has %+v", a.Members)
	}
	e.w.disks[0].spare, d.spare, d.slot = true, false, 0
	e.w.disks[0].super = nil
	e.say(e.doc(desired.Active, 1))
	if r := e.want(t, events.ArrayActive); r.Disks[0] != d.id() || e.w.arrays[0].Of(dev(e.w.disks[0].naa)) != nil {
		t.Fatalf("report %+v", r)
	}
}

// TestReplaceALegThatIsGone: the new disk takes its slot; the leg that comes back is not joined beside it.
func TestReplaceALegThatIsGone(t *testing.T) {
	e, d := newReplacing(t)
	old := e.w.disks[0]
	old.there = false
	_, _ = e.pass()
	_, _ = e.pass()
	e.say(e.doc(desired.Active, 1, replaces(0, d, desired.There)))
	if r := e.replacedBy(t, d); r.Degraded != 0 {
		t.Fatalf("report %+v", r)
	}
	old.there = true
	before := len(e.w.calls)
	if r := e.want(t, events.ArrayActive); r.Disks[0] != d.id() || len(e.w.calls) != before {
		t.Fatalf("report %+v, calls %v", r, e.w.calls[before:])
	}
	e.say(e.doc(desired.Standby, 1)) // and it is not assembled in the place of the new one
	e.want(t, events.ArrayStandby)
	e.say(e.doc(desired.Active, 2, replaces(0, d, desired.There)))
	if r := e.want(t, events.ArrayActive); r.Disks[0] != d.id() || r.Degraded != 0 {
		t.Fatalf("report %+v", r)
	}
}

// TestReplaceByADiskThatCannotBeHad: it says why, and the leg stays, or comes back.
func TestReplaceByADiskThatCannotBeHad(t *testing.T) {
	for why, bad := range map[string]func(d *disk){
		"it is not there": func(d *disk) { d.there = false },
	} {
		e, d := newReplacing(t)
		bad(d)
		e.say(e.doc(desired.Active, 1, replaces(0, d, desired.There)))
		for range 6 {
			_, _ = e.pass()
		}
		if r := e.last[arrayID]; !strings.Contains(r.Message, why) || r.Disks[0] != e.w.disks[0].id() {
			t.Fatalf("%s: report %+v", why, r)
		}
		e.w.disks[0].there = false
		for range 4 {
			_, _ = e.pass()
		}
		e.w.disks[0].there = true
		if r := e.replacedBy(t, e.w.disks[0]); r.Degraded != 0 {
			t.Fatalf("%s: the leg is back: %+v", why, r)
		}
	}
	e, d := newReplacing(t)
	e.say(e.doc(desired.Active, 1, func(a *desired.Array) {
		a.Replacements = []desired.Replacement{{Leg: e.w.disks[1].leg(0), Want: desired.There}}
	}))
	_, _ = e.pass()
	if r := e.last[arrayID]; r.State == events.ArrayActive || !strings.Contains(r.Message, "is a leg") || d.super != nil {
		t.Fatalf("a leg that shall follow another: %+v", r)
	}
}

// TestACancelledReplacement: md lets go of the disk; one that is the leg already stays, whatever the document says.
func TestACancelledReplacement(t *testing.T) {
	e, d := newReplacing(t)
	e.say(e.doc(desired.Active, 1, replaces(0, d, desired.There)))
	_, _ = e.pass() // reserves it
	_, _ = e.pass()
	if e.w.arrays[0].Beside(0) == nil {
		t.Fatalf("md has %+v", e.w.arrays[0].Members)
	}
	e.say(e.doc(desired.Active, 1, replaces(0, d, desired.Absent)))
	if r := e.want(t, events.ArrayActive); r.Disks[0] != e.w.disks[0].id() || r.Beside != nil || e.w.arrays[0].Of(dev(d.naa)) != nil {
		t.Fatalf("report %+v", r)
	}
	e.say(e.doc(desired.Active, 1, replaces(0, d, desired.There)))
	e.replacedBy(t, d)
	e.say(e.doc(desired.Active, 1, replaces(0, d, desired.Absent)))
	if r := e.want(t, events.ArrayActive); r.Disks[0] != d.id() || r.Degraded != 0 {
		t.Fatalf("it is the leg already: %+v", r)
	}
}

// TestReplaceIsKilledAnywhere dies before and after every call, of a replacement of a leg that is good and of one that is gone, with a takeover in
// the middle and without.
func TestReplaceIsKilledAnywhere(t *testing.T) {
	run := func(gone, moved bool, killAt int, after bool) (calls int) {
		e, d := newReplacing(t)
		e.w.disks[0].there = !gone
		e.say(e.doc(desired.Active, 1, replaces(0, d, desired.There)))
		before := len(e.w.calls)
		e.w.killIn, e.w.after = killAt, after
		if moved {
			for range 2 {
				_, _ = e.pass()
			}
			e.say(e.doc(desired.Standby, 1))
			e.want(t, events.ArrayStandby)
			e.say(e.doc(desired.Active, 2, replaces(0, d, desired.There)))
		}
		r := e.replacedBy(t, d)
		if r.Degraded != 0 || len(e.w.arrays[0].Members) != 4 || e.w.exports[arrayID].State != proxy.ExportActive {
			t.Fatalf("killed at %d: %+v, md has %+v", killAt, r, e.w.arrays[0].Members)
		}
		return len(e.w.calls) - before
	}
	for _, x := range []struct{ gone, moved bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		n := run(x.gone, x.moved, 0, false)
		if n < 2 {
			t.Fatalf("%+v: %d calls", x, n)
		}
		for at := 1; at <= n; at++ {
			run(x.gone, x.moved, at, false)
			run(x.gone, x.moved, at, true)
		}
	}
}

// TestAJoinThatWasCutOff: a disk that came into md and has no slot is taken out before md may take it into any that is free.
func TestAJoinThatWasCutOff(t *testing.T) {
	e, d := newReplacing(t)
	a := &e.w.arrays[0]
	s := *e.w.disks[0].super
	s.Roles = slices.Repeat([]uint16{0xfffe}, len(e.w.disks))
	d.super = &s
	a.Members = append(a.Members, md.Member{Dev: dev(d.naa), Slot: -1, States: []string{"spare"}})
	a.SyncAction = "frozen"
	before := len(e.w.calls)
	_, _ = e.pass()
	if got := fmt.Sprint(e.w.calls[before:]); !strings.HasPrefix(got, "[remove "+dev(d.naa)) {
		t.Fatalf("calls %s", got)
	}
}

//go:build lab

package proxy_test

import (
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/md"
)

// follows waits until the fifth disk is the leg in slot 0, and the log would take it for that.
func (x *lab) follows(d *disk) events.ArrayReport {
	x.Helper()
	return x.until("the new leg", func(r events.ArrayReport) bool {
		return r.State == events.ArrayActive && len(r.Disks) == 4 && r.Disks[0] == d.id() && r.Legs[0] == events.LegInSync && r.Beside == nil && r.Degraded == 0
	})
}

// only gives the array to another owner whose set 0 has nothing but the fifth disk.
func (x *lab) only(l local, d *disk, epoch uint64, want map[int]string) {
	x.Helper()
	x.say(x.doc(desired.Standby, epoch-1))
	x.state(events.ArrayStandby)
	x.w.disks[0].spare, d.spare = true, false
	l.state["vdb"] = "transport-offline"
	x.say(x.doc(desired.Active, epoch, volume(v1ID, desired.There, v1...)))
	x.state(events.ArrayActive)
	x.holds(want)
	clear(l.state)
	x.until("all legs", func(r events.ArrayReport) bool { return r.Degraded == 0 && r.Sync == "" })
	x.w.disks[0].spare, d.spare = false, true
}

func newLabReplacing(t *testing.T) (*lab, local, *disk) {
	x, l := newLab(t)
	d := x.w.addSpare(0)
	x.say(x.doc(desired.Active, 1, fresh, volume(v1ID, desired.There, v1...)))
	x.ready(1)
	x.write(1, "customer")
	return x, l, d
}

// TestRealReplaceOfAGoodLeg on the real md: no copy is missing meanwhile, and the new disk alone has all that was written before and after.
func TestRealReplaceOfAGoodLeg(t *testing.T) {
	x, l, d := newLabReplacing(t)
	x.say(x.doc(desired.Active, 1, volume(v1ID, desired.There, v1...), replaces(0, d, desired.There)))
	x.until("its beginning", func(r events.ArrayReport) bool {
		if r.Degraded != 0 || r.State != events.ArrayActive {
			t.Fatalf("report %+v", r)
		}
		all, err := md.List("")
		return err == nil && len(all) == 1 && all[0].Of("vde") != nil
	})
	x.write(9, "later")
	x.follows(d)
	all, err := md.List("")
	if err != nil || len(all) != 1 || all[0].Of("vda") != nil {
		t.Errorf("md has the old leg: %+v, %v", all, err)
	}
	x.only(l, d, 2, map[int]string{0: "", 1: "customer", 9: "later"})
	x.say(x.doc(desired.Absent, 2))
	x.state(events.ArrayAbsent)
}

// TestRealReplaceOfADeadLeg on the real md: it is filled from the other copy; the dead leg that comes back is not joined.
func TestRealReplaceOfADeadLeg(t *testing.T) {
	x, l, d := newLabReplacing(t)
	l.state["vda"] = "transport-offline"
	x.until("the loss", func(r events.ArrayReport) bool { return r.Degraded == 1 && r.Events > 0 })
	x.write(9, "degraded")
	x.say(x.doc(desired.Active, 1, volume(v1ID, desired.There, v1...), replaces(0, d, desired.There)))
	x.follows(d)
	delete(l.state, "vda")
	for range 5 {
		if acted, err := x.look(); acted || err != nil {
			t.Fatalf("the dead leg came back, and something is done: %v", err)
		}
	}
	x.only(l, d, 2, map[int]string{0: "", 1: "customer", 9: "degraded"})
	x.say(x.doc(desired.Absent, 2))
	x.state(events.ArrayAbsent)
}

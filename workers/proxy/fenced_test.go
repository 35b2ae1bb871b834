package proxy_test

import (
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/proxy"
)

// TestFencedOff: the legs are closed one storage node after the other to an owner that hears nothing and obeys the document that it has. Its
// sessions live, the disks are listed, and each command is refused. Without the last copy it is unavailable by itself: hosts must not ask it.
func TestFencedOff(t *testing.T) {
	e := newEngine(newWorld(2, 2))
	e.say(e.doc(desired.Active, 1, fresh))
	e.want(t, events.ArrayActive)
	refuse := func(node string) {
		for _, d := range e.w.disks {
			if string(d.node.Machine) == node {
				d.there, d.stays = false, true
			}
		}
	}
	refuse("node0")
	_, _ = e.pass()
	if r := e.last[arrayID]; r.State != events.ArrayActive || e.w.exports[arrayID].State != proxy.ExportActive {
		t.Fatalf("one storage node has closed its legs: report %+v, export %+v", r, e.w.exports[arrayID])
	}
	refuse("node1")
	_, _ = e.pass()
	if x := e.w.exports[arrayID]; x.State != proxy.ExportUnavailable || len(e.w.arrays) > 0 {
		t.Fatalf("all legs are closed: export %+v, arrays %+v", x, e.w.arrays)
	}
	if r := e.last[arrayID]; r.State != events.ArrayBroken {
		t.Fatalf("report %+v", r)
	}
	for range 6 { // and it assembles nothing of what refuses it
		_, _ = e.pass()
	}
	if len(e.w.arrays) > 0 {
		t.Fatalf("it runs %+v", e.w.arrays)
	}
	e.say(e.doc(desired.Standby, 2))
	if r := e.want(t, events.ArrayStandby); r.Epoch != e.doc(desired.Standby, 2).Epoch {
		t.Fatalf("heard again, it reports %+v", r)
	}
	e.check(t)
}

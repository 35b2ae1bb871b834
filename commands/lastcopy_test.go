package commands

import (
	"testing"

	"cloudengine/events"
)

// TestTheLastGoodCopyKeepsItsPower: with both nodes well either may go; then the other may not, without an override.
func TestTheLastGoodCopyKeepsItsPower(t *testing.T) {
	legs := func(w *world, states ...string) {
		w.must(w.reportArray(events.ArrayActive, func(r *events.ArrayReport) { r.Legs = states }))
	}
	off := func(w *world, name string) events.Decision {
		return w.do("machine.power", PowerMachine{w.host(name), events.PowerOff})
	}
	for name, c := range map[string]struct {
		before func(w *world)
		guard  bool
	}{
		"all well":                    {func(*world) {}, false},
		"a copy is missing":           {func(w *world) { legs(w, "missing", "in_sync", "in_sync", "in_sync") }, true},
		"a copy is being made":        {func(w *world) { legs(w, "in_sync", "in_sync", "recovering", "in_sync") }, true},
		"its own copies are missing":  {func(w *world) { legs(w, "in_sync", "missing", "in_sync", "missing") }, false},
		"the other node is silent":    {func(w *world) { w.silent(w.host("n1")) }, true},
		"the other loses its power":   {func(w *world) { w.must(off(w, "n1")) }, true},
		"a disk of the other is gone": {func(w *world) { w.must(w.storage("n1", events.StorageReport{Complete: true})) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := withArray(t)
			if l := w.arr().Data.Legs; l[0].Node != w.host("n1") || l[2].Node != w.host("n1") {
				t.Fatalf("the test is about slots 0 and 2 on n1: %+v", l)
			}
			c.before(w)
			if !c.guard {
				w.must(off(w, "n2"))
				return
			}
			w.refused(off(w, "n2"), events.CodeGuard, GuardLastCopy)
			w.must(w.override(GuardLastCopy, "machine.power", PowerMachine{w.host("n2"), events.PowerCycle}))
			w.audit()
		})
	}
}

// TestAMachineOnAFabricIsNotRemoved: what it owns and holds would be nobody's.
func TestAMachineOnAFabricIsNotRemoved(t *testing.T) {
	w := withArray(t)
	for _, name := range []string{"n1", "p1", "p2"} {
		w.refused(w.do("machine.remove", MachineRef{w.host(name)}), events.CodeConflict, "")
	}
	w.audit()
}

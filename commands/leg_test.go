package commands

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"cloudengine/events"
)

// withThreeNodes has a third storage node with disks, and an array of two sets.
func withThreeNodes(t *testing.T, disks int) *world {
	w := withArray(t)
	w.addStorage("n3", events.RoleStorageNode, disks)
	return w
}

// members is what the owner reports when md has the legs of the log, but for the changes.
func (w *world) members(change ...func(*events.ArrayReport)) events.Decision {
	return w.reportArray(events.ArrayActive, append([]func(*events.ArrayReport){func(r *events.ArrayReport) {
		for _, l := range w.arr().Data.Legs {
			r.Disks = append(r.Disks, l.Disk)
		}
	}}, change...)...)
}

// swapped is what the owner reports once md has the new disk in its slot, and nothing of the old one.
func (w *world) swapped(r *events.ArrayReport) {
	r.Disks[w.arr().replacing.Slot] = w.arr().replacing.New
}

func (w *world) disk(serial string) *Disk { return w.s.storage.disks[events.DiskIDOf(serial)] }

func (w *world) replace(slot int, with string) events.Decision {
	a := ReplaceLeg{Array: w.arr().ID, Disk: w.arr().Data.Legs[slot].Disk}
	if with != "" {
		a.With = events.DiskIDOf(with)
	}
	return w.do("array.replace_leg", a)
}

func count[T events.Payload](d events.Decision) (n int) {
	for _, e := range d.Events {
		if _, ok := e.Data.(T); ok {
			n++
		}
	}
	return n
}

// TestI8ALegIsReplaced from its beginning to the wiping of the old disk: the new one is a leg only by the word of the owner, under a document
// that has it, when md has it in sync and nothing of the old one.
func TestI8ALegIsReplaced(t *testing.T) {
	w := withThreeNodes(t, 2)
	old := w.arr().Data.Legs[0]
	before := w.s.last
	began := w.must(w.replace(0, ""))
	p := *w.arr().replacing
	if x := w.s.storage.disks[p.New]; p.Slot != 0 || p.Old != old.Disk || x.Data.Node != old.Node || x.Array != w.arr().ID {
		t.Fatalf("without a name a disk of the same node is chosen: %+v, %+v", p, x)
	}
	w.nothing(w.replace(0, ""))
	w.refused(w.replace(1, ""), events.CodeConflict, "")
	w.refused(w.do("array.create", CreateArray{Pool: w.pool(), Name: "a2", Disks: []events.DiskID{p.New, events.DiskIDOf("n3-0")}}), events.CodeConflict, "")
	for what, change := range map[string]func(*events.ArrayReport){
		"md has the old one":                func(*events.ArrayReport) {},
		"md has it beside":                  func(r *events.ArrayReport) { r.Beside = []events.DiskID{p.New} },
		"it is being filled":                func(r *events.ArrayReport) { w.swapped(r); r.Legs[0] = events.LegRecovering },
		"md has not let go of the old one":  func(r *events.ArrayReport) { w.swapped(r); r.Beside = []events.DiskID{p.Old} },
		"under a document from before":      func(r *events.ArrayReport) { w.swapped(r); r.Generation.Number = before },
		"members that are not known":        func(r *events.ArrayReport) { r.Disks = nil },
		"the array is not active":           func(r *events.ArrayReport) { w.swapped(r); r.State = events.ArrayBroken },
		"another owner's epoch":             func(r *events.ArrayReport) { w.swapped(r); r.Epoch.Counter++; r.State = events.ArrayWaiting },
		"it is in a slot that is not known": func(r *events.ArrayReport) { r.Disks = r.Disks[:0] },
	} {
		if w.members(change); w.arr().replacing == nil || w.arr().Data.Legs[0].Disk != old.Disk {
			t.Fatalf("%s, and the leg was replaced", what)
		}
	}
	d := w.must(w.members(w.swapped))
	if count[events.ArrayLegReplaced](d) != 1 || w.arr().replacing != nil || w.arr().Data.Legs[0].Disk != p.New || w.s.OperationOpen(began.Intent) {
		t.Fatalf("replaced: %+v, %+v", w.arr(), d.Events)
	}
	if x := w.s.storage.disks[old.Disk]; x.Array != "" || x.Wiping != w.arr().ID || x.usable() == "" {
		t.Fatalf("the old disk: %+v", x)
	}
	w.refused(w.do("array.create", CreateArray{Pool: w.pool(), Name: "a2", Disks: []events.DiskID{old.Disk, events.DiskIDOf("n3-0")}}), events.CodeConflict, "")
	w.must(w.wiped(w.nameOf(old.Node), events.ExportWiped, "", w.arr().ID))
	w.must(w.do("array.create", CreateArray{Pool: w.pool(), Name: "a2", Disks: []events.DiskID{old.Disk, events.DiskIDOf("n3-0")}}))
	w.audit()
}

func TestReplacementsThatAreRefused(t *testing.T) {
	w := withThreeNodes(t, 2)
	legs := w.arr().Data.Legs
	n1, n2 := w.nameOf(legs[0].Node), w.nameOf(legs[1].Node)
	free := map[string]string{}
	for _, id := range sortedKeys(w.s.storage.disks) {
		if x := w.s.storage.disks[id]; x.Array == "" {
			free[w.nameOf(x.Data.Node)] = x.Data.Serial
		}
	}
	w.refused(w.do("array.replace_leg", ReplaceLeg{Array: w.arr().ID, Disk: events.DiskIDOf(free[n1])}), events.CodeNotFound, "")
	w.refused(w.replace(0, free[n2]), events.CodeConflict, "")                 // I8
	w.refused(w.replace(0, w.serialOf(legs[2].Disk)), events.CodeConflict, "") // a leg
	w.refused(w.replace(0, "nothing"), events.CodeNotFound, "")
	w.must(w.storage("n3", events.StorageReport{Disks: []events.DiskReport{
		{Serial: "n3-0", Bytes: 200 << 20, Health: events.DiskHealthy}, {Serial: "n3-1", Bytes: 256 << 20, Health: events.DiskHealthy, Signature: "ext4"}}}))
	w.refused(w.replace(0, "n3-0"), events.CodeConflict, "") // too small
	w.refused(w.replace(0, "n3-1"), events.CodeGuard, GuardForeignData)
	w.silent(w.host("n3"))
	w.refused(w.override(GuardForeignData, "array.replace_leg", ReplaceLeg{Array: w.arr().ID, Disk: legs[0].Disk, With: events.DiskIDOf("n3-1")}), events.CodeConflict, "")
	w.back(w.host("n3"))
	w.members(func(r *events.ArrayReport) {
		r.Legs = []string{"recovering", "missing", "in_sync", "in_sync"}
		r.Degraded = 2
	})
	w.refused(w.replace(0, ""), events.CodeConflict, "") // no copy that is in sync
	w.members(func(r *events.ArrayReport) {
		r.Legs = []string{"missing", "in_sync", "in_sync", "in_sync"}
		r.Degraded = 1
	})
	w.must(w.override(GuardForeignData, "array.replace_leg", ReplaceLeg{Array: w.arr().ID, Disk: legs[0].Disk, With: events.DiskIDOf("n3-1")}))
	w.must(w.members(w.swapped))
	w.must(w.do("array.failover", FailoverArray{Array: w.arr().ID}))
	w.refused(w.replace(1, ""), events.CodeConflict, "") // on its way
	w.must(w.reportArray(events.ArrayStandby))
	w.refused(w.replace(1, ""), events.CodeConflict, "") // its new owner has not said anything yet
	w.must(w.members())
	w.silent(w.arr().Owner.Proxy)
	w.refused(w.replace(1, ""), events.CodeConflict, "")
	w.audit()
}

func (w *world) serialOf(id events.DiskID) string { return w.s.serial(id) }

// TestATakeoverInTheMiddle: whoever owns the array says how far md is.
func TestATakeoverInTheMiddle(t *testing.T) {
	w := withThreeNodes(t, 2)
	w.must(w.replace(0, ""))
	first := *w.arr().Owner
	w.must(w.do("array.failover", FailoverArray{Array: w.arr().ID}))
	w.must(w.reportArray(events.ArrayStandby))
	if o := w.arr().Owner; o.Proxy == first.Proxy || w.arr().replacing == nil {
		t.Fatalf("owner %+v, replacing %+v", o, w.arr().replacing)
	}
	w.must(w.members(w.swapped))
	if w.arr().replacing != nil {
		t.Fatal("the next owner's word does not count")
	}
	w.audit()
}

// TestAReplacementIsCancelled: the new disk is the array's until the owner has let go of it; and it follows if it was full before.
func TestAReplacementIsCancelled(t *testing.T) {
	for _, follows := range []bool{false, true} {
		w := withThreeNodes(t, 2)
		w.refused(w.do("array.cancel_replacement", ArrayRef{w.arr().ID}), events.CodeConflict, "")
		began := w.must(w.replace(0, ""))
		p := *w.arr().replacing
		before := w.s.last
		cancel := w.must(w.do("array.cancel_replacement", ArrayRef{w.arr().ID}))
		w.nothing(w.do("array.cancel_replacement", ArrayRef{w.arr().ID}))
		w.refused(w.replace(0, ""), events.CodeConflict, "")
		w.members(func(r *events.ArrayReport) { r.Generation.Number = before })
		w.members(func(r *events.ArrayReport) { r.Beside = []events.DiskID{p.New} })
		if w.arr().replacing == nil {
			t.Fatal("the replacement ended before the owner let go of the disk")
		}
		leg, lost := p.Old, p.New
		if follows {
			w.must(w.members(w.swapped))
			leg, lost = p.New, p.Old
		} else {
			w.must(w.members())
		}
		if w.arr().replacing != nil || w.arr().Data.Legs[0].Disk != leg || w.s.storage.disks[lost].Wiping == "" || w.s.OperationOpen(began.Intent) || w.s.OperationOpen(cancel.Intent) {
			t.Fatalf("follows %v: %+v", follows, w.arr())
		}
		w.audit()
	}
}

// TestAnArrayIsDeletedWhileALegIsReplaced: the new disk is wiped as the legs are.
func TestAnArrayIsDeletedWhileALegIsReplaced(t *testing.T) {
	w := withThreeNodes(t, 2)
	w.must(w.replace(0, ""))
	w.must(w.do("array.delete", ArrayRef{w.arr().ID}))
	w.must(w.reportArray(events.ArrayAbsent))
	if w.wiping() != 5 || len(w.s.ops) != 0 {
		t.Fatalf("%d disks are to be wiped, %d operations are open", w.wiping(), len(w.s.ops))
	}
	w.audit()
}

// TestAStorageNodeIsDrained: its legs move one after another, and none of its disks is chosen; when it may not be possible, it is refused.
func TestAStorageNodeIsDrained(t *testing.T) {
	few := withThreeNodes(t, 1)
	few.refused(few.do("machine.drain", MachineRef{few.host("n1")}), events.CodeNoCapacity, "")
	few.refused(few.do("machine.drain", MachineRef{few.host("p1")}), events.CodeConflict, "")
	w := withThreeNodes(t, 3)
	drain := w.must(w.do("machine.drain", MachineRef{w.host("n1")}))
	w.nothing(w.do("machine.drain", MachineRef{w.host("n1")}))
	w.refused(w.do("array.create", CreateArray{Pool: w.pool(), Name: "a2", Disks: []events.DiskID{events.DiskIDOf("n1-3"), events.DiskIDOf("n2-3")}}), events.CodeConflict, "")
	for moved := range 2 {
		p := w.arr().replacing
		if p == nil || w.disk("n3-0").Data.Node != w.s.storage.disks[p.New].Data.Node || w.s.storage.disks[p.Old].Data.Node != w.host("n1") || !w.s.OperationOpen(drain.Intent) {
			t.Fatalf("after %d: %+v", moved, p)
		}
		w.must(w.members(w.swapped))
	}
	if w.arr().replacing != nil || len(w.s.legsOn(w.host("n1"))) != 0 || w.s.OperationOpen(drain.Intent) {
		t.Fatalf("not drained: %+v", w.arr())
	}
	w.must(w.wiped("n1", events.ExportWiped, "", w.arr().ID))
	w.must(w.do("machine.power", PowerMachine{w.host("n1"), events.PowerOff})) // nothing is lost with it
	w.must(w.do("machine.undrain", MachineRef{w.host("n1")}))
	w.nothing(w.do("machine.undrain", MachineRef{w.host("n1")}))
	w.audit()
}

// TestI8RandomReplacements: whatever is replaced, cancelled, drained, reported late, moved to another proxy and wiped, no two copies are on one
// storage node, no disk has two uses, and no slot has two legs. The audit says so; and a log that is folded again gives the same legs.
func TestI8RandomReplacements(t *testing.T) {
	replaced, ended := 0, 0
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		w := withThreeNodes(t, 4)
		w.addStorage("n4", events.RoleStorageNode, 2)
		nodes := []string{"n1", "n2", "n3", "n4"}
		for range 100 {
			node := nodes[rnd.IntN(4)]
			switch rnd.IntN(9) {
			case 0, 1:
				with := ""
				if rnd.IntN(2) == 0 {
					with = fmt.Sprintf("%s-%d", node, rnd.IntN(4))
				}
				w.replace(rnd.IntN(4), with)
			case 2, 3, 4:
				p := w.arr().replacing
				d := w.members(func(r *events.ArrayReport) {
					r.Generation.Number -= uint64(rnd.IntN(3))
					if p != nil && rnd.IntN(3) > 0 {
						w.swapped(r)
					}
					if p != nil && rnd.IntN(4) == 0 {
						r.Beside = []events.DiskID{[]events.DiskID{p.Old, p.New}[rnd.IntN(2)]}
					}
				})
				replaced += count[events.ArrayLegReplaced](d)
				ended += count[events.ArrayLegReplacementEnded](d)
			case 5:
				w.do("array.cancel_replacement", ArrayRef{w.arr().ID})
			case 6:
				w.wiped(node, events.ExportWiped, "", w.arr().ID)
			case 7:
				w.do([]string{"machine.drain", "machine.undrain"}[rnd.IntN(2)], MachineRef{w.host(node)})
			case 8:
				if w.do("array.failover", FailoverArray{Array: w.arr().ID}).Outcome.Status == events.Accepted {
					w.must(w.reportArray(events.ArrayStandby))
				}
				w.members()
			}
			w.apart()
		}
		w.audit()
		again := NewState()
		for _, r := range w.log {
			again.Evolve(r)
		}
		if !slices.Equal(again.storage.arrays[w.arr().ID].Data.Legs, w.arr().Data.Legs) {
			t.Fatal("a log that is folded again gives other legs")
		}
	}
	if replaced < 100 || ended < 20 {
		t.Fatalf("%d replaced, %d ended: too little happens", replaced, ended)
	}
}

// apart: a second oracle beside the audit, over the state.
func (w *world) apart() {
	w.t.Helper()
	a := w.arr()
	used := map[events.DiskID]int{}
	for _, l := range a.disks() {
		used[l.Disk]++
		if x := w.s.storage.disks[l.Disk]; x.Array != a.ID || x.Wiping != "" || used[l.Disk] > 1 {
			w.t.Fatalf("leg %d: %+v, used %d times", l.Slot, x, used[l.Disk])
		}
		for _, o := range a.disks() {
			if o.Slot != l.Slot && o.Slot/2 == l.Slot/2 && w.s.storage.disks[o.Disk].Data.Node == w.s.storage.disks[l.Disk].Data.Node {
				w.t.Fatalf("legs %d and %d are on one storage node", l.Slot, o.Slot)
			}
		}
	}
}

package commands

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cloudengine/events"
)

// TestI2RandomFencing: storage nodes and proxies hear documents, report, fall silent and boot anew in any order, reports come late and again, and
// the array is moved, with and without fencing, and legs are replaced meanwhile. At no moment a proxy that is not the owner, and has the array running, reaches a leg of it. The
// audit says the same of the log.
func TestI2RandomFencing(t *testing.T) {
	ended, replaced := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		h := newFencingHistory(t)
		for range rapid.IntRange(20, 150).Draw(rt, "steps") {
			h.step(rt)
			h.render()
			h.check(rt)
		}
		a := NewAudit()
		for _, r := range h.w.log {
			a.Add(r)
			for _, e := range r.Events {
				if x, ok := e.Data.(events.ArrayOwnerEnded); ok && x.Proof == events.ProofFenced {
					ended++
				}
				if _, ok := e.Data.(events.ArrayLegReplaced); ok {
					replaced++
				}
			}
		}
		if b := a.Broken(); len(b) > 0 {
			rt.Fatalf("the log breaks invariants: %v", b)
		}
		h.settle(rt)
	})
	if ended == 0 || replaced == 0 {
		t.Fatalf("in all histories %d were fenced off and %d legs replaced", ended, replaced)
	}
	t.Logf("%d grants ended by fencing, %d legs were replaced", ended, replaced)
}

// exportDoc is what the document of a leg says, and when it came to say that.
type exportDoc struct {
	boot  string
	epoch events.Epoch
	to    events.MachineID // empty: nobody
	at    events.Generation
}

// proxyDoc is what a proxy is told.
type proxyDoc struct {
	boot   string
	active bool
	epoch  events.Epoch
	at     events.Generation
}

// fencingHistory is a world with storage nodes and proxies that really give legs and run arrays, apart from the log.
type fencingHistory struct {
	w     *world
	last  events.Epoch
	legs  map[events.DiskID]exportDoc // documents
	tells map[events.MachineID]proxyDoc
	given map[events.DiskID]exportDoc   // what is really given
	runs  map[events.MachineID]proxyDoc // what really runs, or was given up
	slots []events.DiskID               // what md has by slot, wherever it runs
	late  []func()                      // reports that are under way
	boots map[events.MachineID]string   // the real ones
}

func newFencingHistory(t *testing.T) *fencingHistory {
	h := &fencingHistory{w: withArray(t), legs: map[events.DiskID]exportDoc{}, tells: map[events.MachineID]proxyDoc{},
		given: map[events.DiskID]exportDoc{}, runs: map[events.MachineID]proxyDoc{}, boots: map[events.MachineID]string{}}
	for id, m := range h.w.s.machines {
		h.boots[id] = m.Boot
	}
	for _, l := range h.w.arr().Data.Legs {
		h.slots = append(h.slots, l.Disk)
	}
	h.render()
	for _, n := range []string{"n1", "n2"} {
		h.obey(n)
	}
	for _, p := range []string{"p1", "p2"} {
		h.follow(p)
	}
	return h
}

// render makes documents of the state as the projection does: with a new generation where something changed.
func (h *fencingHistory) render() {
	a, now := h.w.arr(), events.Generation{Term: h.w.s.term, Number: h.w.s.last}
	if a.Owner != nil {
		h.last = a.Owner.Epoch
	}
	for disk := range h.legs {
		if x := h.w.s.storage.disks[disk]; x.Array != a.ID {
			delete(h.legs, disk) // it is to be wiped
		}
	}
	for _, x := range h.w.s.legDisks(a) {
		d := exportDoc{boot: h.w.s.machines[x.Data.Node].Boot, epoch: h.last, at: now}
		if a.Owner != nil && a.fencing == nil {
			d.to = a.Owner.Proxy
		}
		if have := h.legs[x.ID]; have.boot != d.boot || have.epoch != d.epoch || have.to != d.to {
			h.legs[x.ID] = d
		}
	}
	for _, p := range []string{"p1", "p2"} {
		m := h.w.s.machines[h.w.host(p)]
		d := proxyDoc{boot: m.Boot, epoch: h.last, at: now}
		o := a.Owner
		d.active = o != nil && o.Proxy == m.ID && o.Boot == m.Boot && o.Revoked == (events.Generation{})
		if have := h.tells[m.ID]; have.boot != d.boot || have.epoch != d.epoch || have.active != d.active {
			h.tells[m.ID] = d
		}
	}
}

// obey lets a storage node do what its documents say.
func (h *fencingHistory) obey(node string) {
	for _, x := range h.w.s.storage.disks {
		switch d, ok := h.legs[x.ID]; {
		case x.Data.Node != h.w.host(node):
		case !ok:
			delete(h.given, x.ID)
		case d.boot == h.boots[x.Data.Node]:
			h.given[x.ID] = d
		}
	}
}

// filled lets md have the new disk in the place of a leg, if its owner reaches both.
func (h *fencingHistory) filled() {
	for _, p := range sortedKeys(h.runs) {
		r := h.w.arr().replacing
		if d := h.runs[p]; r != nil && d.active && d.at.Compare(r.Since) >= 0 && h.given[r.New].to == p && h.given[r.Old].to == p {
			h.slots[r.Slot] = r.New
		}
	}
}

// follow lets a proxy do what its document says.
func (h *fencingHistory) follow(proxy string) {
	if d := h.tells[h.w.host(proxy)]; d.boot == h.boots[h.w.host(proxy)] {
		h.runs[h.w.host(proxy)] = d
	}
}

// says makes a report of what is so now. It is delivered at any time, perhaps again.
func (h *fencingHistory) says(name string) func() {
	m, r := h.w.host(name), events.StorageReport{}
	for _, disk := range sortedKeys(h.given) {
		if d := h.given[disk]; h.w.s.storage.disks[disk].Data.Node == m {
			x := events.ExportReport{Disk: disk, Array: h.w.arr().ID, Epoch: d.epoch, Generation: d.at, State: events.ExportThere}
			if d.to != "" {
				x.To = []events.MachineID{d.to}
			}
			r.Exports = append(r.Exports, x)
		}
	}
	if d, ok := h.runs[m]; ok {
		x := events.ArrayReport{Array: h.w.arr().ID, Epoch: d.epoch, Generation: d.at, State: events.ArrayStandby, Made: true}
		if d.active {
			x.State, x.Legs, x.Disks = events.ArrayActive, []string{"in_sync", "in_sync", "in_sync", "in_sync"}, slices.Clone(h.slots)
		}
		r.Arrays = append(r.Arrays, x)
	}
	r.Boot = h.boots[m]
	return func() { h.w.storage(name, r) }
}

// anew is the end of all that a machine had, and its new boot.
func (h *fencingHistory) anew(name string) {
	m := h.w.host(name)
	delete(h.runs, m)
	for disk := range h.given {
		if h.w.s.storage.disks[disk].Data.Node == m {
			delete(h.given, disk)
		}
	}
	h.w.boot(name, 2000)
	h.boots[m] = h.w.s.machines[m].Boot
}

func (h *fencingHistory) step(rt *rapid.T) {
	w := h.w
	name := rapid.SampledFrom([]string{"n1", "n2", "p1", "p2"}).Draw(rt, "name")
	m := w.s.machines[w.host(name)]
	switch rapid.IntRange(0, 16).Draw(rt, "what") {
	case 0, 1:
		h.obey(name)
	case 2:
		h.follow(name)
	case 3, 4, 5:
		h.says(name)()
	case 6:
		h.late = append(h.late, h.says(name))
	case 7:
		if len(h.late) > 0 {
			rapid.SampledFrom(h.late).Draw(rt, "late")()
		}
	case 8:
		w.as(ActorLiveness, "machine.report_silent", SilenceReport{m.ID, m.Boot})
	case 9:
		w.as(ActorLiveness, "machine.report_returned", SilenceReport{m.ID, m.Boot})
	case 10, 11:
		w.do("array.failover", FailoverArray{Array: w.arr().ID, Fence: true})
	case 12:
		w.do("array.failover", FailoverArray{Array: w.arr().ID})
	case 13:
		h.anew(name)
		w.storage(name, events.StorageReport{Complete: true, Disks: w.disksOf(name)})
	case 14:
		w.replace(rapid.IntRange(0, 3).Draw(rt, "slot"), "")
	case 15: // begun, and filled at once
		w.replace(rapid.IntRange(0, 3).Draw(rt, "slot"), "")
		h.render()
		for _, n := range []string{"n1", "n2"} {
			h.obey(n)
		}
		for _, p := range []string{"p1", "p2"} {
			h.follow(p)
			h.filled()
			h.says(p)()
		}
	case 16:
		h.obey("n1")
		h.obey("n2")
		h.follow(name)
		h.filled()
	}
}

// check: who is not the owner, and has the array running, reaches none of its legs.
func (h *fencingHistory) check(rt *rapid.T) {
	o := h.w.arr().Owner
	for _, p := range sortedKeys(h.runs) {
		d := h.runs[p]
		if !d.active || o != nil && o.Proxy == p && o.Epoch == d.epoch {
			continue
		}
		for _, l := range h.w.arr().disks() {
			if h.given[l.Disk].to == p {
				rt.Fatalf("%s runs the array under epoch %s and reaches disk %s of leg %d; the owner is %+v", h.w.nameOf(p), d.epoch, l.Disk, l.Slot, o)
			}
		}
	}
}

// settle: when all are heard again and do what they are told, somebody owns the array.
func (h *fencingHistory) settle(rt *rapid.T) {
	for range 4 {
		for _, name := range []string{"n1", "n2", "p1", "p2"} {
			m := h.w.s.machines[h.w.host(name)]
			h.w.as(ActorLiveness, "machine.report_returned", SilenceReport{m.ID, m.Boot})
			h.render()
			h.obey(name)
			h.follow(name)
			h.says(name)()
			h.render()
			h.check(rt)
		}
	}
	if o := h.w.arr().Owner; o == nil || h.w.arr().fencing != nil || !slices.ContainsFunc(sortedKeys(h.runs), func(p events.MachineID) bool {
		return h.runs[p].active && h.runs[p].epoch == o.Epoch
	}) {
		rt.Fatalf("in the end the owner is %+v, and there runs %+v", o, h.runs)
	}
}

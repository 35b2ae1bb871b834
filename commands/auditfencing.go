package commands

import (
	"encoding/json"

	"cloudengine/events"
)

// auditFencing is what Audit knows of fencing. It reads the reports themselves, and not what was made of them.
type auditFencing struct {
	boots  map[events.MachineID]string
	began  map[string]events.Generation                           // by array: of the fencing that is under way
	closed map[string]map[events.DiskID]events.ArrayLegFenced     // by array
	held   map[string]map[events.MachineID]events.ArrayOwnerEnded // by array: boots that were fenced off and have not given it up
}

func newAuditFencing() auditFencing {
	return auditFencing{
		boots: map[events.MachineID]string{}, began: map[string]events.Generation{}, closed: map[string]map[events.DiskID]events.ArrayLegFenced{},
		held: map[string]map[events.MachineID]events.ArrayOwnerEnded{},
	}
}

func (a *Audit) fencingEvent(r events.Recorded, e events.Event) {
	f, id := &a.storage.fencing, e.Aggregate.ID
	o, owned := a.storage.owners[id]
	switch d := e.Data.(type) {
	case events.MachineEnrolled:
		f.boots[events.MachineID(id)] = d.Boot
		for _, closed := range f.closed { // what another boot has said does not count, whether the log takes it back or not
			for disk, said := range closed {
				if said.Node == events.MachineID(id) && said.Boot != d.Boot {
					delete(closed, disk)
				}
			}
		}
	case events.LogOpened:
		clear(f.closed)
	case events.ArrayFencingBegan:
		if !owned || o.Epoch != d.Epoch {
			a.fail(r, "I2", "array %s is fenced against epoch %s, which owns it not", id, d.Epoch)
		}
		f.began[id], f.closed[id] = events.Generation{Term: r.Term, Number: r.Number}, map[events.DiskID]events.ArrayLegFenced{}
	case events.ArrayLegFenced:
		a.legFenced(r, id, d)
	case events.ArrayLegUnfenced:
		delete(f.closed[id], d.Disk)
	case events.ArrayFencedOwnerGone:
		ok := reportSays(r, func(x events.StorageReport) bool {
			for _, y := range x.Arrays {
				if string(y.Array) == id && (y.State == events.ArrayStandby || y.State == events.ArrayAbsent) {
					return x.Machine == d.Proxy && x.Boot == d.Boot
				}
			}
			return false
		})
		anew := has(r, func(e events.MachineEnrolled) bool { return e.Boot != d.Boot })
		a.require(r, (ok || anew) && r.Actor == MachineActor(d.Proxy), "a proxy that was fenced off says itself that it gave up, or boots anew")
		delete(f.held[id], d.Proxy)
	}
}

// reportSays says whether a decision is about a report of storage of which something is true.
func reportSays(r events.Recorded, is func(events.StorageReport) bool) bool {
	var x events.StorageReport
	return r.Verb == "report_storage" && json.Unmarshal(r.Args, &x) == nil && is(x)
}

// legFenced: the storage node that has the disk said in its present boot, obeying a document that was made since, that it gives it to nobody.
func (a *Audit) legFenced(r events.Recorded, id string, d events.ArrayLegFenced) {
	s := &a.storage
	began, under := s.fencing.began[id]
	said := reportSays(r, func(x events.StorageReport) bool {
		found := false
		for _, y := range x.Exports {
			if y.Disk == d.Disk && y.Generation.Compare(began) >= 0 {
				if string(y.Array) != id || y.Epoch != d.Epoch || len(y.To) > 0 {
					return false
				}
				found = found || y.Generation == d.Generation
			}
		}
		return found && x.Machine == d.Node && x.Boot == d.Boot
	})
	switch {
	case !under || s.owners[id].Epoch != d.Epoch:
		a.fail(r, "I2", "a leg of array %s is closed, and nobody is being fenced off under epoch %s", id, d.Epoch)
	case !said || r.Actor != MachineActor(d.Node) || d.Generation.Compare(began) < 0 || d.Generation.Term != r.Term:
		a.fail(r, "I2", "array %s: that leg %s is closed was not said by its storage node, of a document of the fencing", id, d.Disk)
	case s.nodes[d.Disk] != d.Node || s.fencing.boots[d.Node] != d.Boot || s.legs[d.Disk] != id:
		a.fail(r, "I2", "array %s: leg %s is closed on another machine, in another boot, or is not its leg", id, d.Disk)
	default:
		if s.fencing.closed[id] == nil {
			s.fencing.closed[id] = map[events.DiskID]events.ArrayLegFenced{}
		}
		s.fencing.closed[id][d.Disk] = d
	}
}

// endedByFencing: all legs, without exception.
func (a *Audit) endedByFencing(r events.Recorded, id string, d events.ArrayOwnerEnded) {
	s, n := &a.storage, 0
	for disk, array := range s.legs {
		if array != id || !s.arrays[id].has(disk) { // one that was replaced is wiped, and no copy
			continue
		}
		said, ok := s.fencing.closed[id][disk]
		if n++; !ok || said.Epoch != d.Epoch || said.Node != s.nodes[disk] || said.Boot != s.fencing.boots[said.Node] {
			a.fail(r, "I2", "array %s: %s is said to be fenced off, and leg %s may be open to it", id, d.Proxy, disk)
		}
	}
	if n == 0 {
		a.fail(r, "I2", "array %s: fenced off without legs", id)
	}
	if s.fencing.held[id] == nil {
		s.fencing.held[id] = map[events.MachineID]events.ArrayOwnerEnded{}
	}
	s.fencing.held[id][d.Proxy] = d
}

// notHeld: who was fenced off gets the legs again only once nothing of the array is left there.
func (a *Audit) notHeld(r events.Recorded, id string, d events.ArrayOwnerGranted) {
	if x, ok := a.storage.fencing.held[id][d.Proxy]; ok && x.Boot == d.Boot {
		a.fail(r, "I2", "array %s is granted to a boot of %s from which it was fenced off, and which may hold it still", id, d.Proxy)
	}
}

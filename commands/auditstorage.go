package commands

import (
	"cloudengine/events"
)

// auditStorage is what Audit knows of storage: I2 (one owner of each array, each end with its proof), I3 (no extent belongs to two
// volumes) and I8 (no two copies on one storage node).
type auditStorage struct {
	pools  map[string]events.PoolCreated
	owners map[string]events.ArrayOwnerGranted
	last   map[string]events.Epoch
	size   map[string]int            // extents of an array
	taken  map[string]map[int]string // of an array: extent → volume
	of     map[string]string         // volume → array
	legs   map[events.DiskID]string  // → array, until the disk is released
	arrays map[string]auditLegs
	nodes  map[events.DiskID]events.MachineID

	fencing auditFencing
	goldens auditGoldens
}

func newAuditStorage() auditStorage {
	return auditStorage{
		pools: map[string]events.PoolCreated{}, owners: map[string]events.ArrayOwnerGranted{}, last: map[string]events.Epoch{},
		size: map[string]int{}, taken: map[string]map[int]string{}, of: map[string]string{},
		legs: map[events.DiskID]string{}, arrays: map[string]auditLegs{}, nodes: map[events.DiskID]events.MachineID{}, fencing: newAuditFencing(), goldens: newAuditGoldens(),
	}
}

func (a *Audit) storageEvent(r events.Recorded, e events.Event) {
	s, id := &a.storage, e.Aggregate.ID
	a.fencingEvent(r, e)
	a.goldenEvent(r, e)
	switch d := e.Data.(type) {
	case events.DiskFound:
		s.nodes[events.DiskID(id)] = d.Node
	case events.PoolCreated:
		s.pools[id] = d
	case events.ArrayCreated:
		a.arrayCreated(r, id, d)
	case events.ArrayDeleted:
		if _, owned := s.owners[id]; owned {
			a.fail(r, "I2", "array %s was deleted while it had an owner", id)
		}
		for disk, array := range s.legs {
			if array == id && !d.Wipe {
				delete(s.legs, disk)
			}
		}
		delete(s.size, id)
		delete(s.arrays, id)
		delete(s.taken, id)
	case events.ArrayLegReplacing, events.ArrayLegReplaced, events.ArrayLegReplacementEnded:
		a.legEvent(r, e)
	case events.DiskReleased:
		a.diskReleased(r, events.DiskID(id), d)
	case events.ArrayOwnerGranted:
		if o, owned := s.owners[id]; owned {
			a.fail(r, "I2", "array %s is granted to %s and was already granted to %s", id, d.Proxy, o.Proxy)
		}
		if last, had := s.last[id]; had && d.Epoch.Compare(last) <= 0 {
			a.fail(r, "I2", "array %s is granted under epoch %s after %s", id, d.Epoch, last)
		}
		if a.lost {
			a.fail(r, "I5", "array %s is granted before the log was settled", id)
		}
		a.notHeld(r, id, d)
		s.owners[id], s.last[id] = d, d.Epoch
	case events.ArrayOwnerEnded:
		a.ownerEnded(r, id, d)
	case events.GoldenCreated:
		s.of[id] = string(d.Array)
		a.extents(r, id, d.Segments)
	case events.VolumeCreated:
		s.of[id] = string(d.Array)
		a.extents(r, id, d.Segments)
	case events.VolumeGrown:
		a.extents(r, id, d.Segments)
	case events.VolumeWiped:
		for extent, v := range s.taken[s.of[id]] {
			if v == id {
				delete(s.taken[s.of[id]], extent)
			}
		}
	}
}

func (a *Audit) arrayCreated(r events.Recorded, id string, d events.ArrayCreated) {
	s, n := &a.storage, max(1, a.storage.pools[string(d.Pool)].Redundancy)
	for i, l := range d.Legs {
		if l.Slot != i {
			a.fail(r, "I8", "array %s: leg %d is at place %d", id, l.Slot, i)
		}
		if other, used := s.legs[l.Disk]; used {
			a.fail(r, "I2", "disk %s is a leg of array %s and of %s", l.Disk, other, id)
		}
		s.legs[l.Disk] = id
		for _, copy := range d.Legs[i/n*n : i] {
			if s.nodes[copy.Disk] == s.nodes[l.Disk] {
				a.fail(r, "I8", "array %s: legs %d and %d hold the same data on one storage node", id, copy.Slot, l.Slot)
			}
		}
	}
	of := auditLegs{copies: n}
	for _, l := range d.Legs {
		of.slots = append(of.slots, l.Disk)
	}
	s.size[id], s.taken[id], s.arrays[id] = d.Extents, map[int]string{}, of
}

func (a *Audit) ownerEnded(r events.Recorded, id string, d events.ArrayOwnerEnded) {
	o, owned := a.storage.owners[id]
	if !owned || o.Proxy != d.Proxy || o.Boot != d.Boot || o.Epoch != d.Epoch {
		a.fail(r, "I2", "array %s: an ownership ended that was not live", id)
		return
	}
	delete(a.storage.owners, id)
	defer delete(a.storage.fencing.began, id)
	switch d.Proof {
	case events.ProofFenced:
		a.endedByFencing(r, id, d)
	case events.ProofCleanEnd:
		a.require(r, r.Actor == MachineActor(o.Proxy) && r.Verb == "report_storage", "an array is given up by its own proxy")
	case events.ProofNewBoot:
		a.require(r, has(r, func(e events.MachineEnrolled) bool { return e.Boot != o.Boot }), "a new boot must be enrolled in the same decision")
	case events.ProofPowerOff:
		a.require(r, has(r, func(e events.MachinePowerObserved) bool { return e.Proof && e.Boot == o.Boot }), "power must have been proven off")
	default:
		a.fail(r, "I5", "array %s: %q is no proof", id, d.Proof)
	}
}

func (a *Audit) extents(r events.Recorded, volume string, segments []events.Segment) {
	s := &a.storage
	array := s.of[volume]
	for _, seg := range segments {
		for extent := seg.Start; extent < seg.Start+seg.Count; extent++ {
			if other, taken := s.taken[array][extent]; taken && other != volume {
				a.fail(r, "I3", "extent %d of array %s belongs to volumes %s and %s", extent, array, other, volume)
				return
			}
			if extent < 0 || extent >= s.size[array] {
				a.fail(r, "I3", "volume %s has extent %d of array %s, which has %d", volume, extent, array, s.size[array])
				return
			}
			s.taken[array][extent] = volume
		}
	}
}

// diskReleased: what is on a disk is known by its storage node alone, and never while the array is there.
func (a *Audit) diskReleased(r events.Recorded, disk events.DiskID, d events.DiskReleased) {
	s := &a.storage
	if s.legs[disk] != string(d.Array) {
		a.fail(r, "I2", "disk %s is released by array %s and is a leg of %q", disk, d.Array, s.legs[disk])
		return
	}
	if s.arrays[string(d.Array)].has(disk) {
		a.fail(r, "I2", "disk %s is released by array %s, of which it is a leg", disk, d.Array)
	}
	a.require(r, r.Actor == MachineActor(s.nodes[disk]) && r.Verb == "report_storage", "a disk is released by the storage node that has it")
	delete(s.legs, disk)
}

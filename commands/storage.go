package commands

import (
	"sort"

	"cloudengine/events"
)

// storage is the part of State that is about storage.
type storage struct {
	fabrics map[events.FabricID]*Fabric
	disks   map[events.DiskID]*Disk
	pools   map[events.PoolID]*Pool
	arrays  map[events.ArrayID]*Array
	volumes map[events.VolumeID]*Volume
	ready   map[events.MachineID]events.StorageReady // the last of each machine
	counter map[events.MachineID]uint64              // of the last report of storage that was recorded
}

func newStorage() storage {
	return storage{
		fabrics: map[events.FabricID]*Fabric{}, disks: map[events.DiskID]*Disk{}, pools: map[events.PoolID]*Pool{},
		arrays: map[events.ArrayID]*Array{}, volumes: map[events.VolumeID]*Volume{},
		ready: map[events.MachineID]events.StorageReady{}, counter: map[events.MachineID]uint64{},
	}
}

// Disk is a disk of a storage node.
type Disk struct {
	ID     events.DiskID
	Data   events.DiskFound
	Gone   bool
	Array  events.ArrayID // whose leg it is; empty: free, unless it is being wiped
	Wiping events.ArrayID // whose leg it was: its storage node has not said yet that nothing of that is left on it
	Export events.DiskExported
}

// usable says why a disk cannot become a leg, or nothing.
func (x *Disk) usable() string {
	switch {
	case x.Array != "":
		return "it is a leg of an array"
	case x.Wiping != "":
		return "it was a leg of an array, and its storage node has not wiped it yet"
	case x.Gone:
		return "it is gone"
	case x.Data.Health == events.DiskFailing:
		return "it says that it is failing"
	}
	return ""
}

// storageReady says whether a machine's present boot has reported its storage completely in the present term.
func (s *State) storageReady(m *Machine) bool {
	r, ok := s.storage.ready[m.ID]
	return ok && r.Boot == m.Boot && r.Term == s.term && !m.BootOver
}

func (s *State) fabricOf(a *Array) *Fabric {
	if a == nil {
		return nil
	}
	if p, ok := s.storage.pools[a.Data.Pool]; ok {
		return s.storage.fabrics[p.Data.Fabric]
	}
	return nil
}

func (s *State) foldDisk(e events.Event) {
	id := events.DiskID(e.Aggregate.ID)
	x, ok := s.storage.disks[id]
	if !ok {
		x = &Disk{ID: id}
		s.storage.disks[id] = x
	}
	switch data := e.Data.(type) {
	case events.DiskFound:
		x.Data, x.Gone = data, false
	case events.DiskGone:
		x.Gone = true
	case events.DiskExported:
		x.Export = data
	case events.DiskReleased:
		if x.Wiping == data.Array {
			x.Wiping = ""
		}
	}
}

// ownedBy lists the arrays that a machine owns, by id.
func (s *State) ownedBy(m events.MachineID) []*Array {
	var out []*Array
	for _, a := range s.storage.arrays {
		if a.Owner != nil && a.Owner.Proxy == m {
			out = append(out, a)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

// ownsArrays says whether a boot of a machine owns any.
func (s *State) ownsArrays(m events.MachineID, boot string) bool {
	for _, a := range s.ownedBy(m) {
		if a.Owner.Boot == boot {
			return true
		}
	}
	return false
}

// endOwners ends the ownership of a boot of a machine, by one proof.
func (d *decision) endOwners(m *Machine, boot, proof string) {
	for _, a := range d.s.ownedBy(m.ID) {
		if a.Owner.Boot == boot {
			d.endOwner(a, proof)
		}
	}
}

func (d *decision) endOwner(a *Array, proof string) {
	o := a.Owner
	d.add(events.KindArray, string(a.ID), events.ArrayOwnerEnded{Proxy: o.Proxy, Boot: o.Boot, Epoch: o.Epoch, Proof: proof})
	if a.retired && len(a.used) == 0 { // it was to be deleted, and waited for this
		d.add(events.KindArray, string(a.ID), events.ArrayDeleted{Wipe: true})
		d.finish(a.ref(), events.OperationDone{Message: "it is deleted"}, "delete")
		d.endReplacement(a)
	}
}

// storageReactions lists the arrays that need an owner and may find one now.
func (s *State) storageReactions(r events.Recorded) []events.ArrayID {
	look := false
	for _, e := range r.Events {
		switch e.Data.(type) {
		case events.ArrayOwnerEnded, events.ArrayCreated, events.StorageReady, events.LogSettled, events.FabricJoined, events.MachineReturned,
			events.OperationTimedOut, events.ArrayFencedOwnerGone:
			look = true
		}
	}
	if !look {
		return nil
	}
	var out []events.ArrayID
	for id, a := range s.storage.arrays {
		if a.Owner == nil && !a.retired {
			out = append(out, id)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

package desired

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"cloudengine/events"
	document "cloudengine/events/desired"
)

// storage is what documents about storage are made from.
type storage struct {
	fabrics map[events.FabricID]*fabric
	disks   map[events.DiskID]events.DiskFound
	pools   map[events.PoolID]events.PoolCreated
	arrays  map[events.ArrayID]*array
	volumes map[events.VolumeID]*volume
	roles   map[events.MachineID]string
	wipes   map[events.DiskID]wipe
}

// wipe is a disk that is to be wiped of a deleted array.
type wipe struct {
	array events.ArrayID
	epoch events.Epoch // of its last owner
	term  uint64       // in which it was deleted
}

type fabric struct {
	data    events.FabricCreated
	members map[events.MachineID]events.FabricJoined
}

type array struct {
	data    events.ArrayCreated
	owner   *events.ArrayOwnerGranted
	term    uint64 // in which it was granted
	revoked bool
	fenced  bool         // nobody is given a leg as long as the owner's grant is not over
	epoch   events.Epoch // of the last owner
	made    bool
	events  uint64
	hosts   map[events.MachineID]int // that run VMs with disks on it
	told    map[events.MachineID]bool
	sync    syncing

	replacing *replacing // nil: no leg is being replaced
}

// replacing is a leg that is being replaced.
type replacing struct {
	events.ArrayLegReplacing
	cancelled bool
}

type volume struct {
	data     events.VolumeCreated
	segments []events.Segment
	ready    []events.Segment // of them: their records were written, and hosts may use them
	deleted  bool
	vm       events.VMID
	slot     string
	limits   events.DiskLimits
	tries    int // so often another try to fill it was asked for
}

func newStorage() storage {
	return storage{
		fabrics: map[events.FabricID]*fabric{}, disks: map[events.DiskID]events.DiskFound{}, pools: map[events.PoolID]events.PoolCreated{},
		arrays: map[events.ArrayID]*array{}, volumes: map[events.VolumeID]*volume{}, roles: map[events.MachineID]string{},
		wipes: map[events.DiskID]wipe{},
	}
}

func (s *storage) arrayIDs() []events.ArrayID { return sorted(s.arrays) }

func sorted[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (s *storage) fabricOf(a *array) (events.FabricID, *fabric) {
	id := s.pools[a.data.Pool].Fabric
	return id, s.fabrics[id]
}

var errNoObject = errors.New("there is no such object")

// store applies an event of storage.
func (c *change) store() error {
	s, id := &c.f.storage, c.e.Aggregate.ID
	switch d := c.e.Data.(type) {
	case events.FabricCreated:
		s.fabrics[events.FabricID(id)] = &fabric{d, map[events.MachineID]events.FabricJoined{}}
	case events.FabricDeleted:
		delete(s.fabrics, events.FabricID(id))
	case events.FabricJoined, events.FabricLeft:
		return c.member(events.FabricID(id))
	case events.DiskFound:
		s.disks[events.DiskID(id)] = d
		c.sayExportsOf(events.DiskID(id))
		c.sayWipe(events.DiskID(id))
	case events.DiskReleased:
		c.released(events.DiskID(id))
	case events.PoolCreated:
		s.pools[events.PoolID(id)] = d
	case events.PoolDeleted:
		delete(s.pools, events.PoolID(id))
	case events.DiskGone, events.DiskExported, events.PoolCheckEverySet:
	default:
		if c.e.Aggregate.Kind == events.KindVolume {
			return c.volume(events.VolumeID(id))
		}
		return c.array(events.ArrayID(id))
	}
	return nil
}

func (c *change) member(id events.FabricID) error {
	f, ok := c.f.storage.fabrics[id]
	if !ok {
		return fmt.Errorf("fabric %s: %w", id, errNoObject)
	}
	switch d := c.e.Data.(type) {
	case events.FabricJoined:
		f.members[d.Machine] = d
		c.sayMember(id, d.Machine)
		c.sayArraysOn(id)
		c.sayNetworksOn(id)
	case events.FabricLeft:
		delete(f.members, d.Machine)
		if boot, up := c.f.boots[d.Machine]; up {
			c.put(d.Machine, boot, document.KindFabric, string(id), document.Fabric{Fabric: id, Want: document.Absent})
		}
		c.sayArraysOn(id)
		c.sayNetworksOn(id)
	}
	return nil
}

// sayMember tells a machine how it is attached to a fabric.
func (c *change) sayMember(id events.FabricID, m events.MachineID) {
	f, boot := c.f.storage.fabrics[id], c.f.boots[m]
	x, in := f.members[m]
	if !in || boot == "" {
		return
	}
	address := x.Address
	if p, err := netip.ParsePrefix(f.data.Subnet); err == nil {
		address = fmt.Sprintf("%s/%d", x.Address, p.Bits())
	}
	c.put(m, boot, document.KindFabric, string(id), document.Fabric{
		Fabric: id, Transport: f.data.Transport, MAC: x.MAC, Address: address, MTU: f.data.MTU, Want: document.There,
	})
}

// tellStorage says all of storage to a machine's new boot.
func (c *change) tellStorage(m events.MachineID) {
	s := &c.f.storage
	for _, id := range sorted(s.fabrics) {
		if _, in := s.fabrics[id].members[m]; in {
			c.sayMember(id, m)
			c.sayArraysOn(id)
		}
	}
	c.sayWipes(m)
}

func (c *change) sayArraysOn(id events.FabricID) {
	for _, a := range c.f.storage.arrayIDs() {
		if on, _ := c.f.storage.fabricOf(c.f.storage.arrays[a]); on == id {
			c.sayArray(a)
		}
	}
}

func (c *change) array(id events.ArrayID) error {
	s := &c.f.storage
	if d, ok := c.e.Data.(events.ArrayCreated); ok {
		s.arrays[id] = &array{data: d, sync: newSyncing(), hosts: map[events.MachineID]int{}, told: map[events.MachineID]bool{}}
		c.sayArray(id)
		return nil
	}
	a, ok := s.arrays[id]
	if !ok {
		return fmt.Errorf("array %s: %w", id, errNoObject)
	}
	switch d := c.e.Data.(type) {
	case events.ArrayOwnerGranted:
		if a.owner != nil {
			return fmt.Errorf("proxy %s, epoch %s: %w", a.owner.Proxy, a.owner.Epoch, ErrTwoGrants)
		}
		a.owner, a.term, a.epoch, a.revoked = &d, c.f.term, d.Epoch, false
	case events.ArrayOwnerRevoked:
		a.revoked = true
	case events.ArrayFencingBegan:
		a.fenced = true
	case events.ArrayLegFenced, events.ArrayLegUnfenced, events.ArrayFencedOwnerGone:
		return nil // what is asked for stays the same
	case events.ArrayOwnerEnded:
		a.owner, a.revoked, a.fenced = nil, false, false
	case events.ArrayObserved:
		if a.made == d.Made && a.events >= d.Events {
			return nil // what its owner sees changes no document
		}
		a.made, a.events = d.Made, max(a.events, d.Events) // the event count goes to the owner itself too: it may assemble again
	case events.ArrayLegReplacing, events.ArrayLegReplacementCancelled, events.ArrayLegReplacementEnded, events.ArrayLegReplaced:
		c.replace(id, a)
		c.sayWipes("")
	case events.ArraySyncSeen, events.ArrayCheckWanted, events.ArrayPathObserved:
		return nil
	case events.ArrayResyncSet, events.ArrayResyncHeld, events.ArrayCheckStarted, events.ArrayChecked:
		a.sync.changed(d)
	case events.ArrayDeleted:
		c.unsayArray(id, a, d.Wipe)
		delete(s.arrays, id)
		return nil
	}
	c.sayArray(id)
	return nil
}

func (c *change) volume(id events.VolumeID) error {
	s := &c.f.storage
	d, made := c.e.Data.(events.VolumeCreated)
	if g, ok := c.e.Data.(events.GoldenCreated); ok {
		d, made = g.Volume(), true
	}
	if made {
		s.volumes[id] = &volume{data: d, segments: d.Segments}
		c.sayArray(d.Array)
		return nil
	}
	v, ok := s.volumes[id]
	if !ok {
		return fmt.Errorf("volume %s: %w", id, errNoObject)
	}
	switch d := c.e.Data.(type) {
	case events.VolumeGrown:
		v.segments = d.Segments
	case events.VolumeLimited:
		v.limits = events.DiskLimits(d)
		if vm, ok := c.f.vms[v.vm]; ok {
			c.say(v.vm, vm)
		}
		return nil // it changes nothing for its array
	case events.VolumeAttached:
		v.vm, v.slot = d.VM, d.Slot
		return nil // its VM does not run
	case events.VolumeDetached:
		v.vm, v.slot = "", ""
		return nil
	case events.VolumeReady:
		v.ready = v.segments
	case events.VolumeFillRetried:
		v.tries++
	case events.VolumeDeleted:
		v.deleted = true
	case events.VolumeWiped:
		delete(s.volumes, id)
	default:
		return nil
	}
	c.sayArray(v.data.Array)
	if vm, ok := c.f.vms[v.vm]; ok {
		c.say(v.vm, vm)
	}
	return nil
}

// uses counts the hosts that need an array for the disks of a VM.
func (c *change) uses(vm events.VMID, host events.MachineID, n int) {
	for _, id := range sorted(c.f.storage.volumes) {
		v := c.f.storage.volumes[id]
		if v.vm != vm {
			continue
		}
		a := c.f.storage.arrays[v.data.Array]
		if a.hosts[host] += n; a.hosts[host] == 0 {
			delete(a.hosts, host)
		}
		c.sayArray(v.data.Array)
	}
}

// disksOf gives the disks of a VM by slot. A volume that grew has its new extents once the array's owner has zeroed and recorded them: what a
// guest wrote there before would be lost.
func (c *change) disksOf(vm events.VMID) []document.Disk {
	var out []document.Disk
	for id, v := range c.f.storage.volumes {
		if v.vm == vm {
			a := c.f.storage.arrays[v.data.Array]
			out = append(out, document.Disk{Slot: v.slot, Volume: id, Array: v.data.Array, NAA: arrayNAA(v.data.Array),
				ExtentMiB: c.f.storage.pools[a.data.Pool].ExtentMiB, StartMiB: a.data.StartMiB, Segments: v.ready, Limits: v.limits})
		}
	}
	slices.SortFunc(out, func(a, b document.Disk) int {
		if a.Slot < b.Slot {
			return -1
		}
		return 1
	})
	return out
}

func arrayNAA(id events.ArrayID) string {
	return events.NAA(events.UnitSerial(events.KindArray, string(id)))
}

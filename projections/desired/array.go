package desired

import (
	"cloudengine/events"
	document "cloudengine/events/desired"
)

// sayArray renders all documents about one array: what its storage nodes export and to whom, what each proxy is to it, and which hosts
// need it. At no time two proxies are told that it is theirs, and its legs are exported to its owner only.
//
// While the log is not settled, the owner of an earlier term may have been followed by another in the part that is lost: then nothing is said.
func (c *change) sayArray(id events.ArrayID) {
	a, ok := c.f.storage.arrays[id]
	if !ok {
		return
	}
	if c.f.held && a.owner != nil && a.term < c.f.term {
		c.sayNothing(id, a)
		return
	}
	fid, f := c.f.storage.fabricOf(a)
	if f == nil {
		return
	}
	for _, l := range a.disks() {
		c.sayExport(id, a, fid, f, l)
	}
	group := 0
	for _, m := range sorted(f.members) {
		if !c.f.storage.isProxy(m) {
			continue
		}
		group++
		c.sayProxy(id, a, fid, f, m, group)
	}
	c.sayPaths(id, a, fid, f)
}

// sayNothing takes back what was said of an array: no opinion.
func (c *change) sayNothing(id events.ArrayID, a *array) {
	for _, l := range a.disks() {
		if node := c.f.storage.disks[l.Disk].Node; c.f.boots[node] != "" {
			c.put(node, c.f.boots[node], document.KindExport, string(l.Disk), document.Export{Disk: l.Disk, Array: id, To: []document.Peer{}})
		}
	}
	for _, m := range sorted(a.told) {
		if boot := c.f.boots[m]; boot != "" && c.f.storage.isProxy(m) {
			c.put(m, boot, document.KindArray, string(id), document.Array{Array: id, Name: a.data.Name, To: []document.Peer{}})
		}
	}
}

func (s *storage) isProxy(m events.MachineID) bool { return s.roles[m] == events.RoleProxy }

// sectors is the size of an array as hosts see it: up to the end of its last extent. It follows from what never changes, so every proxy tells
// the same one, whatever disks are in it.
func (s *storage) sectors(a *array) uint64 {
	const perMiB = 1 << 20 / 512
	return uint64(a.data.StartMiB+a.data.Extents*s.pools[a.data.Pool].ExtentMiB) * perMiB
}

func extents(all []events.Segment) int {
	n := 0
	for _, s := range all {
		n += s.Count
	}
	return n
}

func peer(f *fabric, m events.MachineID) document.Peer {
	return document.Peer{Machine: m, Address: f.members[m].Address, MAC: f.members[m].MAC}
}

// sayExport: the storage node that has the disk gives it to the owner, and to nobody else; to nobody at all while the owner is fenced off.
func (c *change) sayExport(id events.ArrayID, a *array, fid events.FabricID, f *fabric, l events.Leg) {
	disk := c.f.storage.disks[l.Disk]
	boot := c.f.boots[disk.Node]
	if boot == "" {
		return
	}
	e := document.Export{Disk: l.Disk, Serial: disk.Serial, UnitSerial: events.UnitSerial(events.KindDisk, string(l.Disk)), Fabric: fid, Array: id,
		Epoch: a.epoch, To: []document.Peer{}, Want: document.There}
	if a.owner != nil && !a.fenced {
		e.To = append(e.To, peer(f, a.owner.Proxy))
	}
	c.put(disk.Node, boot, document.KindExport, string(l.Disk), e)
}

func (c *change) sayProxy(id events.ArrayID, a *array, fid events.FabricID, f *fabric, m events.MachineID, group int) {
	boot := c.f.boots[m]
	if boot == "" {
		return
	}
	d := document.Array{Array: id, Name: a.data.Name, Fabric: fid, Want: document.Standby, Epoch: a.epoch,
		Sectors: c.f.storage.sectors(a), UnitSerial: events.UnitSerial(events.KindArray, string(id)), Group: group, To: []document.Peer{}}
	for _, h := range sorted(a.hosts) {
		d.To = append(d.To, peer(f, h))
	}
	if o := a.owner; o != nil && o.Proxy == m && o.Boot == boot && !a.revoked && !a.fenced {
		p := c.f.storage.pools[a.data.Pool]
		d.Want, d.Create, d.ChunkKiB, d.ExtentMiB, d.StartMiB, d.MinEvents = document.Active, !a.made, a.data.ChunkKiB, p.ExtentMiB, a.data.StartMiB, a.events
		d.Copies = p.Redundancy
		for _, l := range a.data.Legs {
			d.Legs = append(d.Legs, c.leg(f, l))
		}
		d.Replacements = c.replacements(f, a)
		d.Volumes = c.volumesOf(id)
		d.Resync = a.sync.render()
	}
	c.put(m, boot, document.KindArray, string(id), d)
	a.told[m] = true
}

func (c *change) volumesOf(id events.ArrayID) []document.Volume {
	var out []document.Volume
	for _, v := range sorted(c.f.storage.volumes) {
		x := c.f.storage.volumes[v]
		if x.data.Array != id {
			continue
		}
		d := document.Volume{Volume: v, Segments: x.segments, Source: x.data.Source, SourceBytes: x.data.SourceBytes, Keep: extents(x.ready), Want: document.There}
		if len(x.ready) == 0 {
			d.SourceContent, d.From, d.Try = x.data.SourceContent, x.data.From, x.tries
		}
		if x.deleted {
			d.Want = document.Absent
		}
		out = append(out, d)
	}
	return out
}

// sayPaths tells hosts from where they have the array, and those that do not need it any more that it is over.
func (c *change) sayPaths(id events.ArrayID, a *array, fid events.FabricID, f *fabric) {
	d := document.Path{Array: id, Fabric: fid, NAA: arrayNAA(id), Want: document.There}
	for _, m := range sorted(f.members) {
		if c.f.storage.isProxy(m) {
			d.From = append(d.From, peer(f, m))
		}
	}
	for _, h := range sorted(a.hosts) {
		if boot := c.f.boots[h]; boot != "" {
			c.put(h, boot, document.KindPath, string(id), d)
			a.told[h] = true
		}
	}
	for _, h := range sorted(a.told) {
		if boot := c.f.boots[h]; boot != "" && a.hosts[h] == 0 && !c.f.storage.isProxy(h) {
			c.put(h, boot, document.KindPath, string(id), document.Path{Array: id, Fabric: fid, NAA: arrayNAA(id), Want: document.Absent})
			delete(a.told, h)
		}
	}
}

// unsayArray ends what was said of an array that is deleted.
func (c *change) unsayArray(id events.ArrayID, a *array, wiped bool) {
	for _, l := range a.disks() {
		x := wipe{array: id, epoch: a.epoch, term: c.r.Term}
		if wiped {
			c.f.storage.wipes[l.Disk] = x
			c.sayWipe(l.Disk)
			continue
		}
		c.sayFree(l.Disk, x, document.Absent)
	}
	for _, m := range sorted(a.told) {
		if boot := c.f.boots[m]; boot != "" && c.f.storage.isProxy(m) {
			c.put(m, boot, document.KindArray, string(id), document.Array{Array: id, Name: a.data.Name, Want: document.Absent, Epoch: a.epoch, To: []document.Peer{}})
		}
	}
}

// sayExportsOf renders the export of one disk, which may be on another storage node now.
func (c *change) sayExportsOf(disk events.DiskID) {
	for _, id := range c.f.storage.arrayIDs() {
		for _, l := range c.f.storage.arrays[id].disks() {
			if l.Disk == disk {
				c.sayArray(id)
			}
		}
	}
}

// sayFree tells the storage node of a disk that nobody is given it, and what else is wanted of it.
func (c *change) sayFree(id events.DiskID, x wipe, want string) {
	disk := c.f.storage.disks[id]
	if boot := c.f.boots[disk.Node]; boot != "" {
		c.put(disk.Node, boot, document.KindExport, string(id), document.Export{Disk: id, Serial: disk.Serial, Array: x.array, Epoch: x.epoch,
			To: []document.Peer{}, Want: want})
	}
}

// sayWipe tells the storage node of a disk that it is to be wiped, if so. While the log is not settled, the part that is lost may have given
// the disk to another array: then nothing is said.
func (c *change) sayWipe(id events.DiskID) {
	x, ok := c.f.storage.wipes[id]
	switch {
	case !ok:
	case c.f.held && x.term < c.f.term:
		c.sayFree(id, x, "")
	default:
		c.sayFree(id, x, document.Wiped)
	}
}

// sayWipes is sayWipe for the disks of a storage node; empty: of all.
func (c *change) sayWipes(node events.MachineID) {
	for _, id := range sorted(c.f.storage.wipes) {
		if node == "" || c.f.storage.disks[id].Node == node {
			c.sayWipe(id)
		}
	}
}

// released: nothing more is wanted of a disk.
func (c *change) released(id events.DiskID) {
	if x, ok := c.f.storage.wipes[id]; ok {
		delete(c.f.storage.wipes, id)
		c.sayFree(id, x, document.Absent)
	}
}

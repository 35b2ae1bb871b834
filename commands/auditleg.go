package commands

import "cloudengine/events"

// auditLegs is what Audit knows of the legs of one array.
type auditLegs struct {
	copies    int
	slots     []events.DiskID
	replacing *events.ArrayLegReplacing
}

// has says whether a disk is a leg, or follows one.
func (l auditLegs) has(disk events.DiskID) bool {
	for _, x := range l.slots {
		if x == disk {
			return true
		}
	}
	return l.replacing != nil && l.replacing.New == disk
}

// legEvent: one replacement at a time, by a disk that is free and on no storage node of another copy (I8); it ends by the word of the owner, and
// neither disk is free before its storage node says so.
func (a *Audit) legEvent(r events.Recorded, e events.Event) {
	s, id := &a.storage, e.Aggregate.ID
	l := s.arrays[id]
	switch d := e.Data.(type) {
	case events.ArrayLegReplacing:
		switch other, used := s.legs[d.New]; {
		case l.replacing != nil:
			a.fail(r, "I8", "array %s: leg %d is replaced while leg %d is", id, d.Slot, l.replacing.Slot)
		case d.Slot < 0 || d.Slot >= len(l.slots) || l.slots[d.Slot] != d.Old:
			a.fail(r, "I8", "array %s: leg %d is replaced, and is not disk %s", id, d.Slot, d.Old)
		case used:
			a.fail(r, "I2", "disk %s shall follow a leg of array %s and is a leg of %s", d.New, id, other)
		}
		a.apart(r, id, l, d.Slot, d.New)
		s.legs[d.New], l.replacing = id, &d
	case events.ArrayLegReplaced:
		p := l.replacing
		if p == nil || p.Slot != d.Slot || p.Old != d.Old || p.New != d.New {
			a.fail(r, "I8", "array %s: leg %d was replaced, and was not being replaced", id, d.Slot)
			return
		}
		a.require(r, a.byOwner(r, id), "a leg is replaced by the word of the array's owner")
		a.apart(r, id, l, d.Slot, d.New)
		l.slots = append([]events.DiskID(nil), l.slots...)
		l.slots[d.Slot], l.replacing = d.New, nil
	case events.ArrayLegReplacementEnded:
		if l.replacing == nil || l.replacing.New != d.New {
			a.fail(r, "I8", "array %s: a replacement by disk %s ended, and there was none", id, d.New)
		}
		a.require(r, a.byOwner(r, id), "a replacement ends by the word of the array's owner")
		l.replacing = nil
	default:
		return
	}
	s.arrays[id] = l
}

func (a *Audit) byOwner(r events.Recorded, array string) bool {
	o, owned := a.storage.owners[array]
	return owned && r.Actor == MachineActor(o.Proxy) && r.Verb == "report_storage"
}

// apart: no other copy of what a slot holds is on the storage node of a disk.
func (a *Audit) apart(r events.Recorded, id string, l auditLegs, slot int, disk events.DiskID) {
	n := max(1, l.copies)
	for i := slot / n * n; i < slot/n*n+n && i < len(l.slots); i++ {
		if i != slot && a.storage.nodes[l.slots[i]] == a.storage.nodes[disk] {
			a.fail(r, "I8", "array %s: disk %s for leg %d is on the storage node of leg %d, which holds the same data", id, disk, slot, i)
		}
	}
}

package desired

import (
	"cloudengine/events"
	document "cloudengine/events/desired"
)

// disks lists the legs of an array, and the disk that follows one of them: each is exported to the owner.
func (a *array) disks() []events.Leg {
	legs := a.data.Legs[:len(a.data.Legs):len(a.data.Legs)]
	if p := a.replacing; p != nil {
		legs = append(legs, events.Leg{Slot: p.Slot, Disk: p.New, Node: p.Node})
	}
	return legs
}

func (c *change) leg(f *fabric, l events.Leg) document.Leg {
	return document.Leg{Slot: l.Slot, Disk: l.Disk, NAA: events.NAA(events.UnitSerial(events.KindDisk, string(l.Disk))), At: peer(f, c.f.storage.disks[l.Disk].Node)}
}

// replacements tells the owner which disk follows a leg.
func (c *change) replacements(f *fabric, a *array) []document.Replacement {
	p := a.replacing
	if p == nil {
		return nil
	}
	r := document.Replacement{Leg: c.leg(f, events.Leg{Slot: p.Slot, Disk: p.New}), Want: document.There}
	if p.cancelled {
		r.Want = document.Absent
	}
	return []document.Replacement{r}
}

// replace takes what happens to a leg that is being replaced. The disk that is no leg any more is wiped.
func (c *change) replace(id events.ArrayID, a *array) {
	leave := func(disk events.DiskID) {
		a.replacing = nil
		c.f.storage.wipes[disk] = wipe{array: id, epoch: a.epoch, term: c.r.Term}
	}
	switch d := c.e.Data.(type) {
	case events.ArrayLegReplacing:
		a.replacing = &replacing{ArrayLegReplacing: d}
	case events.ArrayLegReplacementCancelled:
		if a.replacing != nil {
			a.replacing.cancelled = true
		}
	case events.ArrayLegReplacementEnded:
		leave(d.New)
	case events.ArrayLegReplaced:
		leave(d.Old)
		legs := append([]events.Leg(nil), a.data.Legs...)
		for i := range legs {
			if legs[i].Slot == d.Slot {
				legs[i].Disk, legs[i].Node = d.New, d.Node
			}
		}
		a.data.Legs = legs
	}
}

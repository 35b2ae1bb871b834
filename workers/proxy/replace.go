package proxy

import (
	"errors"
	"fmt"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/md"
)

// disks lists the legs of an active document, and the disks that follow some of them.
func (w Wish) disks() []desired.Leg {
	out := w.Legs[:len(w.Legs):len(w.Legs)]
	for _, r := range w.Replacements {
		out = append(out, r.Leg)
	}
	return out
}

// disks lists the legs by slot, then what follows some of them.
func (v view) disks() []legView { return append(v.legs[:len(v.legs):len(v.legs)], v.follow...) }

// replacements brings the disks that follow a leg to md, or lets go of those that shall not follow any more. It says for which slots the leg
// itself is not to be joined.
func (p *planner) replacements(a MD) map[int]bool {
	follows := map[int]bool{}
	for i, r := range p.v.wish.Replacements {
		l := p.v.follow[i]
		switch {
		case r.Want == desired.Absent:
			p.letGo(a, l)
		case p.follow(a, l):
			follows[l.Slot] = true
		}
	}
	return follows
}

// follow: while the leg is good, the new disk is filled beside it, and md itself lets go of the leg then; an empty slot is the new disk's. It
// says whether the slot is the new disk's: the leg is joined again only while the new disk cannot be had.
func (p *planner) follow(a MD, l legView) bool {
	old := a.InSlot(l.Slot)
	switch why := p.unfit(a, l); {
	case l.lun != nil && a.Of(l.lun.Dev) != nil: // it is filled, it is full, or it is being removed
		return true
	case why != "":
		p.note("disk %s that follows leg %d on %s: %s", l.Disk, l.Slot, l.At.Machine, why)
		return false
	case old == nil && !a.Spare(l.Slot):
		p.note("disk %s cannot follow leg %d: no copy of it is there", l.Disk, l.Slot)
		return false
	case old != nil && (!old.Is("in_sync") || p.v.dead(old.Dev)):
		p.note("leg %d is replaced when it is in sync, or gone", l.Slot)
		return false
	}
	p.do(stepReplace, "it follows the leg", "md", a.Name, "dev", l.lun.Dev, "naa", l.NAA, "slot", fmt.Sprint(l.Slot),
		"epoch", p.v.wish.Epoch.String())
	return true
}

// unfit says why a disk cannot be filled now, or nothing. What another array has left on it may be lost: the log has chosen it, and a human has
// agreed; but not what belongs to an array that runs here.
func (p *planner) unfit(a MD, l legView) string {
	switch {
	case l.lun == nil:
		return "it is not there"
	case l.lun.State != "" && l.lun.State != "running":
		return "it is " + l.lun.State
	case !p.v.ours(l):
		return p.unlockedWhy(l)
	case l.super.Err != nil && !errors.Is(l.super.Err, md.ErrNoSuper):
		return l.super.Err.Error()
	case l.lun.Bytes>>10 < p.v.wish.legKiB()+offsetKiB:
		return fmt.Sprintf("it is too small: %d KiB", l.lun.Bytes>>10)
	}
	for _, x := range p.seen.MD {
		if x.Name != a.Name && (x.Of(l.lun.Dev) != nil || l.super.Err == nil && x.UUID == l.super.UUID) {
			return "it belongs to an array that runs, " + string(x.ID)
		}
	}
	return ""
}

// letGo: a disk that shall not follow any more, and is not the only one in its slot that is good, is taken out of md. One that is the leg
// already stays, and is told.
func (p *planner) letGo(a MD, l legView) {
	if l.lun == nil {
		return
	}
	m := a.Of(l.lun.Dev)
	if m == nil || m.Is("faulty") || m.Slot < 0 {
		return
	}
	if in := a.InSlot(m.Slot); in.Dev == m.Dev && m.Is("in_sync") {
		return
	}
	p.do(stepFail, "it shall not follow the leg", "md", a.Name, "dev", m.Dev)
}

// members says by slot which disk md has there, and what else it has. A disk counts as the one in a slot when its superblock, and those of the
// others that are good, say the same: else who has the array next would not find it there. Before that, and with a member that is not known, it
// says nothing at all.
func (v view) members(a MD) (in, beside []events.DiskID) {
	in = make([]events.DiskID, len(v.legs))
	for i := range a.Members {
		m := &a.Members[i]
		l := v.leg(m.Dev)
		if l == nil {
			return nil, nil
		}
		if now := a.InSlot(l.Slot); now != nil && now.Dev == m.Dev {
			if !v.written(a, *l) {
				return nil, nil
			}
			in[l.Slot] = l.Disk
			continue
		}
		beside = append(beside, l.Disk)
	}
	return in, beside
}

// written says whether superblocks have a disk in its slot, alone.
func (v view) written(a MD, l legView) bool {
	if l.super.Err != nil || l.super.UUID != string(v.id) || l.super.Slot() != l.Slot || l.super.Replaces() || !l.super.Complete() {
		return false
	}
	for _, o := range v.disks() {
		if o.lun == nil || o.super.Err != nil || o.super.UUID != string(v.id) {
			continue
		}
		if m := a.InSlot(o.Slot); m == nil || m.Dev != o.lun.Dev || !m.Is("in_sync") {
			continue
		}
		for n := range o.super.Roles {
			if o.super.SlotOf(n) == l.Slot && n != l.super.DevNumber {
				return false
			}
		}
		if o.super.SlotOf(l.super.DevNumber) != l.Slot {
			return false
		}
	}
	return true
}

package commands

import (
	"slices"
	"sort"
	"time"

	"cloudengine/events"
)

// Replacement is a leg that is being replaced.
type Replacement struct {
	Slot      int
	Old, New  events.DiskID
	Since     events.Generation // of the decision that began it
	Cancelled events.Generation // of the decision that cancelled it; zero: none did
}

// replaceTimeout is how long an operation waits for a disk to be filled. Its end ends no replacement.
const replaceTimeout = 7 * 24 * time.Hour

// ReplaceLeg replaces a leg of an array by another disk.
type ReplaceLeg struct {
	Array events.ArrayID `json:"array"`
	Disk  events.DiskID  `json:"disk"`           // leg that is replaced
	With  events.DiskID  `json:"with,omitempty"` // disk that follows it; empty: one that is free is chosen
}

func (a ReplaceLeg) check() *Rejection {
	r := first(checkID("array", string(a.Array)), checkID("disk", string(a.Disk)))
	if r == nil && a.With != "" {
		r = checkID("with", string(a.With))
	}
	return r
}

func decideReplaceLeg(d *decision, a ReplaceLeg) error {
	x, err := d.array(a.Array)
	if err != nil {
		return err
	}
	leg, ok := x.leg(a.Disk)
	if !ok {
		return reject(events.CodeNotFound, "disk %s is no leg of array %q", d.s.serial(a.Disk), x.Data.Name)
	}
	if p := x.replacing; p != nil {
		if p.Old == a.Disk && (a.With == "" || a.With == p.New) && p.Cancelled == (events.Generation{}) {
			return nil
		}
		return reject(events.CodeConflict, "leg %d of array %q is being replaced by disk %s: one at a time", p.Slot, x.Data.Name, d.s.serial(p.New))
	}
	if why := d.s.cannotReplace(x, leg); why != "" {
		return reject(events.CodeConflict, "no leg of array %q can be replaced now: %s", x.Data.Name, why)
	}
	disk, err := d.follower(x, leg, a.With)
	if err != nil {
		return err
	}
	d.replace(x, leg, disk)
	d.startOperation(x.ref(), replaceTimeout)
	return nil
}

func (d *decision) replace(x *Array, leg events.Leg, disk *Disk) {
	d.add(events.KindArray, string(x.ID), events.ArrayLegReplacing{Slot: leg.Slot, Old: leg.Disk, New: disk.ID, Node: disk.Data.Node})
}

// disks lists the legs, and the disk that follows one of them.
func (a *Array) disks() []events.Leg {
	if a.replacing == nil {
		return a.Data.Legs
	}
	return append(a.Data.Legs[:len(a.Data.Legs):len(a.Data.Legs)], events.Leg{Slot: a.replacing.Slot, Disk: a.replacing.New})
}

// endReplacement ends the operations of a replacement in an array that is deleted.
func (d *decision) endReplacement(a *Array) {
	d.finish(a.ref(), events.OperationFailed{Message: "the array was deleted"}, "replace_leg", "cancel_replacement")
}

// leg finds the leg that is a disk.
func (a *Array) leg(disk events.DiskID) (events.Leg, bool) {
	for _, l := range a.Data.Legs {
		if l.Disk == disk {
			return l, true
		}
	}
	return events.Leg{}, false
}

// cannotReplace says why a leg cannot be replaced now, or nothing. Who fills the new disk is the owner, from a copy that md has in sync.
func (s *State) cannotReplace(a *Array, leg events.Leg) string {
	switch {
	case a.retired:
		return "it is to be deleted"
	case a.Owner == nil:
		return "it has no owner"
	case a.Owner.Revoked != (events.Generation{}):
		return "it is on its way to another proxy"
	case !a.Seen.Made || a.Seen.Epoch != a.Owner.Epoch || a.Seen.State != events.ArrayActive:
		return "its owner does not say that it is active"
	case s.machines[a.Owner.Proxy].Silent:
		return "its owner is silent"
	}
	n := s.storage.pools[a.Data.Pool].Data.Redundancy
	for slot := leg.Slot / n * n; slot < leg.Slot/n*n+n && slot < len(a.Seen.Legs); slot++ {
		if a.Seen.Legs[slot] == events.LegInSync {
			return ""
		}
	}
	return "no copy of what the leg holds is in sync, so nothing can fill another disk"
}

// needMiB is how large a disk must be to be a leg of an array: as large as the smallest of its legs needed to be.
func (s *State) needMiB(a *Array) int {
	p := s.storage.pools[a.Data.Pool].Data
	sets := max(1, len(a.Data.Legs)/p.Redundancy)
	return (a.Data.StartMiB+a.Data.Extents*p.ExtentMiB+sets-1)/sets + legReserveMiB
}

// follower gives the disk that shall follow a leg: the one that was named, if it can, or the best one that is free.
func (d *decision) follower(a *Array, leg events.Leg, named events.DiskID) (*Disk, error) {
	if named == "" {
		if x := d.s.chooseFollower(a, leg, nil); x != nil {
			return x, nil
		}
		return nil, reject(events.CodeNoCapacity, "there is no free disk without data of %d MiB that could follow leg %d of array %q: on a storage node that is up, is not drained, and has none of its copies",
			d.s.needMiB(a), leg.Slot, a.Data.Name)
	}
	x, ok := d.s.storage.disks[named]
	if !ok {
		return nil, reject(events.CodeNotFound, "there is no disk %s", named)
	}
	if why := d.s.cannotFollow(a, leg, x); why != "" {
		return nil, reject(events.CodeConflict, "disk %s cannot follow leg %d: %s", x.Data.Serial, leg.Slot, why)
	}
	if x.Data.Signature != "" && !d.c.overrides(GuardForeignData) {
		return nil, guarded(GuardForeignData, "disk %s of %s holds something that is not ours (%s): take another, or lose it with --override=%s --reason \"…\"",
			x.Data.Serial, d.s.machineName(x.Data.Node), x.Data.Signature, GuardForeignData)
	}
	return x, nil
}

// cannotFollow says why a disk cannot follow a leg, or nothing. What it holds is another matter.
func (s *State) cannotFollow(a *Array, leg events.Leg, x *Disk) string {
	m := s.machines[x.Data.Node]
	_, member := s.fabricOf(a).members[x.Data.Node]
	if why := x.usable(); why != "" {
		return why
	}
	switch {
	case m == nil || !member:
		return "it is on a machine that is not on the array's fabric"
	case m.Draining:
		return "its storage node " + m.Name + " is being drained"
	case m.Boot == "" || m.BootOver || m.Silent || s.powerEnds(m):
		return "its storage node " + m.Name + " is not up"
	case x.Data.Bytes>>20 < int64(s.needMiB(a)):
		return "it is too small: legs of the array need " + numberText(uint64(s.needMiB(a))) + " MiB"
	}
	n := s.storage.pools[a.Data.Pool].Data.Redundancy
	for _, l := range a.Data.Legs { // I8
		if l.Slot != leg.Slot && l.Slot/n == leg.Slot/n && s.storage.disks[l.Disk].Data.Node == x.Data.Node {
			return "its storage node " + m.Name + " holds another copy of the same data, leg " + numberText(uint64(l.Slot))
		}
	}
	return ""
}

// chooseFollower takes a free disk without data: of the leg's own storage node if it can, so that what a node has stays on it; else of the one
// that has most left. The smallest that is large enough. without may be nil.
func (s *State) chooseFollower(a *Array, leg events.Leg, without func(*Disk) bool) *Disk {
	var all []*Disk
	left := map[events.MachineID]int{}
	for _, id := range sortedKeys(s.storage.disks) {
		if x := s.storage.disks[id]; x.Data.Signature == "" && (without == nil || !without(x)) && s.cannotFollow(a, leg, x) == "" {
			all = append(all, x)
			left[x.Data.Node]++
		}
	}
	home := s.storage.disks[leg.Disk].Data.Node
	sort.SliceStable(all, func(i, j int) bool {
		p, q := all[i], all[j]
		switch {
		case (p.Data.Node == home) != (q.Data.Node == home):
			return p.Data.Node == home
		case left[p.Data.Node] != left[q.Data.Node]:
			return left[p.Data.Node] > left[q.Data.Node]
		case p.Data.Node != q.Data.Node:
			return p.Data.Node < q.Data.Node
		}
		return p.Data.Bytes < q.Data.Bytes
	})
	if len(all) == 0 {
		return nil
	}
	return all[0]
}

// serial names a disk for people.
func (s *State) serial(id events.DiskID) string {
	if x, ok := s.storage.disks[id]; ok {
		return x.Data.Serial
	}
	return string(id)
}

// decideCancelReplacement: the owner is told to let go of the new disk.
func decideCancelReplacement(d *decision, a ArrayRef) error {
	x, err := d.array(a.Array)
	if err != nil {
		return err
	}
	p := x.replacing
	switch {
	case p == nil:
		return reject(events.CodeConflict, "no leg of array %q is being replaced", x.Data.Name)
	case p.Cancelled != (events.Generation{}):
		return nil
	}
	d.add(events.KindArray, string(x.ID), events.ArrayLegReplacementCancelled{Slot: p.Slot, New: p.New})
	d.startOperation(x.ref(), switchTimeout)
	return nil
}

// legs takes what the owner says of a replacement. It must obey a document that knows of it; whoever it is that owns the array now, md's
// superblocks have told it how far it was.
func (r *storageReported) legs(have *Array, x events.ArrayReport) {
	p := have.replacing
	if have.fencing != nil {
		return // which disks are to be closed is settled; who has the array next says it again
	}
	if p == nil || x.State != events.ArrayActive || p.Slot >= len(x.Disks) || p.Slot >= len(x.Legs) {
		return
	}
	in, beside := x.Disks[p.Slot], func(disk events.DiskID) bool { return slices.Contains(x.Beside, disk) }
	switch {
	case x.Generation.Compare(p.Since) >= 0 && in == p.New && x.Legs[p.Slot] == events.LegInSync && !beside(p.Old):
		r.d.add(events.KindArray, string(have.ID), events.ArrayLegReplaced{Slot: p.Slot, Old: p.Old, New: p.New, Node: r.d.s.storage.disks[p.New].Data.Node})
		r.d.finish(have.ref(), events.OperationDone{Message: "disk " + r.d.s.serial(p.New) + " is leg " + numberText(uint64(p.Slot))}, "replace_leg")
		r.d.finish(have.ref(), events.OperationFailed{Message: "the disk was in sync already, and is the leg now"}, "cancel_replacement")
		r.drained(p)
	case p.Cancelled != (events.Generation{}) && x.Generation.Compare(p.Cancelled) >= 0 && in != p.New && !beside(p.New):
		r.d.add(events.KindArray, string(have.ID), events.ArrayLegReplacementEnded{Slot: p.Slot, New: p.New})
		r.d.finish(have.ref(), events.OperationDone{Message: "disk " + r.d.s.serial(p.Old) + " stays leg " + numberText(uint64(p.Slot))}, "cancel_replacement")
		r.d.finish(have.ref(), events.OperationFailed{Message: "the replacement was cancelled"}, "replace_leg")
	}
}

func (s *State) foldReplacement(a *Array, data events.Payload, at events.Generation) {
	switch e := data.(type) {
	case events.ArrayLegReplacing:
		a.replacing = &Replacement{Slot: e.Slot, Old: e.Old, New: e.New, Since: at}
		s.storage.disks[e.New].Array = a.ID
	case events.ArrayLegReplacementCancelled:
		if a.replacing != nil {
			a.replacing.Cancelled = at
		}
	case events.ArrayLegReplacementEnded:
		a.replacing = nil
		s.leave(e.New, a.ID)
	case events.ArrayLegReplaced:
		a.replacing = nil
		legs := append([]events.Leg(nil), a.Data.Legs...)
		for i := range legs {
			if legs[i].Slot == e.Slot {
				legs[i].Disk, legs[i].Node = e.New, e.Node
			}
		}
		a.Data.Legs = legs
		s.leave(e.Old, a.ID)
	}
}

// leave: a disk is no leg any more, and is wiped before it is free.
func (s *State) leave(disk events.DiskID, array events.ArrayID) {
	if x, ok := s.storage.disks[disk]; ok {
		x.Array, x.Wiping = "", array
	}
}

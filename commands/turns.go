package commands

import (
	"cmp"
	"slices"

	"cloudengine/events"
)

// job is an array that has something to copy or to compare.
type job struct {
	array *Array
	class int    // classRecover first
	since uint64 // decision: the older goes first
	goes  bool
	after events.ArrayID // if not: whose storage nodes it waits for
}

// The classes of jobs, the more urgent first.
const (
	classRecover = iota // a copy is missing until it is done
	classResync         // copies may differ
	classCheck
)

// turns says which arrays may copy or compare now: on each storage node one at a time, the most urgent first, then the one that has waited
// longest. One that waits keeps later ones off its storage nodes, so that none waits for ever. An array without an owner that can do
// anything takes no turn: whoever is dead or silent blocks nobody.
func (s *State) turns() []job {
	var jobs []job
	for _, id := range sortedKeys(s.storage.arrays) {
		if j, ok := s.jobOf(s.storage.arrays[id]); ok {
			jobs = append(jobs, j)
		}
	}
	slices.SortStableFunc(jobs, func(a, b job) int { return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.since, b.since)) })
	taken := map[events.MachineID]events.ArrayID{}
	for i := range jobs {
		j := &jobs[i]
		for _, l := range j.array.disks() {
			if other, ok := taken[s.nodeOf(l)]; ok && j.after == "" {
				j.after = other
			}
		}
		j.goes = j.after == ""
		for _, l := range j.array.disks() {
			if _, ok := taken[s.nodeOf(l)]; !ok {
				taken[s.nodeOf(l)] = j.array.ID
			}
		}
	}
	return jobs
}

// nodeOf gives the storage node that has a leg now.
func (s *State) nodeOf(l events.Leg) events.MachineID {
	if x, ok := s.storage.disks[l.Disk]; ok {
		return x.Data.Node
	}
	return l.Node
}

func (s *State) jobOf(a *Array) (job, bool) {
	o := a.Owner
	if o == nil || a.sync.set.Paused || o.Revoked != (events.Generation{}) {
		return job{}, false
	}
	if m, ok := s.machines[o.Proxy]; !ok || m.Silent || m.BootOver || m.Boot != o.Boot {
		return job{}, false
	}
	switch c := a.sync.check; {
	case a.sync.seen.Needs == events.SyncRecover:
		return job{array: a, class: classRecover, since: a.sync.since}, true
	case a.sync.seen.Needs != "":
		return job{array: a, class: classResync, since: a.sync.since}, true
	case c != nil && a.Seen.State == events.ArrayActive && a.Seen.Degraded == 0:
		return job{array: a, class: classCheck, since: c.since}, true
	}
	return job{}, false
}

// turn gives what has to be decided so that an array does as it may, or nil.
func (s *State) turn(a *Array, jobs []job) events.Payload {
	i := slices.IndexFunc(jobs, func(j job) bool { return j.array == a })
	waits := i >= 0 && !jobs[i].goes
	switch c := a.sync.check; {
	case waits && jobs[i].class == classCheck && c.started.IsZero() && !a.sync.held.Held:
		return nil // it is not begun
	case waits:
		if want := (events.ArrayResyncHeld{Held: true, Behind: jobs[i].after}); want != a.sync.held {
			return want
		}
	case a.sync.held.Held:
		return events.ArrayResyncHeld{}
	case i >= 0 && jobs[i].class == classCheck && c.started.IsZero():
		return events.ArrayCheckStarted{Check: c.id}
	}
	return nil
}

// syncReactions lists the arrays whose turn has come or gone.
func (s *State) syncReactions(r events.Recorded) []events.ArrayID {
	look := false
	for _, e := range r.Events {
		switch e.Data.(type) {
		case events.ArraySyncSeen, events.ArrayResyncSet, events.ArrayResyncHeld, events.ArrayCheckWanted, events.ArrayChecked, events.ArrayObserved,
			events.ArrayOwnerGranted, events.ArrayOwnerRevoked, events.ArrayOwnerEnded, events.ArrayDeleted, events.MachineSilent,
			events.MachineReturned, events.DiskFound, events.LogSettled:
			look = true
		}
	}
	if !look || !s.settled {
		return nil
	}
	var out []events.ArrayID
	jobs := s.turns()
	for _, id := range sortedKeys(s.storage.arrays) {
		if s.turn(s.storage.arrays[id], jobs) != nil {
			out = append(out, id)
		}
	}
	return out
}

// decideTurn is a reaction: an array's turn to copy or compare has come or gone.
func decideTurn(d *decision, a ArrayRef) error {
	x, ok := d.s.storage.arrays[a.Array]
	if !ok || !d.s.settled {
		return nil
	}
	if p := d.s.turn(x, d.s.turns()); p != nil {
		d.add(events.KindArray, string(x.ID), p)
	}
	return nil
}

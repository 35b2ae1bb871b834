package commands

import (
	"fmt"
	"strings"
	"time"

	"cloudengine/events"
)

// drainTimeout is how long an operation waits for a storage node to be empty. Its end ends no draining.
const drainTimeout = 30 * 24 * time.Hour

func (d *decision) storageNode(id events.MachineID) (*Machine, error) {
	m, ok := d.s.machines[id]
	if !ok {
		return nil, reject(events.CodeNotFound, "there is no machine %s", id)
	}
	if !contains(m.Data.Roles, events.RoleStorageNode) {
		return nil, reject(events.CodeConflict, "machine %q is no storage node: only the legs of those are moved (a host is taken out with host cordon)", m.Name)
	}
	return m, d.expect(events.KindMachine, m.Name)
}

// decideDrain: its disks are not chosen any more, and its legs are replaced one after another. It must be possible for all of them.
func decideDrain(d *decision, a MachineRef) error {
	m, err := d.storageNode(a.Machine)
	if err != nil || m.Draining {
		return err
	}
	if lacking := d.s.undrainable(m); len(lacking) > 0 {
		return reject(events.CodeNoCapacity, "storage node %q cannot be drained: there are not enough free disks without data on other storage nodes that are up and have none of the copies, for %s",
			m.Name, strings.Join(lacking, ", "))
	}
	d.add(events.KindMachine, string(m.ID), events.MachineDrainBegan{})
	if len(d.s.legsOn(m.ID)) > 0 {
		d.startOperation(events.Ref{Kind: events.KindMachine, ID: string(m.ID)}, drainTimeout)
	}
	return nil
}

func decideUndrain(d *decision, a MachineRef) error {
	m, err := d.storageNode(a.Machine)
	if err != nil || !m.Draining {
		return err
	}
	d.add(events.KindMachine, string(m.ID), events.MachineDrainEnded{})
	d.finish(events.Ref{Kind: events.KindMachine, ID: string(m.ID)}, events.OperationFailed{Message: "the draining was ended"}, "drain")
	return nil
}

// legOf is a leg of an array.
type legOf struct {
	array *Array
	leg   events.Leg
}

// legsOn lists the legs on a storage node, by array and slot. One that is being replaced by a disk of the same node counts as well as its follower.
func (s *State) legsOn(node events.MachineID) []legOf {
	var out []legOf
	for _, id := range sortedKeys(s.storage.arrays) {
		a := s.storage.arrays[id]
		for _, l := range a.Data.Legs {
			if s.storage.disks[l.Disk].Data.Node == node {
				out = append(out, legOf{a, l})
			}
		}
	}
	return out
}

// undrainable lists the legs on a node for which no free disk is left elsewhere when each takes one.
func (s *State) undrainable(m *Machine) (lacking []string) {
	taken := map[events.DiskID]bool{}
	for _, l := range s.legsOn(m.ID) {
		if p := l.array.replacing; p != nil && p.Old == l.leg.Disk && s.storage.disks[p.New].Data.Node != m.ID {
			continue
		}
		x := s.chooseFollower(l.array, l.leg, func(x *Disk) bool { return x.Data.Node == m.ID || taken[x.ID] })
		if x == nil {
			lacking = append(lacking, fmt.Sprintf("leg %d of array %q (%d MiB)", l.leg.Slot, l.array.Data.Name, s.needMiB(l.array)))
			continue
		}
		taken[x.ID] = true
	}
	return lacking
}

// nextDrained gives the leg of a draining node that is replaced next, and the disk; nil while one of its legs is being replaced, or none can be.
func (s *State) nextDrained(m *Machine) (legOf, *Disk) {
	all := s.legsOn(m.ID)
	for _, l := range all {
		if p := l.array.replacing; p != nil && p.Old == l.leg.Disk && p.Cancelled == (events.Generation{}) {
			return legOf{}, nil
		}
	}
	for _, l := range all {
		if l.array.replacing != nil || s.cannotReplace(l.array, l.leg) != "" {
			continue
		}
		if x := s.chooseFollower(l.array, l.leg, nil); x != nil {
			return l, x
		}
	}
	return legOf{}, nil
}

// drains lists the draining nodes of which a leg can be replaced now, when something has happened that can begin that.
func (s *State) drains(r events.Recorded) []events.MachineID {
	look := false
	for _, e := range r.Events {
		switch e.Data.(type) {
		case events.MachineDrainBegan, events.ArrayLegReplaced, events.ArrayLegReplacementEnded, events.ArrayObserved, events.DiskFound, events.DiskReleased,
			events.MachineReturned, events.MachineEnrolled, events.LogSettled:
			look = true
		}
	}
	if !look {
		return nil
	}
	var out []events.MachineID
	for _, id := range sortedKeys(s.machines) {
		if m := s.machines[id]; m.Draining {
			if _, x := s.nextDrained(m); x != nil {
				out = append(out, id)
			}
		}
	}
	return out
}

// decideDrainNext is a reaction: the next leg of a draining storage node is replaced.
func decideDrainNext(d *decision, a MachineRef) error {
	m, ok := d.s.machines[a.Machine]
	if !ok || !m.Draining {
		return nil
	}
	if l, x := d.s.nextDrained(m); x != nil {
		d.replace(l.array, l.leg, x)
	}
	return nil
}

// drained ends the operation of a draining storage node when its last leg has been replaced.
func (r *storageReported) drained(p *Replacement) {
	node := r.d.s.storage.disks[p.Old].Data.Node
	m, ok := r.d.s.machines[node]
	if ok && m.Draining && len(r.d.s.legsOn(node)) == 1 && r.d.s.storage.disks[p.New].Data.Node != node {
		r.d.finish(events.Ref{Kind: events.KindMachine, ID: string(node)}, events.OperationDone{Message: "none of its disks is a leg any more"}, "drain")
	}
}

// drainsNode says whether a machine's disks are not to be chosen.
func (s *State) drainsNode(id events.MachineID) bool {
	m, ok := s.machines[id]
	return ok && m.Draining
}

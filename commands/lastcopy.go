package commands

import "cloudengine/events"

// lastCopy names an array that would lose its last good copy of some data with a storage node, or nothing. A copy is good that md said is in
// sync, on a node that is up and keeps its power.
func (s *State) lastCopy(node events.MachineID) (array string) {
	for _, id := range sortedKeys(s.storage.arrays) {
		a := s.storage.arrays[id]
		p, ok := s.storage.pools[a.Data.Pool]
		if !ok || !a.Seen.Made {
			continue
		}
		for _, l := range a.disks() { // a disk that is being filled may be the leg already
			if s.storage.disks[l.Disk].Data.Node == node && !s.anotherCopy(a, l, p.Data.Redundancy) {
				return a.Data.Name
			}
		}
	}
	return ""
}

func (s *State) anotherCopy(a *Array, of events.Leg, copies int) bool {
	for _, l := range a.Data.Legs {
		if l.Slot == of.Slot || l.Slot/copies != of.Slot/copies || l.Slot >= len(a.Seen.Legs) || a.Seen.Legs[l.Slot] != events.LegInSync {
			continue
		}
		x := s.storage.disks[l.Disk]
		m, ok := s.machines[x.Data.Node]
		if ok && !x.Gone && m.Boot != "" && !m.BootOver && !m.Silent && !s.powerEnds(m) {
			return true
		}
	}
	return false
}

// fabricWith names a fabric that a machine is a member of, or nothing.
func (s *State) fabricWith(m events.MachineID) string {
	for _, id := range sortedKeys(s.storage.fabrics) {
		if f := s.storage.fabrics[id]; f.members[m] != (events.FabricJoined{}) {
			return f.Data.Name
		}
	}
	return ""
}

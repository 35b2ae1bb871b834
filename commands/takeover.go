package commands

import (
	"time"

	"cloudengine/events"
)

// witness is what a boot of a host last said about its way to an array.
type witness struct{ boot, state string }

// paths takes what a host sees of arrays, where it has changed.
func (r *storageReported) paths() {
	if !contains(r.m.Data.Roles, events.RoleHost) {
		return
	}
	for _, x := range r.a.Paths {
		have, ok := r.d.s.storage.arrays[x.Array]
		if !ok {
			continue
		}
		said, now := have.paths[r.m.ID], events.PathUsable
		if said.boot != r.a.Boot {
			said.state = ""
		}
		if x.Usable < 1 {
			now = events.PathLost
		}
		if now != said.state && (now == events.PathUsable || said.state == events.PathUsable) {
			r.d.add(events.KindArray, string(have.ID), events.ArrayPathObserved{Host: r.m.ID, Boot: r.a.Boot, State: now})
		}
	}
}

// cutOff says that the owner of an array does not serve it: it is silent, hosts whose VMs have disks there had a way to it and have none
// left, and no host says that it has one. Silence alone says nothing: it may be the way to us that is cut, and all VMs write on.
func (s *State) cutOff(a *Array) bool {
	if a.Owner == nil {
		return false
	}
	m, ok := s.machines[a.Owner.Proxy]
	if !ok || !m.Silent || m.BootOver || m.Boot != a.Owner.Boot {
		return false
	}
	lost := 0
	for id, said := range a.paths {
		h, ok := s.machines[id]
		if !ok || h.Silent || h.BootOver || h.Boot != said.boot || !s.uses(id, a) {
			continue
		}
		if said.state == events.PathUsable {
			return false
		}
		lost++
	}
	return lost > 0
}

// uses says whether a host runs, or may run, a VM with a disk on an array.
func (s *State) uses(host events.MachineID, a *Array) bool {
	for _, vm := range s.grantedOn(host) {
		for _, v := range vm.disks {
			if v.Data.Array == a.ID {
				return true
			}
		}
	}
	return false
}

// takeOvers lists the arrays that are to be taken over from a proxy that is cut off, when something has happened that can begin that.
func (s *State) takeOvers(r events.Recorded) []events.ArrayID {
	look := false
	for _, e := range r.Events {
		switch e.Data.(type) {
		case events.MachineSilent, events.ArrayPathObserved, events.StorageReady, events.MachineReturned, events.MachineBMCChecked, events.LogSettled,
			events.OperationTimedOut, events.OperationFailed:
			look = true
		}
	}
	if !look {
		return nil
	}
	var out []events.ArrayID
	for _, id := range sortedKeys(s.storage.arrays) {
		if a := s.storage.arrays[id]; s.cutOff(a) && a.fencing == nil && !s.powerEnds(s.machines[a.Owner.Proxy]) {
			out = append(out, id)
		}
	}
	return out
}

// manySilent is the mass-failure brake: so many machines may be silent at once, or a tenth of all, while power is cut without a human.
const manySilent = 2

// takeOverPower is how long a controller has to prove that a proxy is off, before its arrays are fenced off from it instead: guests wait.
const takeOverPower = time.Minute

// decideTakeOver is a reaction: a proxy that is silent and whose arrays hosts cannot reach loses its power. That it is off is the proof
// with which another takes its arrays over (I2). Where no controller proves that, or none did in time, all legs are closed to it.
func decideTakeOver(d *decision, a ArrayRef) error {
	x, ok := d.s.storage.arrays[a.Array]
	if !ok || x.fencing != nil || !d.s.cutOff(x) {
		return nil
	}
	m := d.s.machines[x.Owner.Proxy]
	if d.s.powerEnds(m) {
		return nil
	}
	if !d.s.settled {
		return reject(events.CodeConflict, "the log was %s: no power is cut before it is settled", d.s.cause)
	}
	if silent, all := d.s.silence(); silent > max(manySilent, all/10) {
		return reject(events.CodeConflict, "%d of %d machines are silent: perhaps it is the network. Proxy %q, which owns array %q, is left alone until a human decides: machine power off %s, or array failover %s --fence",
			silent, all, m.Name, x.Data.Name, m.Name, x.Data.Name)
	}
	if h, ok := d.s.hosts[m.ID]; ok && len(h.grants) > 0 {
		return reject(events.CodeConflict, "proxy %q, which owns array %q and is cut off, runs VMs too: a human must decide", m.Name, x.Data.Name)
	}
	to, err := d.successor(x, "")
	switch {
	case err != nil:
		return err
	case !d.s.powerCanEnd(m):
		return d.beginFencing(x, to)
	}
	d.add(events.KindMachine, string(m.ID), events.MachinePowerWanted{Action: events.PowerOff, Operation: d.c.Intent, Boot: m.Boot})
	d.startOperation(events.Ref{Kind: events.KindMachine, ID: string(m.ID)}, takeOverPower)
	return nil
}

// silence counts the machines that run, and those of them that are silent.
func (s *State) silence() (silent, all int) {
	for _, m := range s.machines {
		if m.Boot != "" && !m.BootOver {
			all++
			if m.Silent {
				silent++
			}
		}
	}
	return silent, all
}

// powerCanEnd says whether to try to prove that a machine's boot is over by taking its power: its controller proves something, and it was not
// tried with this boot. A try that is under way, or that has given the proof, is no question of this.
func (s *State) powerCanEnd(m *Machine) bool {
	tried := m.powerBoot == m.Boot && (m.powerGoal == events.PowerOff || m.powerGoal == events.PowerCycle)
	return m.Data.BMC != nil && m.BMCProven && m.BMCHealthy && !tried
}

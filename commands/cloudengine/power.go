package main

import (
	"context"

	"cloudengine/commands"
	"cloudengine/commands/dispatch"
	"cloudengine/events"
	"cloudengine/events/feed"
	"cloudengine/workers/power"
)

// newPower makes the worker that switches machines over their BMCs.
func (s *server) newPower() (*power.Worker, error) {
	return power.New(power.Config{
		State: powerState{s.plane.Dispatch}, Connect: power.IPMI{}.Connect, Secret: s.secrets.Value, Submit: s.own.Submit,
		LastObserved: s.lastObserved, LastHeard: s.plane.Dispatch.LastHeard, Log: s.log.With("part", "power"),
	})
}

// newSerial makes the holder of the serial consoles of machines that users have open.
func (s *server) newSerial(loop *dispatch.Dispatcher) *power.Consoles {
	return power.NewConsoles(power.ConsolesConfig{
		State: powerState{loop}, Connect: power.IPMI{}.Console, Secret: s.secrets.Value, Log: s.log.With("part", "consoles"),
	})
}

// lastObserved is what FEED holds of a machine's power: after a crash, how far a power cycle got.
func (s *server) lastObserved(ctx context.Context, m events.MachineID) (events.MachinePowerObserved, bool) {
	last, found, err := feed.Last(ctx, s.plane.JS, "feed.machine."+string(m)+".machine_power_observed_v1")
	if err != nil {
		s.log.Warn("what FEED holds of a machine's power is not known", "machine", m, "error", err)
		return events.MachinePowerObserved{}, false
	}
	o, is := last.Event.Data.(events.MachinePowerObserved)
	return o, found && is
}

// powerState tells the power worker what the log knows.
type powerState struct{ loop *dispatch.Dispatcher }

func (p powerState) view(f func(*commands.State)) {
	p.loop.View(func(c dispatch.Core) {
		if s, ok := c.(*commands.State); ok {
			f(s)
		}
	})
}

// OperationOpen says whether an operation is still running.
func (p powerState) OperationOpen(id events.IntentID) (open bool) {
	p.view(func(s *commands.State) { open = s.OperationOpen(id) })
	return open
}

func powerMachine(m commands.Machine) power.Machine {
	return power.Machine{ID: m.ID, Name: m.Name, BMC: m.Data.BMC, Boot: m.Boot, Power: m.Power, GUID: m.BMCGUID}
}

// Machine finds a machine.
func (p powerState) Machine(id events.MachineID) (found power.Machine, ok bool) {
	p.view(func(s *commands.State) {
		var m commands.Machine
		if m, ok = s.Machine(id); ok {
			found = powerMachine(m)
		}
	})
	return found, ok
}

// Machines lists all machines.
func (p powerState) Machines() (all []power.Machine) {
	p.view(func(s *commands.State) {
		for _, m := range s.Machines() {
			all = append(all, powerMachine(m))
		}
	})
	return all
}

package plane

import (
	"cloudengine/commands"
	"cloudengine/commands/dispatch"
	"cloudengine/events"
	"cloudengine/events/broker"
)

// registry answers the bus's questions from the dispatcher's fold.
type registry struct{ d *dispatch.Dispatcher }

// Registry lets the bus ask who may connect. The dispatcher's core must be a *commands.State.
func Registry(d *dispatch.Dispatcher) broker.Registry { return registry{d} }

// UserByKey finds a user that is not revoked.
func (r registry) UserByKey(key string) (u broker.User, found bool) {
	r.view(func(s *commands.State) {
		var x commands.User
		if x, found = s.UserByKey(key); found {
			u = broker.User{Name: x.Name, Role: x.Role, Account: x.Account}
		}
	})
	return u, found
}

// MachineByKey finds the machine whose present boot has this key.
func (r registry) MachineByKey(key string) (m broker.Machine, found bool) {
	r.view(func(s *commands.State) {
		var x commands.Machine
		if x, found = s.MachineByKey(key); found {
			m = broker.Machine{ID: x.ID, Boot: x.Boot}
		}
	})
	return m, found
}

// TokenServed says whether a boot with this token was served to the machine.
func (r registry) TokenServed(m events.MachineID, sha256 string) (served bool) {
	r.view(func(s *commands.State) { served = s.TokenServed(m, sha256) })
	return served
}

func (r registry) view(f func(*commands.State)) {
	r.d.View(func(c dispatch.Core) {
		if s, ok := c.(*commands.State); ok {
			f(s)
		}
	})
}

// TakeBack gives a hook for OnApplied that disconnects whoever has lost the right to be on the bus: a revoked user, an earlier boot of a
// machine, a removed machine.
func TakeBack(bus *broker.Server) func([]events.Recorded) {
	return func(recorded []events.Recorded) {
		for _, r := range recorded {
			for _, e := range r.Events {
				takeBack(bus, e)
			}
		}
	}
}

func takeBack(bus *broker.Server, e events.Event) {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.UserRevoked:
		bus.KickUnknown()
	case events.MachineEnrolled:
		bus.KickActor("machine:"+id, d.Key)
	case events.MachineRemoved:
		bus.KickActor("machine:"+id, "")
		bus.KickActor("enrol:"+id, "")
	}
}

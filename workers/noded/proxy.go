package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/fabric"
	"cloudengine/workers/initiator"
	"cloudengine/workers/lio"
	"cloudengine/workers/proxy"
	"cloudengine/workers/reserve"
)

// storageNodes is how a proxy reaches storage nodes.
type storageNodes struct{ i *initiator.Initiator }

func target(n proxy.Node) initiator.Target {
	return initiator.Target{Transport: n.Transport, Machine: n.Machine, Address: n.Address}
}

func nodeOf(t initiator.Target) proxy.Node {
	return proxy.Node{Transport: t.Transport, Machine: t.Machine, Address: t.Address}
}

// Login logs in.
func (s storageNodes) Login(ctx context.Context, n proxy.Node) error {
	return s.i.Login(ctx, target(n))
}

// Logout logs out.
func (s storageNodes) Logout(ctx context.Context, n proxy.Node) error {
	return s.i.Logout(ctx, target(n))
}

// Rescan looks for new units.
func (s storageNodes) Rescan(ctx context.Context, n proxy.Node) error {
	return s.i.Rescan(ctx, target(n))
}

// Sessions lists the logins that the kernel has.
func (s storageNodes) Sessions(ctx context.Context) ([]proxy.Session, error) {
	all, err := s.i.Sessions(ctx)
	out := make([]proxy.Session, 0, len(all))
	for _, x := range all {
		out = append(out, proxy.Session{Node: nodeOf(x.Target), Live: x.Live})
	}
	return out, err
}

// LUNs lists the disks that the kernel has of storage nodes.
func (s storageNodes) LUNs(ctx context.Context) ([]proxy.LUN, error) {
	all, err := s.i.LUNs(ctx)
	out := make([]proxy.LUN, 0, len(all))
	for _, x := range all {
		out = append(out, proxy.LUN{NAA: x.NAA, Dev: x.Dev, Bytes: x.Bytes, State: x.State, Node: nodeOf(x.Target)})
	}
	return out, err
}

// Reservation reads who has reserved a disk.
func (s storageNodes) Reservation(ctx context.Context, dev string) (reserve.Seen, error) {
	return s.i.Reservation(ctx, dev)
}

// Reserve changes that.
func (s storageNodes) Reserve(ctx context.Context, dev string, o reserve.Out) error {
	return s.i.Reserve(ctx, dev, o)
}

// arrayExports gives arrays to hosts: an array is the backstore of its id, with one group.
type arrayExports struct {
	machine events.MachineID
	system  *lio.System
	links   func() []fabric.Link

	changing sync.Mutex // what is wanted follows from what is there
}

const arrayGroup = "g"

var (
	errNoPort   = errors.New("the link of its fabric does not stand")
	errNotSoYet = errors.New("what is exported is not what was wanted")
)

// Exports lists what is exported.
func (x *arrayExports) Exports(ctx context.Context) ([]proxy.Export, error) {
	have, err := x.system.Observe(ctx)
	if err != nil {
		return nil, err
	}
	var out []proxy.Export
	for _, b := range have.Backstores {
		e := proxy.Export{Array: events.ArrayID(b.Name), Device: b.Device, UnitSerial: b.UnitSerial}
		for _, g := range b.Groups {
			e.Group, e.State = g.ID, g.State
		}
		for _, p := range have.Ports {
			for _, g := range p.Grants {
				if g.Backstore == b.Name {
					e.Transport = p.Transport
					e.To = append(e.To, g.Initiator)
				}
			}
		}
		slices.Sort(e.To)
		out = append(out, e)
	}
	return out, nil
}

// Set makes an export so, and has read it back.
func (x *arrayExports) Set(ctx context.Context, e proxy.Export) error {
	return x.change(ctx, string(e.Array), func(want *lio.Config) error {
		want.Backstores = append(want.Backstores, lio.Backstore{
			Name: string(e.Array), Device: e.Device, UnitSerial: e.UnitSerial, Groups: []lio.Group{{Name: arrayGroup + strconv.Itoa(e.Group), ID: e.Group, State: e.State}},
		})
		if len(e.Peers) == 0 {
			return nil
		}
		p, err := x.port(want, e.Fabric)
		if err != nil {
			return err
		}
		for _, m := range e.Peers {
			name, err := lio.Initiator(p.Transport, m.Machine, m.MAC)
			if err != nil {
				return err
			}
			p.Grants = append(p.Grants, lio.Grant{Machine: m.Machine, Initiator: name, Backstore: string(e.Array), Group: arrayGroup + strconv.Itoa(e.Group)})
		}
		return nil
	})
}

// port gives the port of a fabric, which is made if it is not there.
func (x *arrayExports) port(want *lio.Config, f events.FabricID) (*lio.Port, error) {
	links := x.links()
	i := slices.IndexFunc(links, func(l fabric.Link) bool { return l.Fabric == f })
	if i < 0 {
		return nil, fmt.Errorf("export on fabric %s: %w", f, errNoPort)
	}
	name, err := lio.PortName("/", links[i].Transport, x.machine, links[i].RDMA)
	if err != nil {
		return nil, err
	}
	j := slices.IndexFunc(want.Ports, func(p lio.Port) bool { return p.Transport == links[i].Transport && p.Name == name })
	if j < 0 {
		want.Ports = append(want.Ports, lio.Port{Transport: links[i].Transport, Name: name})
		j = len(want.Ports) - 1
	}
	if address := links[i].Address.Addr().String(); links[i].Transport == lio.ISCSI && !slices.Contains(want.Ports[j].Addresses, address) {
		want.Ports[j].Addresses = append(want.Ports[j].Addresses, address)
	}
	return &want.Ports[j], nil
}

// SetState changes how hosts see it, and nothing else.
func (x *arrayExports) SetState(ctx context.Context, array events.ArrayID, state string) error {
	have, err := x.system.Observe(ctx)
	if err != nil {
		return err
	}
	for _, b := range have.Backstores {
		for _, g := range b.Groups {
			if b.Name == string(array) {
				return x.system.SetState(ctx, b.Name, g.Name, state)
			}
		}
	}
	return fmt.Errorf("set state of array %s: it is not exported", array)
}

// Remove takes an export away.
func (x *arrayExports) Remove(ctx context.Context, array events.ArrayID) error {
	return x.change(ctx, string(array), func(*lio.Config) error { return nil })
}

// change replaces what is exported of one backstore, leaves all else as it is, and looks whether it is so.
func (x *arrayExports) change(ctx context.Context, name string, edit func(*lio.Config) error) error {
	x.changing.Lock()
	defer x.changing.Unlock()
	have, err := x.system.Observe(ctx)
	if err != nil {
		return err
	}
	want := without(have, name)
	if err := edit(&want); err != nil {
		return err
	}
	for _, s := range lio.Plan(want, have) {
		if b := s.Params[lio.ParamBackstore]; b != "" && b != name {
			continue // another one's unfinished business
		}
		if err := x.system.Apply(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	if have, err = x.system.Observe(ctx); err != nil {
		return err
	}
	for _, s := range lio.Plan(want, have) {
		if s.Params[lio.ParamBackstore] == name {
			return fmt.Errorf("%w: %s is left to be done", errNotSoYet, s)
		}
	}
	return nil
}

// without copies a configuration and leaves one backstore out.
func without(have lio.Config, name string) lio.Config {
	var out lio.Config
	for _, b := range have.Backstores {
		if b.Name != name {
			out.Backstores = append(out.Backstores, b)
		}
	}
	for _, p := range have.Ports {
		p.Grants = slices.DeleteFunc(slices.Clone(p.Grants), func(g lio.Grant) bool { return g.Backstore == name })
		p.Addresses = slices.Clone(p.Addresses)
		out.Ports = append(out.Ports, p)
	}
	return out
}

// initiatorName names a host as an initiator.
func initiatorName(transport string, p desired.Peer) (string, error) {
	return lio.Initiator(transport, p.Machine, p.MAC)
}

package lio

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"cloudengine/workers"
)

// The kinds of steps.
const (
	StepGroup     = "export_group"      // make a target port group as wanted, with its state
	StepBackstore = "export_backstore"  // make a backstore
	StepPort      = "export_port"       // make a port that listens
	StepGrant     = "export_grant"      // let an initiator in to one backstore
	StepRevoke    = "export_revoke"     // shut it out; returns when none of its commands is under way
	StepUngroup   = "export_drop_group" //
	StepUnback    = "export_drop_store" //
	StepUnport    = "export_drop_port"  //
)

// Parameters by which steps are told apart: one about a backstore or a grant has ParamBackstore, one about a port or a grant the others.
const (
	ParamBackstore = "backstore"
	ParamTransport = "transport"
	ParamPort      = "port"
)

// Plan says what brings have to want, in the order in which it must be done: what takes access away comes first, and nothing gives
// access that want does not give. Nothing in have that is not in want is left. It is pure and total.
func Plan(want, have Config) []workers.Step {
	p := planner{want: want, have: have, rebuild: map[string]string{}, stores: byName(have.Backstores), wanted: byName(want.Backstores),
		gives: grantsOf(want), given: grantsOf(have)}
	p.findRebuilt()
	p.demote()
	p.revoke()
	p.drop()
	p.build()
	p.grant()
	return p.steps
}

type planner struct {
	want, have Config
	stores     map[string]Backstore // that are there
	wanted     map[string]Backstore
	gives      map[grantKey]Grant // that are wanted
	given      map[grantKey]Grant // that are there
	rebuild    map[string]string  // backstores that must be made anew, and why
	steps      []workers.Step
}

// grantKey is what makes two grants the same: one backstore to one initiator, at one port.
type grantKey struct{ transport, port, initiator, machine, backstore string }

func keyOf(port Port, g Grant) grantKey {
	return grantKey{port.Transport, port.Name, g.Initiator, string(g.Machine), g.Backstore}
}

// grantsOf gives all grants; of two that are the same the first counts.
func grantsOf(c Config) map[grantKey]Grant {
	out := map[grantKey]Grant{}
	for _, port := range c.Ports {
		for _, g := range port.Grants {
			if k := keyOf(port, g); !has(out, k) {
				out[k] = g
			}
		}
	}
	return out
}

func has[K comparable, V any](m map[K]V, k K) bool {
	_, ok := m[k]
	return ok
}

func byName(all []Backstore) map[string]Backstore {
	out := make(map[string]Backstore, len(all))
	for _, b := range all {
		out[b.Name] = b
	}
	return out
}

func (p *planner) add(kind, target, why string, params ...string) {
	s := workers.Step{Kind: kind, Target: target, Why: why, Params: map[string]string{}}
	for i := 0; i+1 < len(params); i += 2 {
		s.Params[params[i]] = params[i+1]
	}
	p.steps = append(p.steps, s)
}

// findRebuilt finds the backstores of which something cannot be changed while they are there.
func (p *planner) findRebuilt() {
	for _, w := range p.want.Backstores {
		h, ok := p.stores[w.Name]
		switch {
		case !ok:
		case h.Ready && h.Device != w.Device:
			p.rebuild[w.Name] = "it is another device"
		case h.Ready && w.DevNo != "" && h.DevNo != w.DevNo:
			p.rebuild[w.Name] = "its device is another one now"
		case h.Ready && h.UnitSerial != w.UnitSerial:
			p.rebuild[w.Name] = "it has another unit serial"
		}
		for _, g := range w.Groups {
			if have, ok := findGroup(h.Groups, g.Name); ok && have.ID != 0 && have.ID != g.ID {
				p.rebuild[w.Name] = "group " + g.Name + " has another id"
			}
		}
	}
	for _, h := range p.have.Backstores {
		if !has(p.wanted, h.Name) {
			p.rebuild[h.Name] = "it is not wanted"
		}
	}
}

// demote lets groups stop serving before anything else is done.
func (p *planner) demote() {
	for _, w := range p.want.Backstores {
		for _, g := range w.Groups {
			h, ok := findGroup(p.stores[w.Name].Groups, g.Name)
			if ok && p.rebuild[w.Name] == "" && h.State != g.State && g.State != Active && h.ID == g.ID {
				p.group(w.Name, g, "it must not serve as before")
			}
		}
	}
}

func (p *planner) group(backstore string, g Group, why string) {
	p.add(StepGroup, backstore, why, ParamBackstore, backstore, "group", g.Name, "id", strconv.Itoa(g.ID), "state", g.State)
}

func (p *planner) revoke() {
	for _, port := range p.have.Ports {
		for _, g := range port.Grants {
			why := p.rebuild[g.Backstore]
			if why == "" && !has(p.gives, keyOf(port, g)) {
				why = "it is not given to this initiator"
			}
			if why != "" {
				p.add(StepRevoke, g.Initiator, why, ParamBackstore, g.Backstore, ParamTransport, port.Transport, ParamPort, port.Name,
					"machine", string(g.Machine))
			}
		}
	}
}

func (p *planner) drop() {
	for _, port := range p.have.Ports {
		if _, ok := findPort(p.want.Ports, port); !ok {
			p.add(StepUnport, port.Name, "nothing is exported here", ParamTransport, port.Transport, ParamPort, port.Name)
		}
	}
	for _, h := range p.have.Backstores {
		w := p.wanted[h.Name]
		if why := p.rebuild[h.Name]; why != "" {
			p.add(StepUnback, h.Name, why, ParamBackstore, h.Name)
			continue
		}
		for _, g := range h.Groups {
			if _, ok := findGroup(w.Groups, g.Name); !ok && !p.grouped(h.Name, g.Name) {
				p.add(StepUngroup, h.Name, "it is not wanted", ParamBackstore, h.Name, "group", g.Name)
			}
		}
	}
}

// grouped says whether LUNs are in a group: their grants move to another group first. In the kernel they would fall into the default
// group, which is active.
func (p *planner) grouped(backstore, group string) bool {
	for _, port := range p.have.Ports {
		for _, g := range port.Grants {
			if g.Backstore == backstore && g.Group == group && has(p.gives, keyOf(port, g)) {
				return true
			}
		}
	}
	return false
}

func (p *planner) build() {
	for _, w := range p.want.Backstores {
		h := p.stores[w.Name]
		anew := p.rebuild[w.Name] != ""
		if anew || !h.Ready || h.UnitSerial != w.UnitSerial {
			p.add(StepBackstore, w.Name, "it is not there", ParamBackstore, w.Name, "device", w.Device, "devno", w.DevNo, "serial", w.UnitSerial)
		}
		for _, g := range w.Groups {
			if have, ok := findGroup(h.Groups, g.Name); anew || !ok || have.ID != g.ID || have.State != g.State && g.State == Active {
				p.group(w.Name, g, "it is not as wanted")
			}
		}
	}
	for _, w := range p.want.Ports {
		h, ok := findPort(p.have.Ports, w)
		if !ok || !h.Ready || !sameSet(h.Addresses, w.Addresses) {
			p.add(StepPort, w.Name, "it does not listen as wanted", ParamTransport, w.Transport, ParamPort, w.Name,
				"addresses", strings.Join(w.Addresses, " "))
		}
	}
}

func (p *planner) grant() {
	taken := map[uint64]string{}
	serials := map[string]string{}
	for _, b := range p.want.Backstores {
		serials[b.Name] = b.UnitSerial
	}
	for _, name := range slices.Sorted(maps.Keys(serials)) {
		if n := LUN(serials[name]); taken[n] == "" {
			taken[n] = name // the other one gets nothing: an initiator would take it for this one
		}
	}
	for _, port := range p.want.Ports {
		for _, g := range port.Grants {
			serial, ok := serials[g.Backstore]
			if !ok || taken[LUN(serial)] != g.Backstore {
				continue
			}
			have, there := p.given[keyOf(port, g)]
			if p.rebuild[g.Backstore] == "" && there && have.Ready && have.Group == g.Group {
				continue
			}
			p.add(StepGrant, g.Initiator, "it is given to this initiator", ParamBackstore, g.Backstore,
				ParamTransport, port.Transport, ParamPort, port.Name, "machine", string(g.Machine), "group", g.Group, "serial", serial)
		}
	}
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

func findGroup(all []Group, name string) (Group, bool) {
	i := slices.IndexFunc(all, func(g Group) bool { return g.Name == name })
	if i < 0 {
		return Group{}, false
	}
	return all[i], true
}

func findPort(all []Port, like Port) (Port, bool) {
	i := slices.IndexFunc(all, func(p Port) bool { return p.Name == like.Name && p.Transport == like.Transport })
	if i < 0 {
		return Port{}, false
	}
	return all[i], true
}

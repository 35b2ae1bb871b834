package network

import (
	"slices"
	"strconv"

	"cloudengine/events/desired"
	"cloudengine/workers"
)

// The kinds of steps. The target of stepPlug and stepShut is a vif, of all others a network's identifier; "list" is all that shall be there.
const (
	stepMake       = "make"       // namespace and bridge: "mtu", "mac"
	stepTunnel     = "tunnel"     // anew: "mtu", "local" (empty: none), "list" (addresses of the bridge)
	stepGuard      = "guard"      // the rules of the tunnel: "list" (addresses of the bridge)
	stepSweep      = "sweep"      // rules of vifs that are gone
	stepAddresses  = "addresses"  // of the bridge
	stepNeighbours = "neighbours" // of the bridge
	stepSwitch     = "switch"     // forwarding entries of the bridge
	stepRemotes    = "remotes"    // forwarding entries of the tunnel
	stepPlug       = "plug"       // "vni", "mac", "addresses", "mtu", "limits"
	stepShut       = "shut"       // "vni": set it down
	stepRemove     = "remove"     // namespace, with all that is in it
	stepRefuse     = "refuse"     // "reason"
	stepFilter     = "filter"     // of the port of tunnels, of all networks: "want"
)

// PlanNetworks says what must be done so that what is seen becomes what is wanted. Pure, total, deterministic; one plan per document, sorted. A
// network that no document is about stays as it is.
func PlanNetworks(wishes []Wish, seen Observed) []workers.Plan {
	var plans []workers.Plan
	want := filterOf(wishes, seen)
	for i, w := range wishes {
		steps := w.steps(seen)
		others := func(s workers.Step) bool { return s.Kind == stepTunnel || s.Kind == stepRemotes } // its hosts must not wait for another network
		if want != seen.Filter && (i == 0 || slices.ContainsFunc(steps, others)) {
			steps = append([]workers.Step{w.step(stepFilter, "for the other hosts alone", "want", want)}, steps...)
		}
		if len(steps) > 0 {
			plans = append(plans, workers.Plan{Object: w.object(), Generation: w.Generation, Steps: steps})
		}
	}
	return plans
}

func (w Wish) steps(seen Observed) []workers.Step {
	have, there := seen.Nets[w.VNI]
	if w.Want == desired.Absent {
		if !there || w.used(have, seen) {
			return nil // a domain that is ending takes its vif with it
		}
		return []workers.Step{w.step(stepRemove, "no VM with a NIC on it may run here")}
	}
	if err := w.check(); err != nil {
		return []workers.Step{w.step(stepRefuse, "the document cannot be followed", "reason", err.Error())}
	}
	want := w.wanted(seen.Vifs)
	steps := w.ground(want, have, there)
	if want.Local != "" && !w.newTunnel(want, have) && have.Guard != want.Guard {
		steps = append(steps, w.step(stepGuard, "its servers have other addresses, or somebody has changed them", "list", words(want.Addresses)))
	}
	if len(have.Stale) > 0 {
		steps = append(steps, w.step(stepSweep, "rules of vifs that are gone: "+words(have.Stale)))
	}
	if words(have.Addresses) != words(want.Addresses) {
		steps = append(steps, w.step(stepAddresses, "of its subnets", "list", words(want.Addresses)))
	}
	steps = append(steps, w.plugs(want, have, seen)...)
	if words(have.Neighbours) != words(want.Neighbours) {
		steps = append(steps, w.step(stepNeighbours, "of the guests that are here", "list", words(want.Neighbours)))
	}
	if want.Local != "" && (words(have.Remotes) != words(want.Remotes) || w.newTunnel(want, have)) {
		steps = append(steps, w.step(stepRemotes, "where the others are", "list", words(want.Remotes)))
	}
	if words(have.Switch) != words(want.Switch) || want.Local != "" && w.newTunnel(want, have) {
		steps = append(steps, w.step(stepSwitch, "which port is whose", "list", words(want.Switch)))
	}
	return steps
}

// used says whether a vif is, or will be, in the namespace.
func (w Wish) used(have State, seen Observed) bool {
	return len(have.Ports) > 0 || slices.ContainsFunc(seen.Vifs, func(v Vif) bool { return v.VNI == w.VNI })
}

// ground makes what all else stands on.
func (w Wish) ground(want, have State, there bool) []workers.Step {
	var steps []workers.Step
	mtu := strconv.Itoa(want.MTU)
	if !there || have.MAC != want.MAC || have.MTU != want.MTU || !have.Up {
		steps = append(steps, w.step(stepMake, "a VM with a NIC on it may run here", "mtu", mtu, "mac", want.MAC))
	}
	if w.newTunnel(want, have) {
		why := "to the other hosts"
		if want.Local == "" {
			why = "this host is not on the underlay any more"
		}
		steps = append(steps, w.step(stepTunnel, why, "mtu", mtu, "local", want.Local, "list", words(want.Addresses)))
	}
	return steps
}

func (w Wish) newTunnel(want, have State) bool {
	return have.Local != want.Local || want.Local != "" && (have.MTU != want.MTU || !have.Up)
}

// plugs joins the vifs of known NICs, and shuts others.
func (w Wish) plugs(want, have State, seen Observed) []workers.Step {
	var steps []workers.Step
	for _, v := range seen.Vifs {
		p, in := have.port(v.Device)
		v = w.limited(v)
		if v.VNI != w.VNI || !in && !slices.Contains(seen.Home, v.Device) || in && v.plugged(p, want.MTU, !have.NoLeaf) {
			continue
		}
		steps = append(steps, workers.Step{Kind: stepPlug, Target: v.Device, Why: "a guest's", Params: map[string]string{
			"vni": strconv.Itoa(w.VNI), "mac": v.MAC, "addresses": words(v.Addresses), "mtu": strconv.Itoa(want.MTU), "limits": v.Limits.String(),
		}})
	}
	for _, p := range have.Ports {
		if p.Up && !slices.ContainsFunc(seen.Vifs, func(v Vif) bool { return v.Device == p.Device && v.VNI == w.VNI }) {
			steps = append(steps, workers.Step{Kind: stepShut, Target: p.Device, Why: "nothing says whose it is", Params: map[string]string{"vni": strconv.Itoa(w.VNI)}})
		}
	}
	return steps
}

// step gives one about the network; params are names and values by turns.
func (w Wish) step(kind, why string, params ...string) workers.Step {
	s := workers.Step{Kind: kind, Target: strconv.Itoa(w.VNI), Why: why, Params: map[string]string{}}
	for i := 0; i < len(params); i += 2 {
		s.Params[params[i]] = params[i+1]
	}
	return s
}

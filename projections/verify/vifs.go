package verify

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cloudengine/events"
	"cloudengine/projections"
)

func addressesOf(nic *projections.NIC) []string {
	var all []projections.NICAddress
	if json.Unmarshal(nic.Addresses, &all) != nil {
		return nil
	}
	var out []string
	for _, a := range all {
		out = append(out, a.Address)
	}
	slices.Sort(out)
	return out
}

// vifs compares the vifs of a network with the NICs whose VMs run there.
func (v *netVisit) vifs(w *onHost, r events.NetworkReport) {
	there := map[string]bool{}
	for _, x := range r.Vifs {
		nic := w.mine[x.MAC]
		switch {
		case nic != nil:
			there[x.MAC] = true
			v.vif(w, nic, x)
		case x.Up:
			v.of(w, Critical, "vif_unknown", fmt.Sprintf("I9: host %s has vif %s up on it, which is no NIC of a VM that may run there", w.host.Name, x.Device), "not there",
				cmp.Or(x.MAC, "a vif that xenstore does not know"), nextGuest)
		}
	}
	for _, mac := range keys(w.mine) {
		nic := w.mine[mac]
		vm := row[projections.VM](v.c, events.KindVM, nic.VM)
		if !there[mac] && vm != nil && text(vm.DomainState) == events.DomainRunning {
			v.nic(nic, Wrong, "vif_missing", "its VM runs on host "+w.host.Name+", which has no vif of it on its network", "a vif", "none", nextNet)
		}
	}
}

func (v *netVisit) nic(nic *projections.NIC, s Severity, check, what, want, have, next string) {
	v.out.Add(Finding{Section: Networks, Severity: s, Check: check, Kind: "nic", ID: nic.ID, Name: nic.Name, What: what, Want: want, Have: have, Next: next,
		Moving: cmp.Or(underWay(v.operations[nic.ID]), underWay(v.operations[nic.VM]))})
}

// vif compares one vif with its NIC.
func (v *netVisit) vif(w *onHost, nic *projections.NIC, x events.VifReport) {
	on := fmt.Sprintf(" (%s on host %s)", x.Device, w.host.Name)
	same := func(s Severity, check, what, want, have, next string) {
		if want != have {
			v.nic(nic, s, check, what+on, cmp.Or(want, "none"), cmp.Or(have, "none"), next)
		}
	}
	same(Critical, "vif_addresses", "I9: its guest may send from other addresses", strings.Join(addressesOf(nic), " "), strings.Join(x.Addresses, " "), nextGuest)
	same(Critical, "vif_rules", "I9: the rules before it are others", x.RulesWant, x.Rules, nextGuest)
	same(Wrong, "vif_state", "it is down, or no port as it should be", "up, a port", state(x), nextNet)
	same(Wrong, "vif_mtu", "its MTU is another", fmt.Sprint(w.network.MTU), fmt.Sprint(x.MTU), nextNet)
	same(Wrong, "vif_limits", "its host was told other limits", limits(nic.InBPS, nic.OutBPS), limits(x.InBPS, x.OutBPS), nextNet)
	same(Wrong, "vif_shaper", "tc has another limit", x.ShapeWant, x.Shape, nextNet)
}

func state(x events.VifReport) string {
	out := "up, a port"
	if !x.Up {
		out = "down, a port"
	}
	if !x.Joined {
		out = strings.Replace(out, "a port", "no port, or one that learns", 1)
	}
	return out
}

func limits(in, out int64) string { return fmt.Sprintf("in %d, out %d bytes/s", in, out) }

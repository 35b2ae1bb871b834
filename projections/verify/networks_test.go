package verify_test

import (
	"slices"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/projections/verify"
)

const (
	net1  = "00000000-0000-4000-8000-0000000000d1"
	nic1  = "00000000-0000-4000-8000-0000000000d2"
	nic2  = "00000000-0000-4000-8000-0000000000d3"
	host2 = "00000000-0000-4000-8000-0000000000d4"
	vm2   = "00000000-0000-4000-8000-0000000000d5"
	mac1  = "00:16:3e:00:00:01"
	mac2  = "00:16:3e:00:00:02"
)

// networkWorld has a network with the VM web on the host of the world, and another on a second host; and the first host answers so.
func networkWorld(t *testing.T) (*world, map[events.MachineID]verify.LiveNetworks) {
	w := newWorld(t)
	w.on(events.KindMachine, host2, events.MachineAdded{Name: "host2", Roles: []string{events.RoleHost}})
	w.on(events.KindMachine, host2, events.MachineEnrolled{Boot: boot})
	w.on(events.KindHost, host2, events.HostRegistered{Name: "host2", Boot: boot, Capacity: events.Capacity{AllocatableMiB: 1024, PCPUs: 4}})
	w.on(events.KindFabric, "f", events.FabricCreated{Name: "wire", Transport: events.TransportVXLAN, Subnet: "10.77.0.0/24", MTU: 1500})
	w.on(events.KindFabric, "f", events.FabricJoined{Machine: host, MAC: "m", Address: "10.77.0.1"})
	w.on(events.KindFabric, "f", events.FabricJoined{Machine: host2, MAC: "n", Address: "10.77.0.2"})
	w.on(events.KindNetwork, net1, events.NetworkCreated{Name: "back", Account: account, Fabric: "f", VNI: 4097, MTU: 1450})
	w.on(events.KindSubnet, "s", events.SubnetCreated{Name: "back4", Account: account, Network: net1, CIDR: "10.0.0.0/24", First: "10.0.0.2", Last: "10.0.0.9", Server: "10.0.0.1"})
	w.on(events.KindVM, vm2, events.VMCreated{Name: "db", Account: account})
	w.on(events.KindVM, vm2, events.VMRunWanted{Want: events.WantRunning})
	w.on(events.KindVM, vm2, events.VMRunGranted{Host: host2, Boot: boot, Epoch: one})
	for i, x := range [][2]string{{nic1, web}, {nic2, vm2}} {
		w.on(events.KindNIC, x[0], events.NICCreated{Name: x[0], Account: account, VM: events.VMID(x[1]), Slot: events.SlotNIC0, Network: net1, MAC: []string{mac1, mac2}[i],
			Addresses: []events.NICAddress{{Subnet: "s", Address: []string{"10.0.0.2", "10.0.0.3"}[i]}}})
	}
	w.on(events.KindNIC, nic1, events.NICLimited{OutBPS: 125000})
	return w, map[events.MachineID]verify.LiveNetworks{host: {Boot: boot, Seen: events.NetworksReport{
		Filter: events.FilterOpenTo + "10.77.0.2", Networks: []events.NetworkReport{{
			VNI: 4097, MTU: 1450, Up: true, Local: "10.77.0.1", Addresses: []string{"10.0.0.1/24"}, Neighbours: []string{"10.0.0.2@" + mac1},
			Remotes: []string{"00:00:00:00:00:00@10.77.0.2", mac2 + "@10.77.0.2"}, Switch: []string{mac1 + "@vif1.0", mac2 + "@vx"}, Rules: "r", RulesWant: "r",
			Vifs: []events.VifReport{{Device: "vif1.0", MAC: mac1, Addresses: []string{"10.0.0.2"}, MTU: 1450, Up: true, Joined: true, Rules: "v", RulesWant: "v", OutBPS: 125000, Shape: "s", ShapeWant: "s"}},
		}},
	}}}
}

func TestNetworksAsTheLogSays(t *testing.T) {
	w, live := networkWorld(t)
	if ids := w.c.NetworkMachines(); !slices.Equal(ids, []events.MachineID{host, host2}) && !slices.Equal(ids, []events.MachineID{host2, host}) {
		t.Errorf("asked are %v", ids)
	}
	if found := w.c.LiveNetworks(live); len(found) > 0 {
		t.Errorf("found %+v", found)
	}
}

func TestFaultsOfNetworksAreFound(t *testing.T) {
	type seen = events.NetworksReport
	for _, c := range []struct {
		check    string
		severity verify.Severity
		object   string // the beginning of what the finding is about
		says     string // in the difference
		plant    func(s *seen, n *events.NetworkReport, x *events.VifReport)
	}{
		{"network_unknown", verify.Wrong, "machine", "VNI 5000", func(s *seen, _ *events.NetworkReport, _ *events.VifReport) {
			s.Networks = append(s.Networks, events.NetworkReport{VNI: 5000})
		}},
		{"network_missing", verify.Wrong, "network back", "not there", func(s *seen, _ *events.NetworkReport, _ *events.VifReport) { s.Networks = nil }},
		{"tunnel", verify.Wrong, "network back", "10.9.9.9", func(_ *seen, n *events.NetworkReport, _ *events.VifReport) { n.Local = "10.9.9.9" }},
		{"mtu", verify.Wrong, "network back", "1500", func(_ *seen, n *events.NetworkReport, _ *events.VifReport) { n.MTU = 1500 }},
		{"bridge", verify.Wrong, "network back", "false", func(_ *seen, n *events.NetworkReport, _ *events.VifReport) { n.Up = false }},
		{"tunnel_rules", verify.Critical, "network back", "none", func(_ *seen, n *events.NetworkReport, _ *events.VifReport) { n.Rules = "" }},
		{"addresses", verify.Wrong, "network back", "10.0.0.7/24", func(_ *seen, n *events.NetworkReport, _ *events.VifReport) {
			n.Addresses = append(n.Addresses, "10.0.0.7/24")
		}},
		{"neighbours", verify.Wrong, "network back", "10.0.0.2@" + mac1, func(_ *seen, n *events.NetworkReport, _ *events.VifReport) { n.Neighbours = nil }},
		{"peers", verify.Wrong, "network back", mac2 + "@10.77.0.9", func(_ *seen, n *events.NetworkReport, _ *events.VifReport) { n.Remotes[1] = mac2 + "@10.77.0.9" }},
		{"peers", verify.Wrong, "network back", "00:00:00:00:00:00@10.77.0.2", func(_ *seen, n *events.NetworkReport, _ *events.VifReport) { n.Remotes = n.Remotes[1:] }},
		{"entries", verify.Wrong, "network back", mac2 + "@vif1.0", func(_ *seen, n *events.NetworkReport, _ *events.VifReport) { n.Switch[1] = mac2 + "@vif1.0" }},
		{"routes", verify.Wrong, "network back", "default@10.0.0.2", func(_ *seen, n *events.NetworkReport, _ *events.VifReport) { n.Routes = []string{"default@10.0.0.2"} }},
		{"left", verify.Wrong, "network back", "vif9.0", func(_ *seen, n *events.NetworkReport, _ *events.VifReport) { n.Left = []string{"vif9.0"} }},
		{"vif_unknown", verify.Critical, "network back", "xenstore", func(_ *seen, n *events.NetworkReport, _ *events.VifReport) {
			n.Vifs = append(n.Vifs, events.VifReport{Device: "vif7.0", Up: true})
		}},
		{"vif_addresses", verify.Critical, "nic", "10.0.0.3", func(_ *seen, _ *events.NetworkReport, x *events.VifReport) { x.Addresses = []string{"10.0.0.3"} }},
		{"vif_rules", verify.Critical, "nic", "other", func(_ *seen, _ *events.NetworkReport, x *events.VifReport) { x.Rules = "other" }},
		{"vif_state", verify.Wrong, "nic", "down", func(_ *seen, _ *events.NetworkReport, x *events.VifReport) { x.Up = false }},
		{"vif_state", verify.Wrong, "nic", "no port", func(_ *seen, _ *events.NetworkReport, x *events.VifReport) { x.Joined = false }},
		{"vif_mtu", verify.Wrong, "nic", "9000", func(_ *seen, _ *events.NetworkReport, x *events.VifReport) { x.MTU = 9000 }},
		{"vif_limits", verify.Wrong, "nic", "out 0", func(_ *seen, _ *events.NetworkReport, x *events.VifReport) { x.OutBPS = 0 }},
		{"vif_shaper", verify.Wrong, "nic", "none", func(_ *seen, _ *events.NetworkReport, x *events.VifReport) { x.Shape = "" }},
		{"port_open", verify.Critical, "machine", "no filter", func(s *seen, _ *events.NetworkReport, _ *events.VifReport) { s.Filter = "" }},
		{"port_open", verify.Critical, "machine", "10.77.0.9", func(s *seen, _ *events.NetworkReport, _ *events.VifReport) { s.Filter += " 10.77.0.9" }},
		{"port_closed", verify.Wrong, "machine", "10.77.0.2", func(s *seen, _ *events.NetworkReport, _ *events.VifReport) { s.Filter = events.FilterOpenTo }},
	} {
		w, live := networkWorld(t)
		h := live[host]
		c.plant(&h.Seen, &h.Seen.Networks[0], &h.Seen.Networks[0].Vifs[0])
		live[host] = h
		found := w.c.LiveNetworks(live)
		if len(found) != 1 || found[0].Check != c.check || found[0].Severity != c.severity || found[0].Next == "" {
			t.Errorf("%s alone is not found: %+v", c.check, found)
			continue
		}
		if f := found[0]; !strings.HasPrefix(f.Object(), c.object) || !strings.Contains(f.What+f.Want+f.Have, c.says) {
			t.Errorf("%s: %s: %s: want %s, have %s", c.check, f.Object(), f.What, f.Want, f.Have)
		}
	}
}

func TestHostsThatDoNotTellOfNetworks(t *testing.T) {
	w, live := networkWorld(t)
	for check, l := range map[string]verify.LiveNetworks{"unanswered": {Missing: "no"}, "wrong_boot": {Boot: "another"}} {
		live[host] = l
		if found := w.c.LiveNetworks(live); len(found) != 1 || found[0].Check != check {
			t.Errorf("%s: %+v", check, found)
		}
	}
	w.on(events.KindVM, web, events.VMGrantEnded{Host: host, Boot: boot, Epoch: one, Proof: events.ProofCleanEnd})
	_, fresh := networkWorld(t)
	live[host] = fresh[host]
	if found := w.c.LiveNetworks(live); !slices.ContainsFunc(found, func(f verify.Finding) bool { return f.Check == "network_left" && f.Name == "back" }) {
		t.Errorf("a network that is left is not found: %+v", found)
	}
}

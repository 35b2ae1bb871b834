package desired_test

import (
	"testing"

	"cloudengine/events"
	document "cloudengine/events/desired"
	"cloudengine/projections/desired"
)

// newNetworkCloud has two hosts on an underlay, and two VMs on a network.
func newNetworkCloud(t *testing.T) *cloud {
	c := &cloud{t: t, f: desired.NewFold(), term: 1}
	c.on(events.KindLog, events.LogID, events.LogOpened{Term: 1, Cause: events.CauseCreated})
	c.on(events.KindAccount, "acc", events.AccountCreated{Name: "demo"})
	c.on(events.KindFabric, "f", events.FabricCreated{Name: "wire", Transport: events.TransportVXLAN, Subnet: "10.7.0.0/24", MTU: 1500})
	for i, h := range []string{"h1", "h2"} {
		c.on(events.KindMachine, h, events.MachineAdded{Name: h, Roles: []string{events.RoleHost}})
		c.on(events.KindMachine, h, events.MachineEnrolled{Boot: h + "-1"})
		c.on(events.KindFabric, "f", events.FabricJoined{Machine: events.MachineID(h), Address: "10.7.0." + string(rune('1'+i))})
	}
	c.on(events.KindNetwork, "n", events.NetworkCreated{Name: "back", Account: "acc", Fabric: "f", VNI: 4096, MTU: 1450})
	c.on(events.KindSubnet, "s", events.SubnetCreated{Name: "back4", Account: "acc", Network: "n", CIDR: "10.0.0.0/24", First: "10.0.0.2", Last: "10.0.0.254", Server: "10.0.0.1"})
	for i, vm := range []string{"v1", "v2"} {
		c.on(events.KindVM, vm, events.VMCreated{Name: vm, Account: "acc"})
		c.on(events.KindNIC, "i"+vm, events.NICCreated{Name: vm + "-eth0", Account: "acc", VM: events.VMID(vm), Slot: events.SlotNIC0, Network: "n", MAC: "00:16:3e:00:00:0" + string(rune('1'+i)),
			Addresses: []events.NICAddress{{Subnet: "s", Address: "10.0.0." + string(rune('2'+i))}}})
		c.on(events.KindVM, vm, events.VMRunWanted{Want: events.WantRunning})
	}
	return c
}

func (c *cloud) grant(vm, host string, counter uint64) {
	c.on(events.KindVM, vm, events.VMRunGranted{Host: events.MachineID(host), Boot: host + "-1", Epoch: events.Epoch{Term: 1, Counter: counter}})
}

func (c *cloud) end(vm, host string, counter uint64) {
	c.on(events.KindVM, vm, events.VMGrantEnded{Host: events.MachineID(host), Boot: host + "-1", Epoch: events.Epoch{Term: 1, Counter: counter}, Proof: events.ProofCleanEnd})
}

func (c *cloud) net(host string) document.Network {
	d, _ := c.doc(host, document.KindNetwork, "n")
	if d.Body == nil {
		return document.Network{}
	}
	return body[document.Network](c.t, d)
}

func TestHostsAreToldOfTheNetworksOfTheirVMs(t *testing.T) {
	c := newNetworkCloud(t)
	if n := c.net("h1"); n.Want != "" {
		t.Fatalf("a host without a VM is told %+v", n)
	}
	c.grant("v1", "h1", 1)
	d, _ := c.doc("h1", document.KindDomain, "v1")
	nics := body[document.Domain](t, d).NICs
	if d.Version != document.VersionNICs || len(nics) != 1 || nics[0].MAC != "00:16:3e:00:00:01" || nics[0].VNI != 4096 || len(nics[0].Addresses) != 1 {
		t.Fatalf("version %d, NICs %+v", d.Version, nics)
	}
	n := c.net("h1")
	if n.Want != document.There || n.Account != "demo" || n.Local != "10.7.0.1" || len(n.Subnets) != 1 || len(n.Ports) != 2 || !n.Ports[0].Here || n.Ports[1].At != "" || n.Ports[1].Host != "v2" {
		t.Fatalf("h1 is told %+v", n)
	}
	c.grant("v2", "h2", 1)
	if one, two := c.net("h1"), c.net("h2"); one.Ports[1].At != "10.7.0.2" || one.Ports[1].Here || !two.Ports[1].Here || two.Ports[0].At != "10.7.0.1" {
		t.Fatalf("h1 is told %+v, h2 %+v", one.Ports, two.Ports)
	}
	c.on(events.KindNIC, "iv2", events.NICLimited{InBPS: 1e6, OutBPS: 2e6})
	if one, two := c.net("h1"), c.net("h2"); one.Ports[1].InBPS != 0 || two.Ports[1].InBPS != 1e6 || two.Ports[1].OutBPS != 2e6 {
		t.Fatalf("of limits h1 is told %+v, h2 %+v", one.Ports, two.Ports)
	}
	c.end("v2", "h2", 1)
	if one, two := c.net("h1"), c.net("h2"); one.Ports[1].At != "" || two.Want != document.Absent || two.VNI != 4096 {
		t.Fatalf("h1 is told %+v, h2 %+v", one.Ports, two)
	}
	c.grant("v2", "h1", 2) // it moved
	if one := c.net("h1"); one.Ports[1].At != "10.7.0.1" || !one.Ports[1].Here || one.Ports[1].OutBPS != 2e6 {
		t.Fatalf("h1 is told %+v", one.Ports)
	}
	c.end("v1", "h1", 1)
	if one := c.net("h1"); one.Want != document.There {
		t.Fatalf("with one VM left, h1 is told %+v", one)
	}
	c.on(events.KindFabric, "f", events.FabricLeft{Machine: "h1"})
	if one := c.net("h1"); one.Local != "" {
		t.Fatalf("off the underlay, h1 is told %+v", one)
	}
}

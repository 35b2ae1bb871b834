package desired

import (
	"fmt"
	"slices"
	"strings"

	"cloudengine/events"
	document "cloudengine/events/desired"
)

// nets is what documents about networks are made from.
type nets struct {
	accounts map[events.AccountID]string // names
	networks map[events.NetworkID]*network
	subnets  map[events.SubnetID]events.NetworkID
	nics     map[events.NICID]events.NICCreated
	limits   map[events.NICID]events.NICLimited
	of       map[events.VMID][]events.NICID // in the order of their creation
}

type network struct {
	data    events.NetworkCreated
	subnets map[events.SubnetID]events.SubnetCreated
	nics    map[events.NICID]bool
	hosts   map[events.MachineID]int // NICs of VMs that may run there
	told    map[events.MachineID]bool
}

func newNets() nets {
	return nets{
		accounts: map[events.AccountID]string{}, networks: map[events.NetworkID]*network{}, subnets: map[events.SubnetID]events.NetworkID{},
		nics: map[events.NICID]events.NICCreated{}, limits: map[events.NICID]events.NICLimited{}, of: map[events.VMID][]events.NICID{},
	}
}

// net applies an event of networks.
func (c *change) net() error {
	x, id := &c.f.nets, c.e.Aggregate.ID
	switch d := c.e.Data.(type) {
	case events.NetworkCreated:
		x.networks[events.NetworkID(id)] = &network{
			data: d, subnets: map[events.SubnetID]events.SubnetCreated{}, nics: map[events.NICID]bool{}, hosts: map[events.MachineID]int{}, told: map[events.MachineID]bool{},
		}
		return nil
	case events.NetworkDeleted:
		delete(x.networks, events.NetworkID(id))
		return nil
	case events.SubnetCreated:
		n, err := c.network(d.Network)
		if err != nil {
			return err
		}
		x.subnets[events.SubnetID(id)], n.subnets[events.SubnetID(id)] = d.Network, d
		return c.sayNetwork(d.Network)
	case events.SubnetDeleted:
		of := x.subnets[events.SubnetID(id)]
		n, err := c.network(of)
		if err != nil {
			return err
		}
		delete(n.subnets, events.SubnetID(id))
		delete(x.subnets, events.SubnetID(id))
		return c.sayNetwork(of)
	case events.NICLimited:
		x.limits[events.NICID(id)] = d
		return c.sayNetwork(x.nics[events.NICID(id)].Network)
	case events.NICCreated, events.NICDeleted:
		return c.nic(events.NICID(id))
	}
	return nil // reservations change nothing for machines
}

func (c *change) network(id events.NetworkID) (*network, error) {
	n, ok := c.f.nets.networks[id]
	if !ok {
		return nil, fmt.Errorf("network %s: %w", id, errNoObject)
	}
	return n, nil
}

// nic: one comes and goes while its VM has no grant.
func (c *change) nic(id events.NICID) error {
	x := &c.f.nets
	d, made := c.e.Data.(events.NICCreated)
	if !made {
		d = x.nics[id]
	}
	n, err := c.network(d.Network)
	if err != nil {
		return err
	}
	if made {
		x.nics[id], n.nics[id] = d, true
		x.of[d.VM] = append(x.of[d.VM], id)
	} else {
		delete(x.nics, id)
		delete(x.limits, id)
		delete(n.nics, id)
		if x.of[d.VM] = slices.DeleteFunc(x.of[d.VM], func(i events.NICID) bool { return i == id }); len(x.of[d.VM]) == 0 {
			delete(x.of, d.VM)
		}
	}
	return c.sayNetwork(d.Network)
}

// plugs counts the hosts that need networks for the NICs of a VM.
func (c *change) plugs(vm events.VMID, host events.MachineID, n int) {
	for _, id := range c.f.nets.of[vm] {
		net := c.f.nets.networks[c.f.nets.nics[id].Network]
		if net.hosts[host] += n; net.hosts[host] == 0 {
			delete(net.hosts, host)
		}
	}
	for _, id := range c.f.nets.of[vm] {
		_ = c.sayNetwork(c.f.nets.nics[id].Network) // it is there, as its NIC is
	}
}

// sayNetwork tells all hosts that have VMs on a network, and those that had some.
func (c *change) sayNetwork(id events.NetworkID) error {
	n, err := c.network(id)
	if err != nil {
		return err
	}
	for _, m := range sorted(n.told) {
		if n.hosts[m] == 0 {
			delete(n.told, m)
			c.putNetwork(m, document.Network{Network: id, VNI: n.data.VNI, Want: document.Absent})
		}
	}
	if len(n.hosts) == 0 {
		return nil
	}
	body := document.Network{
		Network: id, Name: n.data.Name, Account: c.f.nets.accounts[n.data.Account], VNI: n.data.VNI, MTU: n.data.MTU, Want: document.There, Ports: c.ports(n),
	}
	for _, s := range sorted(n.subnets) {
		body.Subnets = append(body.Subnets, document.Subnet{Subnet: s, CIDR: n.subnets[s].CIDR, Server: n.subnets[s].Server})
	}
	for _, m := range sorted(n.hosts) {
		n.told[m] = true
		mine := body
		mine.Local = c.underlay(n, m)
		mine.Ports = slices.Clone(body.Ports)
		for i := range mine.Ports {
			p := &mine.Ports[i]
			p.Here = mine.Local != "" && p.At == mine.Local
			if l := c.f.nets.limits[p.NIC]; c.runsOn(p.NIC, m) {
				p.InBPS, p.OutBPS = l.InBPS, l.OutBPS
			}
		}
		c.putNetwork(m, mine)
	}
	return nil
}

func (c *change) putNetwork(m events.MachineID, body document.Network) {
	if boot := c.f.boots[m]; boot != "" {
		c.put(m, boot, document.KindNetwork, string(body.Network), body)
	}
}

// underlay gives the address of a host on the underlay of a network.
func (c *change) underlay(n *network, m events.MachineID) string {
	f, ok := c.f.storage.fabrics[n.data.Fabric]
	if !ok {
		return ""
	}
	return f.members[m].Address
}

func (c *change) ports(n *network) []document.Port {
	var out []document.Port
	for _, id := range sorted(n.nics) {
		d := c.f.nets.nics[id]
		p := document.Port{NIC: id, MAC: d.MAC, Addresses: addressesOf(d)}
		if v, ok := c.f.vms[d.VM]; ok {
			p.Host = v.data.Name
			if v.grant != nil {
				p.At = c.underlay(n, v.grant.host)
			}
		}
		out = append(out, p)
	}
	return out
}

// runsOn says whether the VM of a NIC may run on a host.
func (c *change) runsOn(nic events.NICID, m events.MachineID) bool {
	v, ok := c.f.vms[c.f.nets.nics[nic].VM]
	return ok && v.grant != nil && v.grant.host == m
}

func addressesOf(d events.NICCreated) []string {
	var out []string
	for _, a := range d.Addresses {
		out = append(out, a.Address)
	}
	return out
}

// sayNetworksOn says all networks of an underlay again.
func (c *change) sayNetworksOn(id events.FabricID) {
	for _, n := range sorted(c.f.nets.networks) {
		if c.f.nets.networks[n].data.Fabric == id {
			_ = c.sayNetwork(n) // it is there
		}
	}
}

// nicsOf gives the NICs of a VM by slot.
func (c *change) nicsOf(vm events.VMID) []document.NIC {
	var out []document.NIC
	for _, id := range c.f.nets.of[vm] {
		d := c.f.nets.nics[id]
		n := c.f.nets.networks[d.Network]
		out = append(out, document.NIC{NIC: id, Slot: d.Slot, Network: d.Network, VNI: n.data.VNI, MTU: n.data.MTU, MAC: d.MAC, Addresses: addressesOf(d)})
	}
	slices.SortFunc(out, func(a, b document.NIC) int { return strings.Compare(a.Slot, b.Slot) })
	return out
}

package commands

import (
	"net/netip"

	"cloudengine/events"
)

// auditNetworks is what Audit knows of networks: I4 (no address, MAC or network identifier twice) and I9 (a NIC is on a network of its own account).
type auditNetworks struct {
	networks map[string]events.NetworkCreated
	subnets  map[string]events.SubnetCreated
	vnis     map[int]string
	macs     map[string]string
	taken    map[string]map[string]string // of a network: address → NIC, or the subnet that reserved it
	nics     map[string]events.NICCreated
	accounts map[events.VMID]events.AccountID // of VMs
}

func newAuditNetworks() auditNetworks {
	return auditNetworks{
		networks: map[string]events.NetworkCreated{}, subnets: map[string]events.SubnetCreated{}, vnis: map[int]string{}, macs: map[string]string{},
		taken: map[string]map[string]string{}, nics: map[string]events.NICCreated{}, accounts: map[events.VMID]events.AccountID{},
	}
}

func (a *Audit) networkEvent(r events.Recorded, e events.Event) {
	s, id := &a.networks, e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.VMCreated:
		s.accounts[events.VMID(id)] = d.Account
	case events.NetworkCreated:
		if other, taken := s.vnis[d.VNI]; taken {
			a.fail(r, "I4", "network %s has the identifier %d of network %s", id, d.VNI, other)
		}
		s.networks[id], s.vnis[d.VNI], s.taken[id] = d, id, map[string]string{}
	case events.NetworkDeleted:
		if len(s.taken[id]) > 0 {
			a.fail(r, "I4", "network %s was deleted with %d addresses that are taken", id, len(s.taken[id]))
		}
		delete(s.vnis, s.networks[id].VNI)
		delete(s.networks, id)
	case events.SubnetCreated:
		a.subnetCreated(r, id, d)
	case events.SubnetDeleted:
		delete(s.subnets, id)
	case events.SubnetAddressReserved:
		a.takeAddress(r, string(s.subnets[id].Network), d.Address, id)
	case events.SubnetAddressReleased:
		delete(s.taken[string(s.subnets[id].Network)], d.Address)
	case events.NICCreated:
		a.nicCreated(r, id, d)
	case events.NICDeleted:
		nic := s.nics[id]
		a.notLive(r, nic.VM, id)
		for _, x := range nic.Addresses {
			delete(s.taken[string(nic.Network)], x.Address)
		}
		delete(s.macs, nic.MAC)
		delete(s.nics, id)
	}
}

func (a *Audit) subnetCreated(r events.Recorded, id string, d events.SubnetCreated) {
	s := &a.networks
	mine, err := netip.ParsePrefix(d.CIDR)
	if err != nil {
		a.fail(r, "I4", "subnet %s: %v", id, err)
		return
	}
	for other, x := range s.subnets {
		if x.Network == d.Network && netip.MustParsePrefix(x.CIDR).Overlaps(mine) {
			a.fail(r, "I4", "subnet %s (%s) overlaps %s (%s)", id, d.CIDR, other, x.CIDR)
		}
	}
	if s.networks[string(d.Network)].Account != d.Account {
		a.fail(r, "I9", "subnet %s of account %s is on a network of account %s", id, d.Account, s.networks[string(d.Network)].Account)
	}
	s.subnets[id] = d
}

func (a *Audit) nicCreated(r events.Recorded, id string, d events.NICCreated) {
	s := &a.networks
	if n := s.networks[string(d.Network)]; n.Account != d.Account || s.accounts[d.VM] != d.Account {
		a.fail(r, "I9", "NIC %s of account %s: its VM is of account %q, its network of %q", id, d.Account, s.accounts[d.VM], n.Account)
	}
	a.notLive(r, d.VM, id)
	if other, taken := s.macs[d.MAC]; taken {
		a.fail(r, "I4", "NIC %s has the MAC address %s of NIC %s", id, d.MAC, other)
	}
	s.macs[d.MAC], s.nics[id] = id, d
	for _, x := range d.Addresses {
		in := s.subnets[string(x.Subnet)]
		ip, err := netip.ParseAddr(x.Address)
		if err != nil || in.Network != d.Network || !netip.MustParsePrefix(in.CIDR).Contains(ip) || x.Address == in.Server {
			a.fail(r, "I4", "NIC %s has %s, which is no address of a guest in subnet %s (%s)", id, x.Address, x.Subnet, in.CIDR)
			continue
		}
		if s.taken[string(d.Network)][x.Address] == string(x.Subnet) { // it was reserved, and asked for by name
			delete(s.taken[string(d.Network)], x.Address)
		}
		a.takeAddress(r, string(d.Network), x.Address, id)
	}
}

func (a *Audit) takeAddress(r events.Recorded, network, address, id string) {
	taken := a.networks.taken[network]
	if other, is := taken[address]; is {
		a.fail(r, "I4", "%s of network %s is given to %s and was given to %s", address, network, id, other)
	}
	if taken != nil {
		taken[address] = id
	}
}

// notLive: a NIC comes and goes while no domain of its VM may be there.
func (a *Audit) notLive(r events.Recorded, vm events.VMID, nic string) {
	if _, runs := a.live[vm]; runs {
		a.fail(r, "I4", "NIC %s changed while VM %s had a live grant", nic, vm)
	}
}

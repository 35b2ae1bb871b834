package commands

import (
	"cloudengine/events"
)

// networks is the part of State that is about networks of accounts.
type networks struct {
	networks map[events.NetworkID]*Network
	subnets  map[events.SubnetID]*Subnet
	nics     map[events.NICID]*NIC
	macs     map[string]events.NICID
	vnis     map[int]events.NetworkID
	lastVNI  int // the highest that was ever given
}

func newNetworks() networks {
	return networks{
		networks: map[events.NetworkID]*Network{}, subnets: map[events.SubnetID]*Subnet{}, nics: map[events.NICID]*NIC{},
		macs: map[string]events.NICID{}, vnis: map[int]events.NetworkID{}, lastVNI: leastVNI - 1,
	}
}

// networkVerbs are the commands about networks.
func networkVerbs() map[string]entry {
	return map[string]entry{
		"network.create": verb(member(events.RoleOperate), decideCreateNetwork),
		"network.delete": verb(member(events.RoleOperate), decideDeleteNetwork),
		"subnet.create":  verb(member(events.RoleOperate), decideCreateSubnet),
		"subnet.delete":  verb(member(events.RoleOperate), decideDeleteSubnet),
		"subnet.reserve": verb(member(events.RoleOperate), decideReserveAddress),
		"subnet.release": verb(member(events.RoleOperate), decideReleaseAddress),
		"nic.create":     verb(member(events.RoleOperate), decideCreateNIC),
		"nic.limit":      verb(user(events.RoleOperate), decideLimitNIC),
		"nic.delete":     verb(member(events.RoleOperate), decideDeleteNIC),
	}
}

// Network is an internal network of an account.
type Network struct {
	ID      events.NetworkID
	Data    events.NetworkCreated
	subnets []*Subnet // in the order of their creation
	nics    int
}

// Bounds of VXLAN network identifiers. Lower ones are left to people, who take them for VLANs.
const (
	leastVNI = 4096
	mostVNI  = 1<<24 - 1
)

// vxlanBytes is what VXLAN over IPv4 takes of a packet of the underlay (RFC 7348, 5): inner Ethernet 14, VXLAN 8, UDP 8, IPv4 20.
const vxlanBytes = 50

// CreateNetwork makes an internal network of an account.
type CreateNetwork struct {
	Account events.AccountID `json:"account"`
	Name    string           `json:"name"`
	Fabric  events.FabricID  `json:"fabric,omitempty"` // of transport vxlan; empty: the only one that there is
	MTU     int              `json:"mtu,omitempty"`
}

func (a CreateNetwork) check() *Rejection {
	if a.MTU < 0 || a.MTU > 65520 {
		return invalid("field \"mtu\": want %d to 65520 bytes, or 0 for as many as fit", leastMTU)
	}
	if a.Fabric != "" {
		if r := checkID("fabric", string(a.Fabric)); r != nil {
			return r
		}
	}
	return first(checkName("name", a.Name), checkID("account", string(a.Account)))
}

func decideCreateNetwork(d *decision, a CreateNetwork) error {
	acc, err := d.account(a.Account)
	if err != nil {
		return err
	}
	if err := d.freeName(events.KindNetwork, acc.ID, a.Name); err != nil {
		return err
	}
	f, err := d.underlay(a.Fabric)
	if err != nil {
		return err
	}
	switch most := f.Data.MTU - vxlanBytes; {
	case a.MTU == 0:
		a.MTU = most
	case a.MTU > most:
		return reject(events.CodeConflict, "an MTU of %d bytes does not fit: packets of the underlay have room for %d", a.MTU, most)
	case a.MTU < leastMTU:
		return reject(events.CodeConflict, "an MTU of %d bytes is less than %d", a.MTU, leastMTU)
	}
	vni, ok := d.s.networks.freeVNI()
	if !ok {
		return reject(events.CodeNoCapacity, "all %d VXLAN network identifiers are taken", mostVNI-leastVNI+1)
	}
	d.add(events.KindNetwork, d.newID(), events.NetworkCreated{Name: a.Name, Account: acc.ID, Fabric: f.ID, VNI: vni, MTU: a.MTU})
	return nil
}

// underlay finds the fabric that a network lies on.
func (d *decision) underlay(id events.FabricID) (*Fabric, error) {
	if id != "" {
		if d.user != nil && d.user.Account != "" {
			return nil, reject(events.CodeForbidden, "the fabric is chosen by operators of the platform: leave it out")
		}
		f, err := d.fabric(id)
		if err == nil && f.Data.Transport != events.TransportVXLAN {
			err = reject(events.CodeConflict, "fabric %q speaks %s: networks need one of transport %s", f.Data.Name, f.Data.Transport, events.TransportVXLAN)
		}
		return f, err
	}
	var only *Fabric
	for _, f := range d.s.storage.fabrics {
		if f.Data.Transport != events.TransportVXLAN {
			continue
		}
		if only != nil {
			return nil, reject(events.CodeConflict, "there are several fabrics of transport %s: name one", events.TransportVXLAN)
		}
		only = f
	}
	if only == nil {
		return nil, reject(events.CodeConflict, "there is no fabric of transport %[1]s: an operator makes it (fabric create NAME --transport %[1]s --subnet …) and joins the hosts", events.TransportVXLAN)
	}
	return only, nil
}

// freeVNI gives the identifier of the next network: one that no network ever had, as long as there are any. A host that is away may still have the
// bridge of a deleted one.
func (n *networks) freeVNI() (int, bool) {
	if n.lastVNI < mostVNI {
		return n.lastVNI + 1, true
	}
	for vni := leastVNI; vni <= mostVNI; vni++ {
		if n.vnis[vni] == "" {
			return vni, true
		}
	}
	return 0, false
}

// NetworkRef names a network.
type NetworkRef struct {
	Network events.NetworkID `json:"network"`
}

func (a NetworkRef) check() *Rejection { return checkID("network", string(a.Network)) }

// network finds one that the actor may see.
func (d *decision) network(id events.NetworkID) (*Network, error) {
	n, ok := d.s.networks.networks[id]
	if !ok || !d.owns(n.Data.Account) {
		return nil, reject(events.CodeNotFound, "there is no network %s", id)
	}
	return n, nil
}

func decideDeleteNetwork(d *decision, a NetworkRef) error {
	n, err := d.network(a.Network)
	if err != nil {
		return err
	}
	if len(n.subnets) > 0 || n.nics > 0 {
		return reject(events.CodeConflict, "network %q has %d subnets and %d NICs: delete them first", n.Data.Name, len(n.subnets), n.nics)
	}
	if err := d.expect(events.KindNetwork, n.Data.Name); err != nil {
		return err
	}
	d.add(events.KindNetwork, string(n.ID), events.NetworkDeleted{})
	return nil
}

// offNetworks says which underlay of a VM's networks a host is not on, or nothing.
func (s *State) offNetworks(h events.MachineID, nics map[string]*NIC) string {
	for _, slot := range sortedKeys(nics) {
		f := s.storage.fabrics[s.networks.networks[nics[slot].Data.Network].Data.Fabric]
		if _, member := f.members[h]; !member {
			return f.Data.Name
		}
	}
	return ""
}

func (s *State) foldNetwork(e events.Event) {
	id, x := events.NetworkID(e.Aggregate.ID), &s.networks
	switch data := e.Data.(type) {
	case events.NetworkCreated:
		x.networks[id] = &Network{ID: id, Data: data}
		x.vnis[data.VNI], x.lastVNI = id, max(x.lastVNI, data.VNI)
		s.names[scope(events.KindNetwork, data.Account, data.Name)] = e.Aggregate.ID
		s.storage.fabrics[data.Fabric].networks++
		s.own(data.Account, 1)
	case events.NetworkDeleted:
		n := x.networks[id]
		delete(s.names, scope(events.KindNetwork, n.Data.Account, n.Data.Name))
		delete(x.vnis, n.Data.VNI)
		delete(x.networks, id)
		s.storage.fabrics[n.Data.Fabric].networks--
		s.own(n.Data.Account, -1)
	}
}

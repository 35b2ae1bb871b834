package commands

import (
	"net"
	"net/netip"

	"cloudengine/events"
)

// Fabric is a storage network.
type Fabric struct {
	ID       events.FabricID
	Data     events.FabricCreated
	members  map[events.MachineID]events.FabricJoined
	pools    int
	networks int
}

// CreateFabric makes a storage network known.
type CreateFabric struct {
	Name      string `json:"name"`
	Transport string `json:"transport"`
	Subnet    string `json:"subnet"`
	MTU       int    `json:"mtu,omitempty"`
}

func (a CreateFabric) check() *Rejection {
	switch p, err := netip.ParsePrefix(a.Subnet); {
	case a.Transport != events.TransportSRP && a.Transport != events.TransportISCSI && a.Transport != events.TransportVXLAN:
		return invalid("field \"transport\": want srp, iscsi or vxlan")
	case err != nil || !p.Addr().Is4() || p.Bits() < 8 || p.Bits() > 29 || p.String() != a.Subnet:
		return invalid("field \"subnet\": %q is not an IPv4 subnet like 10.77.2.0/24, of 8 to 29 bits", clip(a.Subnet))
	case a.MTU < 0 || a.MTU > 65520:
		return invalid("field \"mtu\": want %d to 65520 bytes, or 0 for %d", leastMTU, defaultMTU)
	}
	return checkName("name", a.Name)
}

const (
	defaultMTU = 1500 // bytes
	leastMTU   = 1280
)

func decideCreateFabric(d *decision, a CreateFabric) error {
	if err := d.freeName(events.KindFabric, "", a.Name); err != nil {
		return err
	}
	mine := netip.MustParsePrefix(a.Subnet)
	if mine != mine.Masked() {
		return reject(events.CodeConflict, "%s is an address: its subnet is %s", a.Subnet, mine.Masked())
	}
	if a.MTU != 0 && a.MTU < leastMTU {
		return reject(events.CodeConflict, "an MTU of %d bytes is less than %d", a.MTU, leastMTU)
	}
	for _, f := range d.s.storage.fabrics {
		if netip.MustParsePrefix(f.Data.Subnet).Overlaps(mine) {
			return reject(events.CodeConflict, "subnet %s overlaps %s of fabric %q", a.Subnet, f.Data.Subnet, f.Data.Name)
		}
	}
	if a.MTU == 0 {
		a.MTU = defaultMTU
	}
	d.add(events.KindFabric, d.newID(), events.FabricCreated(a))
	return nil
}

// FabricRef names a fabric.
type FabricRef struct {
	Fabric events.FabricID `json:"fabric"`
}

func (a FabricRef) check() *Rejection { return checkID("fabric", string(a.Fabric)) }

func (d *decision) fabric(id events.FabricID) (*Fabric, error) {
	f, ok := d.s.storage.fabrics[id]
	if !ok {
		return nil, reject(events.CodeNotFound, "there is no fabric %s", id)
	}
	return f, nil
}

func decideDeleteFabric(d *decision, a FabricRef) error {
	f, err := d.fabric(a.Fabric)
	if err != nil {
		return err
	}
	if len(f.members) > 0 || f.pools > 0 || f.networks > 0 {
		return reject(events.CodeConflict, "fabric %q has %d members, %d pools and %d networks: remove them first", f.Data.Name, len(f.members), f.pools, f.networks)
	}
	if err := d.expect(events.KindFabric, f.Data.Name); err != nil {
		return err
	}
	d.add(events.KindFabric, string(f.ID), events.FabricDeleted{})
	return nil
}

// JoinFabric attaches one network card of a machine to a fabric.
type JoinFabric struct {
	Fabric  events.FabricID  `json:"fabric"`
	Machine events.MachineID `json:"machine"`
	MAC     string           `json:"mac"`
	Address string           `json:"address,omitempty"` // empty: the lowest that is free
}

func (a JoinFabric) check() *Rejection {
	if hw, err := net.ParseMAC(a.MAC); err != nil || len(hw) != 6 || hw.String() != a.MAC || hw[0]&1 != 0 {
		return invalid("field \"mac\": %q is not a MAC address like 52:54:00:12:34:56, in lower case", clip(a.MAC))
	}
	if a.Address != "" {
		if ip, err := netip.ParseAddr(a.Address); err != nil || !ip.Is4() || ip.String() != a.Address {
			return invalid("field \"address\": %q is not an IPv4 address", clip(a.Address))
		}
	}
	return first(checkID("fabric", string(a.Fabric)), checkID("machine", string(a.Machine)))
}

func decideJoinFabric(d *decision, a JoinFabric) error {
	f, err := d.fabric(a.Fabric)
	if err != nil {
		return err
	}
	m, ok := d.s.machines[a.Machine]
	if !ok {
		return reject(events.CodeNotFound, "there is no machine %s", a.Machine)
	}
	if have, in := f.members[m.ID]; in {
		if have.MAC == a.MAC && (a.Address == "" || have.Address == a.Address) {
			return nil
		}
		return reject(events.CodeConflict, "machine %q is on fabric %q already, with %s and %s: take it off first", m.Name, f.Data.Name, have.MAC, have.Address)
	}
	for _, other := range d.s.storage.fabrics {
		for _, x := range other.members {
			if x.MAC == a.MAC {
				return reject(events.CodeConflict, "the card %s is on fabric %q already", a.MAC, other.Data.Name)
			}
		}
	}
	if a.Address, err = f.address(a.Address); err != nil {
		return err
	}
	d.add(events.KindFabric, string(f.ID), events.FabricJoined{Machine: m.ID, MAC: a.MAC, Address: a.Address})
	return nil
}

// address says whether one can be given, or finds the lowest that can.
func (f *Fabric) address(wanted string) (string, error) {
	subnet := netip.MustParsePrefix(f.Data.Subnet)
	taken := map[string]bool{lastOf(subnet).String(): true} // broadcast
	for _, x := range f.members {
		taken[x.Address] = true
	}
	if wanted != "" {
		ip := netip.MustParseAddr(wanted)
		if !subnet.Contains(ip) || ip == subnet.Addr() || ip == lastOf(subnet) {
			return "", reject(events.CodeConflict, "%s is no address of a machine in %s", wanted, f.Data.Subnet)
		}
		if taken[wanted] {
			return "", reject(events.CodeConflict, "%s is another machine's on fabric %q", wanted, f.Data.Name)
		}
		return wanted, nil
	}
	for ip := subnet.Addr().Next(); subnet.Contains(ip); ip = ip.Next() {
		if !taken[ip.String()] {
			return ip.String(), nil
		}
	}
	return "", reject(events.CodeNoCapacity, "fabric %q has no free address in %s", f.Data.Name, f.Data.Subnet)
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// LeaveFabric takes a machine off a fabric.
type LeaveFabric struct {
	Fabric  events.FabricID  `json:"fabric"`
	Machine events.MachineID `json:"machine"`
}

func (a LeaveFabric) check() *Rejection {
	return first(checkID("fabric", string(a.Fabric)), checkID("machine", string(a.Machine)))
}

func decideLeaveFabric(d *decision, a LeaveFabric) error {
	f, err := d.fabric(a.Fabric)
	if err != nil {
		return err
	}
	if _, in := f.members[a.Machine]; !in {
		return nil
	}
	if why := d.s.usesFabric(f, a.Machine); why != "" {
		return reject(events.CodeConflict, "the machine is needed on fabric %q: %s", f.Data.Name, why)
	}
	d.add(events.KindFabric, string(f.ID), events.FabricLeft{Machine: a.Machine})
	return nil
}

// usesFabric says what of a machine would be cut off, or nothing.
func (s *State) usesFabric(f *Fabric, m events.MachineID) string {
	for _, a := range s.storage.arrays {
		if s.fabricOf(a) != f {
			continue
		}
		if a.Owner != nil && a.Owner.Proxy == m {
			return "it owns array " + a.Data.Name
		}
		for _, l := range a.disks() {
			if s.storage.disks[l.Disk].Data.Node == m {
				return "array " + a.Data.Name + " has disks of it"
			}
		}
	}
	for _, vm := range s.grantedOn(m) {
		for _, nic := range vm.nics {
			if s.networks.networks[nic.Data.Network].Data.Fabric == f.ID {
				return "VM " + vm.Data.Name + " runs there, with NICs on networks that it carries"
			}
		}
		for _, v := range vm.disks {
			if s.fabricOf(s.storage.arrays[v.Data.Array]) == f {
				return "VM " + vm.Data.Name + " runs there from its disks"
			}
		}
	}
	return ""
}

func (s *State) foldFabric(e events.Event) {
	id := events.FabricID(e.Aggregate.ID)
	if data, ok := e.Data.(events.FabricCreated); ok {
		s.storage.fabrics[id] = &Fabric{ID: id, Data: data, members: map[events.MachineID]events.FabricJoined{}}
		s.names[scope(events.KindFabric, "", data.Name)] = e.Aggregate.ID
		return
	}
	f, ok := s.storage.fabrics[id]
	if !ok {
		return
	}
	switch data := e.Data.(type) {
	case events.FabricDeleted:
		delete(s.names, scope(events.KindFabric, "", f.Data.Name))
		delete(s.storage.fabrics, id)
	case events.FabricJoined:
		f.members[data.Machine] = data
	case events.FabricLeft:
		delete(f.members, data.Machine)
	}
}

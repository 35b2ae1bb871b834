package commands

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"cloudengine/events"
)

// NIC is a network interface of a VM.
type NIC struct {
	ID     events.NICID
	Data   events.NICCreated
	Limits events.NICLimited
}

// maxNICs bounds a network: each host on it is told of all its NICs at each change, in one document of about 200 bytes for each.
const maxNICs = 1000

var nicSlots = []string{events.SlotNIC0, events.SlotNIC1, events.SlotNIC2, events.SlotNIC3}

// CreateNIC gives a VM that does not run a network interface.
type CreateNIC struct {
	VM        events.VMID      `json:"vm"`
	Network   events.NetworkID `json:"network"`
	Slot      string           `json:"slot,omitempty"`      // empty: the first that is free
	MAC       string           `json:"mac,omitempty"`       // empty: one of Xen's
	Addresses []string         `json:"addresses,omitempty"` // of a family that is not named: the lowest that is free
}

func (a CreateNIC) check() *Rejection {
	if a.Slot != "" && !slices.Contains(nicSlots, a.Slot) {
		return invalid("field \"slot\": want %s to %s", events.SlotNIC0, events.SlotNIC3)
	}
	if a.MAC != "" && !isUnicastMAC(a.MAC) {
		return invalid("field \"mac\": %q is not a MAC address of one card like 00:16:3e:12:34:56, in lower case", clip(a.MAC))
	}
	if len(a.Addresses) > 2 {
		return invalid("field \"addresses\": want at most one of IPv4 and one of IPv6")
	}
	for _, text := range a.Addresses {
		if r := checkAddress("addresses", text); r != nil || text == "" {
			return invalid("field \"addresses\": %q is not an IPv4 or IPv6 address, in lower case", clip(text))
		}
	}
	return first(checkID("vm", string(a.VM)), checkID("network", string(a.Network)))
}

func isUnicastMAC(text string) bool {
	hw, err := net.ParseMAC(text)
	return err == nil && len(hw) == 6 && hw.String() == text && hw[0]&1 == 0
}

func decideCreateNIC(d *decision, a CreateNIC) error {
	vm, err := d.vm(a.VM)
	if err != nil {
		return err
	}
	n, err := d.network(a.Network)
	if err != nil || n.Data.Account != vm.Data.Account {
		return reject(events.CodeNotFound, "there is no network %s in the account of VM %q", a.Network, vm.Data.Name)
	}
	if err := d.stopped(vm); err != nil {
		return err
	}
	for _, slot := range nicSlots {
		if a.Slot == "" && vm.nics[slot] == nil {
			a.Slot = slot
		}
	}
	if a.Slot == "" || vm.nics[a.Slot] != nil {
		return reject(events.CodeConflict, "VM %q has a NIC there already", vm.Data.Name)
	}
	return d.newNIC(events.NICCreated{Name: vm.Data.Name + "-" + a.Slot, Account: vm.Data.Account, VM: vm.ID, Slot: a.Slot, Network: n.ID, MAC: a.MAC}, a.Addresses)
}

func (a CreateVM) checkNIC() *Rejection {
	if a.Network == "" {
		return nil
	}
	return checkID("network", string(a.Network))
}

// firstNIC makes the NIC of a VM that this decision makes. It has the command's id, as the VM has.
func (d *decision) firstNIC(acc *Account, a CreateVM) error {
	if a.Network == "" {
		return nil
	}
	n, err := d.network(a.Network)
	if err != nil || n.Data.Account != acc.ID {
		return reject(events.CodeNotFound, "there is no network %s in account %q", a.Network, acc.Name)
	}
	return d.newNIC(events.NICCreated{Name: a.Name + "-" + events.SlotNIC0, Account: acc.ID, VM: events.VMID(d.newID()), Slot: events.SlotNIC0, Network: n.ID}, nil)
}

// newNIC makes a NIC under the id of the command: its MAC, unless it has one, and its addresses.
func (d *decision) newNIC(made events.NICCreated, asked []string) (err error) {
	if err := d.freshID(events.KindNIC); err != nil {
		return err
	}
	n := d.s.networks.networks[made.Network]
	if len(n.subnets) == 0 {
		return reject(events.CodeConflict, "network %q has no addresses yet: make a subnet (subnet create NAME --network %[1]s --cidr …)", n.Data.Name)
	}
	if n.nics >= maxNICs {
		return reject(events.CodeNoCapacity, "network %q has %d NICs, and can have no more: make another network", n.Data.Name, n.nics)
	}
	if made.MAC == "" {
		made.MAC, err = d.freeMAC()
	} else if made.MAC == "00:00:00:00:00:00" || made.MAC == "fe:ff:ff:ff:ff:ff" || strings.HasPrefix(made.MAC, "02:ce:") {
		err = reject(events.CodeConflict, "the MAC address %s is none of a card: hosts use it themselves", made.MAC)
	} else if other, taken := d.s.macTaken(made.MAC); taken {
		err = reject(events.CodeConflict, "the MAC address %s is taken by %s", made.MAC, d.onlyOurs(other))
	}
	if err == nil {
		made.Addresses, err = d.addressesFor(n, asked)
	}
	if err != nil {
		return err
	}
	d.add(events.KindNIC, d.newID(), made)
	return nil
}

// holder is who has a MAC address.
type holder struct {
	says    string
	account events.AccountID // whose it is; empty: the platform's
}

func (s *State) macTaken(mac string) (holder, bool) {
	if id, taken := s.networks.macs[mac]; taken {
		nic := s.networks.nics[id]
		return holder{"NIC " + nic.Data.Name, nic.Data.Account}, true
	}
	if m, taken := s.macs[mac]; taken {
		return holder{says: "machine " + string(m)}, true
	}
	return holder{}, false
}

// onlyOurs tells users of an account nothing of what is not theirs.
func (d *decision) onlyOurs(h holder) string {
	if h.account == "" && d.user != nil && d.user.Account != "" || !d.owns(h.account) {
		return "something else"
	}
	return h.says
}

// freeMAC gives a MAC address of Xen's (00:16:3e) that follows from the id of the command.
func (d *decision) freeMAC() (string, error) {
	sum := sha256.Sum256([]byte("mac\x00" + d.newID()))
	n := uint32(sum[0])<<16 | uint32(sum[1])<<8 | uint32(sum[2])
	for range 1 << 24 {
		mac := fmt.Sprintf("00:16:3e:%02x:%02x:%02x", byte(n>>16), byte(n>>8), byte(n))
		if _, taken := d.s.macTaken(mac); !taken {
			return mac, nil
		}
		n = (n + 1) & (1<<24 - 1)
	}
	return "", reject(events.CodeNoCapacity, "all MAC addresses from 00:16:3e:00:00:00 on are taken: name another one")
}

// addressesFor chooses the addresses of a new NIC of a network: those that are asked for, and the lowest free one of each other family that the
// network has.
func (d *decision) addressesFor(n *Network, asked []string) ([]events.NICAddress, error) {
	var out []events.NICAddress
	have := map[bool]bool{} // family is IPv4 → there is one
	for _, text := range asked {
		got, err := n.addressAsked(text, d.s)
		if err != nil {
			return nil, err
		}
		four := netip.MustParseAddr(got.Address).Is4()
		if have[four] {
			return nil, reject(events.CodeInvalid, "field \"addresses\": want at most one of IPv4 and one of IPv6")
		}
		have[four] = true
		out = append(out, got)
	}
	for _, four := range []bool{true, false} {
		if have[four] {
			continue
		}
		full := ""
		for _, x := range n.subnets {
			if x.prefix.Addr().Is4() != four {
				continue
			}
			ip, ok := x.free()
			if ok {
				out, full = append(out, events.NICAddress{Subnet: x.ID, Address: ip.String()}), ""
				break
			}
			full = x.Data.Name
		}
		if full != "" {
			return nil, reject(events.CodeNoCapacity, "no address of network %q is free, from %q on: delete NICs, or make another subnet", n.Data.Name, full)
		}
	}
	return out, nil
}

func (n *Network) addressAsked(text string, s *State) (events.NICAddress, error) {
	ip, err := netip.ParseAddr(text)
	for _, x := range n.subnets {
		if err != nil || !x.prefix.Contains(ip) {
			continue
		}
		if ip, err = x.address(text); err != nil {
			return events.NICAddress{}, err
		}
		if nic := x.taken[ip]; nic != "" {
			return events.NICAddress{}, reject(events.CodeConflict, "%s is given to NIC %q", ip, s.networks.nics[nic].Data.Name)
		}
		return events.NICAddress{Subnet: x.ID, Address: ip.String()}, nil
	}
	return events.NICAddress{}, reject(events.CodeConflict, "%s is in no subnet of network %q", clip(text), n.Data.Name)
}

// stopped refuses to change what a VM is made of while a domain of it may be there.
func (d *decision) stopped(vm *VM) error {
	if vm.Grant != nil || len(vm.ghosts) > 0 {
		return reject(events.CodeConflict, "VM %q runs, or may still run, on %s: stop it first", vm.Data.Name, d.whereabouts(vm))
	}
	return nil
}

// NICRef names a NIC.
type NICRef struct {
	NIC events.NICID `json:"nic"`
}

func (a NICRef) check() *Rejection { return checkID("nic", string(a.NIC)) }

func (d *decision) nic(id events.NICID) (*NIC, error) {
	nic, ok := d.s.networks.nics[id]
	if !ok || !d.owns(nic.Data.Account) {
		return nil, reject(events.CodeNotFound, "there is no NIC %s", id)
	}
	return nic, nil
}

func decideDeleteNIC(d *decision, a NICRef) error {
	nic, err := d.nic(a.NIC)
	if err != nil {
		return err
	}
	if err := d.expect(events.KindNIC, nic.Data.Name); err != nil {
		return err
	}
	if err := d.stopped(d.s.vms[nic.Data.VM]); err != nil {
		return err
	}
	d.add(events.KindNIC, string(nic.ID), events.NICDeleted{})
	return nil
}

// deleteNICs ends the NICs of a VM that is deleted: no domain of it is there, so their addresses are free.
func (d *decision) deleteNICs(vm *VM) {
	for _, slot := range sortedKeys(vm.nics) {
		d.add(events.KindNIC, string(vm.nics[slot].ID), events.NICDeleted{})
	}
}

func (s *State) foldNIC(e events.Event) {
	id, x := events.NICID(e.Aggregate.ID), &s.networks
	switch data := e.Data.(type) {
	case events.NICCreated:
		nic := &NIC{ID: id, Data: data}
		x.nics[id], x.macs[data.MAC] = nic, id
		x.networks[data.Network].nics++
		for _, a := range data.Addresses {
			x.subnets[a.Subnet].take(netip.MustParseAddr(a.Address), id)
		}
		vm := s.vms[data.VM]
		if vm.nics == nil {
			vm.nics = map[string]*NIC{}
		}
		vm.nics[data.Slot] = nic
	case events.NICLimited:
		x.nics[id].Limits = data
	case events.NICDeleted:
		nic := x.nics[id]
		delete(x.nics, id)
		delete(x.macs, nic.Data.MAC)
		x.networks[nic.Data.Network].nics--
		for _, a := range nic.Data.Addresses {
			x.subnets[a.Subnet].give(netip.MustParseAddr(a.Address))
		}
		if vm, ok := s.vms[nic.Data.VM]; ok {
			delete(vm.nics, nic.Data.Slot)
		}
	}
}

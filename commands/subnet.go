package commands

import (
	"container/heap"
	"net/netip"
	"regexp"
	"slices"

	"cloudengine/events"
)

// Subnet is a run of addresses of a network.
type Subnet struct {
	ID       events.SubnetID
	Data     events.SubnetCreated
	prefix   netip.Prefix
	last     netip.Addr                  // that is given without being asked for
	taken    map[netip.Addr]events.NICID // "": reserved
	returned addresses                   // below next; the lowest is at the top, and is free
	waiting  map[netip.Addr]bool         // what is in returned
	next     netip.Addr                  // it and those behind it were never given unless they were asked for; free, or behind last
}

// AddressForm and CIDRForm are what addresses and subnets look like; whether they are any is decided.
const (
	AddressForm = `^[0-9a-f:.]{2,39}$`
	CIDRForm    = `^[0-9a-f:.]{2,39}/[0-9]{1,3}$`
)

var addressForm, cidrForm = regexp.MustCompile(AddressForm), regexp.MustCompile(CIDRForm)

func checkAddress(field, text string) *Rejection {
	if text != "" && !addressForm.MatchString(text) {
		return invalid("field %q: %q is not an IPv4 or IPv6 address, in lower case", field, clip(text))
	}
	return nil
}

// CreateSubnet gives a network addresses.
type CreateSubnet struct {
	Network events.NetworkID `json:"network"`
	Name    string           `json:"name"`
	CIDR    string           `json:"cidr"`
	First   string           `json:"first,omitempty"` // empty: the first one behind the server's
	Last    string           `json:"last,omitempty"`  // empty: the last one that a guest can have
}

func (a CreateSubnet) check() *Rejection {
	if !cidrForm.MatchString(a.CIDR) {
		return invalid("field \"cidr\": %q is not a subnet like 10.0.0.0/24 or fd00:1::/64", clip(a.CIDR))
	}
	return first(checkID("network", string(a.Network)), checkName("name", a.Name), checkAddress("first", a.First), checkAddress("last", a.Last))
}

func decideCreateSubnet(d *decision, a CreateSubnet) error {
	n, err := d.network(a.Network)
	if err != nil {
		return err
	}
	if err := d.freeName(events.KindSubnet, n.Data.Account, a.Name); err != nil {
		return err
	}
	p, err := prefixOf(a.CIDR)
	if err != nil {
		return err
	}
	for _, x := range n.subnets {
		if x.prefix.Overlaps(p) {
			return reject(events.CodeConflict, "subnet %s overlaps %s of subnet %q", p, x.prefix, x.Data.Name)
		}
	}
	made := events.SubnetCreated{Name: a.Name, Account: n.Data.Account, Network: n.ID, CIDR: p.String(), Server: p.Addr().Next().String()}
	lowest, highest := p.Addr().Next().Next(), lastIn(p)
	if p.Addr().Is4() {
		highest = highest.Prev() // the last one is for broadcast
	}
	from, err := inRange("first", a.First, lowest, highest, lowest)
	if err != nil {
		return err
	}
	to, err := inRange("last", a.Last, from, highest, highest)
	if err != nil {
		return err
	}
	made.First, made.Last = from.String(), to.String()
	d.add(events.KindSubnet, d.newID(), made)
	return nil
}

// prefixOf reads a subnet that guests can have addresses of.
func prefixOf(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, reject(events.CodeInvalid, "field \"cidr\": %q is not a subnet like 10.0.0.0/24 or fd00:1::/64", clip(text))
	}
	least, most := 8, 29
	if p.Addr().Is6() {
		least, most = 48, 120
	}
	switch ip := p.Addr(); {
	case ip.Is4In6() || ip.IsLoopback() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.Is4() && (ip.As4()[0] == 0 || ip.As4()[0] >= 224):
		return p, reject(events.CodeInvalid, "field \"cidr\": %s is not for machines' addresses", p)
	case p.Bits() < least || p.Bits() > most:
		return p, reject(events.CodeInvalid, "field \"cidr\": %s has %d bits: want %d to %d", p, p.Bits(), least, most)
	case p != p.Masked():
		return p, reject(events.CodeInvalid, "field \"cidr\": %s is an address: its subnet is %s", p, p.Masked())
	}
	return p, nil
}

// inRange reads an address within bounds; empty: the other one.
func inRange(field, text string, least, most, other netip.Addr) (netip.Addr, error) {
	if text == "" {
		return other, nil
	}
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Less(least) || most.Less(ip) || ip.Is4() != least.Is4() || ip.Zone() != "" {
		return ip, reject(events.CodeInvalid, "field %q: %q is not an address from %s to %s", field, clip(text), least, most)
	}
	return ip, nil
}

func lastIn(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

// SubnetRef names a subnet.
type SubnetRef struct {
	Subnet events.SubnetID `json:"subnet"`
}

func (a SubnetRef) check() *Rejection { return checkID("subnet", string(a.Subnet)) }

func (d *decision) subnet(id events.SubnetID) (*Subnet, error) {
	x, ok := d.s.networks.subnets[id]
	if !ok || !d.owns(x.Data.Account) {
		return nil, reject(events.CodeNotFound, "there is no subnet %s", id)
	}
	return x, d.expect(events.KindSubnet, x.Data.Name)
}

func decideDeleteSubnet(d *decision, a SubnetRef) error {
	x, err := d.subnet(a.Subnet)
	if err != nil {
		return err
	}
	if len(x.taken) > 0 {
		return reject(events.CodeConflict, "%d addresses of subnet %q are given or reserved: delete those NICs and release those addresses first", len(x.taken), x.Data.Name)
	}
	d.add(events.KindSubnet, string(x.ID), events.SubnetDeleted{})
	return nil
}

// SubnetAddress names an address of a subnet.
type SubnetAddress struct {
	Subnet  events.SubnetID `json:"subnet"`
	Address string          `json:"address"`
}

func (a SubnetAddress) check() *Rejection {
	if a.Address == "" {
		return invalid("field \"address\": want an address")
	}
	return first(checkID("subnet", string(a.Subnet)), checkAddress("address", a.Address))
}

func decideReserveAddress(d *decision, a SubnetAddress) error {
	x, err := d.subnet(a.Subnet)
	if err != nil {
		return err
	}
	ip, err := x.address(a.Address)
	if err != nil {
		return err
	}
	if nic, taken := x.taken[ip]; taken && nic != "" {
		return reject(events.CodeConflict, "%s is given to NIC %q", ip, d.s.networks.nics[nic].Data.Name)
	} else if taken {
		return nil
	}
	d.add(events.KindSubnet, string(x.ID), events.SubnetAddressReserved{Address: ip.String()})
	return nil
}

func decideReleaseAddress(d *decision, a SubnetAddress) error {
	x, err := d.subnet(a.Subnet)
	if err != nil {
		return err
	}
	ip, err := x.address(a.Address)
	if err != nil {
		return err
	}
	if nic, taken := x.taken[ip]; taken && nic == "" {
		d.add(events.KindSubnet, string(x.ID), events.SubnetAddressReleased{Address: ip.String()})
	}
	return nil
}

// address reads an address that a guest of the subnet could have.
func (x *Subnet) address(text string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(text)
	switch {
	case err != nil || !x.prefix.Contains(ip) || ip.Zone() != "" || ip == x.prefix.Addr() || ip.Is4() && ip == lastIn(x.prefix):
		return ip, reject(events.CodeConflict, "%s is no address of a guest in %s (subnet %q)", clip(text), x.Data.CIDR, x.Data.Name)
	case ip.String() == x.Data.Server:
		return ip, reject(events.CodeConflict, "at %s each host answers DHCP and DNS in subnet %q: no guest can have it", ip, x.Data.Name)
	}
	return ip, nil
}

// free gives the lowest address that may be given without being asked for.
func (x *Subnet) free() (netip.Addr, bool) {
	if len(x.returned) > 0 {
		return x.returned[0], true
	}
	return x.next, x.next.IsValid() && !x.last.Less(x.next)
}

// take folds that an address is given (or reserved, "").
func (x *Subnet) take(ip netip.Addr, nic events.NICID) {
	x.taken[ip] = nic
	for len(x.returned) > 0 && x.has(x.returned[0]) {
		delete(x.waiting, heap.Pop(&x.returned).(netip.Addr))
	}
	for x.next.IsValid() && !x.last.Less(x.next) && x.has(x.next) {
		x.next = x.next.Next()
	}
}

func (x *Subnet) has(ip netip.Addr) bool { _, taken := x.taken[ip]; return taken }

// give folds that an address is nobody's.
func (x *Subnet) give(ip netip.Addr) {
	delete(x.taken, ip)
	low := netip.MustParseAddr(x.Data.First)
	if ip.Less(low) || !x.next.IsValid() || !ip.Less(x.next) || x.waiting[ip] {
		return
	}
	x.waiting[ip] = true
	heap.Push(&x.returned, ip)
}

// addresses is a heap of addresses, the lowest first. One that was asked for by name stays in it until it comes to the top.
type addresses []netip.Addr

func (a addresses) Len() int           { return len(a) }
func (a addresses) Less(i, j int) bool { return a[i].Less(a[j]) }
func (a addresses) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }

// Push adds one.
func (a *addresses) Push(x any) { *a = append(*a, x.(netip.Addr)) }

// Pop takes the last one.
func (a *addresses) Pop() any {
	x := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return x
}

func (s *State) foldSubnet(e events.Event) {
	id := events.SubnetID(e.Aggregate.ID)
	x := s.networks.subnets[id]
	switch data := e.Data.(type) {
	case events.SubnetCreated:
		x = &Subnet{
			ID: id, Data: data, prefix: netip.MustParsePrefix(data.CIDR), last: netip.MustParseAddr(data.Last), next: netip.MustParseAddr(data.First),
			taken: map[netip.Addr]events.NICID{}, waiting: map[netip.Addr]bool{},
		}
		s.networks.subnets[id] = x
		n := s.networks.networks[data.Network]
		n.subnets = append(n.subnets, x)
		s.names[scope(events.KindSubnet, data.Account, data.Name)] = e.Aggregate.ID
		s.own(data.Account, 1)
	case events.SubnetDeleted:
		n := s.networks.networks[x.Data.Network]
		n.subnets = slices.DeleteFunc(n.subnets, func(y *Subnet) bool { return y == x })
		delete(s.networks.subnets, id)
		delete(s.names, scope(events.KindSubnet, x.Data.Account, x.Data.Name))
		s.own(x.Data.Account, -1)
	case events.SubnetAddressReserved:
		x.take(netip.MustParseAddr(data.Address), "")
	case events.SubnetAddressReleased:
		x.give(netip.MustParseAddr(data.Address))
	}
}

package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/network"
)

// Devices in the namespace of a gateway.
const (
	inner = "int" // towards the network
	outer = "ext" // on the external segment
)

// Port is the other end of int: a port of the network's bridge, in the network's namespace.
const Port = network.GatewayPort

// prefix of the names of namespaces.
const prefix = "ce-gw-"

// slots is how many connected networks one external segment can have: each takes eight addresses of 169.254.0.0/16.
const slots = 1 << 13

// Wish is what one document wants.
type Wish struct {
	desired.Gateway
	Generation events.Generation
}

// Decode reads documents. For one that it cannot read, or that has no opinion, nothing is done.
func Decode(docs []desired.Document) []Wish {
	var out []Wish
	for _, d := range docs {
		var g desired.Gateway
		if d.Kind != desired.KindGateway || json.Unmarshal(d.Body, &g) != nil || g.VNI < 1 || g.VNI >= 1<<24 {
			continue
		}
		if g.Want != desired.There && g.Want != desired.Absent {
			continue
		}
		out = append(out, Wish{g, d.Generation})
	}
	slices.SortFunc(out, func(a, b Wish) int { return a.VNI - b.VNI })
	return out
}

func (w Wish) object() events.Ref {
	return events.Ref{Kind: desired.KindGateway, ID: w.Network.ID}
}

var errBadWish = errors.New("it cannot be fulfilled")

// check says what is wrong with a wish that can never be fulfilled. What it lets through can be written into configuration files: addresses
// and numbers, nothing else.
func (w Wish) check() error {
	bad := func(what string) error {
		return fmt.Errorf("read gateway of network %d: %s: %w", w.VNI, what, errBadWish)
	}
	out, err := netip.ParsePrefix(w.Address)
	if err != nil || !out.Addr().Is4() {
		return bad("public address " + strconv.Quote(w.Address))
	}
	if r, err := netip.ParseAddr(w.Router); err != nil || !out.Contains(r) || r == out.Addr() {
		return bad("router " + strconv.Quote(w.Router))
	}
	if w.Member != 0 && w.Member != 1 || w.Slot < 0 || w.Slot >= slots || len(w.Subnets) == 0 || w.MTU < 576 {
		return bad("member, slot, subnets or MTU")
	}
	for _, s := range w.Subnets {
		p, err1 := netip.ParsePrefix(s.CIDR)
		ip, err2 := netip.ParseAddr(s.Gateway)
		if err1 != nil || err2 != nil || !p.Addr().Is4() || !p.Contains(ip) || p.Masked() != p {
			return bad("subnet " + strconv.Quote(s.CIDR) + " with " + strconv.Quote(s.Gateway))
		}
	}
	for _, x := range w.Public {
		ip, err1 := netip.ParseAddr(x.Address)
		to, err2 := netip.ParseAddr(x.To)
		inside := slices.ContainsFunc(w.Subnets, func(s desired.GatewaySubnet) bool { return netip.MustParsePrefix(s.CIDR).Contains(to) })
		if err1 != nil || err2 != nil || !out.Contains(ip) || ip == out.Addr() || !inside {
			return bad("public address " + strconv.Quote(x.Address) + " of " + strconv.Quote(x.To))
		}
	}
	return nil
}

// InnerMAC gives the MAC address of a member's int. It says where the active one is: each host has written entries for both, and guests
// learn from gratuitous ARP which of the two has the gateway's address.
func InnerMAC(vni, member int) string { return mac(0x10+member, vni) }

// outerMAC gives the MAC address of a member's ext.
func outerMAC(vni, member int) string { return mac(0x20+member, vni) }

func mac(kind, vni int) string {
	return fmt.Sprintf("02:ce:%02x:%02x:%02x:%02x", kind, byte(vni>>16), byte(vni>>8), byte(vni))
}

// own gives the address that a member has on a device for the other one alone: of a /30 for each (RFC 3927 has the rest of it).
func (w Wish) own(device string, member int) netip.Prefix {
	n := w.Slot*8 + 1 + member
	if device == outer {
		n += 4
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, byte(n >> 8), byte(n)}), 30)
}

// peer is the other member.
func (w Wish) peer() int { return 1 - w.Member }

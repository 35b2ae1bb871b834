package dns

import (
	"net/netip"
	"strconv"
	"strings"
)

// private are the addresses whose names nobody outside can know (RFC 6303, 6598): they are never asked for upstream.
var private = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("::/127"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

// within tells whether all of a is in b.
func within(a, b netip.Prefix) bool { return a.Bits() >= b.Bits() && b.Contains(a.Addr()) }

// addressesOf gives the addresses whose names are below a canonical name in in-addr.arpa. or ip6.arpa.: one, or those of which it has a part.
func addressesOf(name string) (netip.Prefix, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		return reversed4(strings.Split(rest, "."))
	}
	if rest, ok := strings.CutSuffix(name, ".ip6.arpa."); ok {
		return reversed6(strings.Split(rest, "."))
	}
	return netip.Prefix{}, false
}

func reversed4(labels []string) (netip.Prefix, bool) {
	var ip [4]byte
	if len(labels) > 4 {
		return netip.Prefix{}, false
	}
	for i, l := range labels {
		n, err := strconv.ParseUint(l, 10, 8)
		if err != nil || strconv.FormatUint(n, 10) != l {
			return netip.Prefix{}, false
		}
		ip[len(labels)-1-i] = byte(n)
	}
	return netip.PrefixFrom(netip.AddrFrom4(ip), 8*len(labels)), true
}

func reversed6(labels []string) (netip.Prefix, bool) {
	var ip [16]byte
	if len(labels) > 32 {
		return netip.Prefix{}, false
	}
	for i, l := range labels {
		n, err := strconv.ParseUint(l, 16, 4)
		if err != nil || len(l) != 1 {
			return netip.Prefix{}, false
		}
		at := len(labels) - 1 - i
		ip[at/2] |= byte(n) << (4 * (1 - at%2))
	}
	return netip.PrefixFrom(netip.AddrFrom16(ip), 4*len(labels)), true
}

// reverseName is the inverse of addressesOf.
func reverseName(p netip.Prefix) string {
	var labels []string
	if ip := p.Addr(); ip.Is4() {
		for i, b := range ip.As4() {
			if 8*i < p.Bits() {
				labels = append([]string{strconv.Itoa(int(b))}, labels...)
			}
		}
		return strings.Join(append(labels, "in-addr.arpa."), ".")
	}
	b := p.Addr().As16()
	for i := range p.Bits() / 4 {
		labels = append([]string{strconv.FormatUint(uint64(b[i/2]>>(4*(1-i%2))&15), 16)}, labels...)
	}
	return strings.Join(append(labels, "ip6.arpa."), ".")
}

// reverseApex gives the addresses of the zone that a part of a subnet belongs to: those of the longest name that covers nothing else; of a
// subnet whose names have no end in common, that of one label less than an address.
func reverseApex(subnet netip.Prefix, of netip.Addr) netip.Prefix {
	step, most := 8, 24
	if of.Is6() {
		step, most = 4, 124
	}
	p, _ := of.Prefix(min((subnet.Bits()+step-1)/step*step, most)) // never more than it has
	return p
}

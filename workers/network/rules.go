package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// A rule ends the way of frames that fit all its matches. What fits no rule of a vif is dropped, of a tunnel let through.
type rule struct {
	matches []match
	accept  bool
	shaped  bool // what is accepted goes through the shaper of its vif first
	over    int  // of a rule that drops: only what is more than so many frames per second, and twice that at once
}

// The bases of offsets.
const (
	atFrame  = "frame"  // the Ethernet header
	atPacket = "packet" // what is behind it
)

// match compares bytes of a frame.
type match struct {
	base   string
	offset int
	mask   byte // of one byte; 0: all of it
	not    bool
	value  string // as bytes
}

func (m match) String() string {
	return fmt.Sprintf("%s[%d]&%x %t %x", m.base, m.offset, m.mask, m.not, m.value)
}

const sumSize = 16 // bytes

// sum is what is stored with a rule in the kernel, to know it again.
func (r rule) sum() []byte {
	h := sha256.Sum256(fmt.Append(nil, r.accept, r.shaped, r.over, r.matches))
	return h[:sumSize]
}

// digest says which rules a list has, in order.
func digest(rules []rule) string {
	var sums [][]byte
	for _, r := range rules {
		sums = append(sums, r.sum())
	}
	return digestOf(sums)
}

func digestOf(sums [][]byte) string {
	h := sha256.New()
	for _, s := range sums {
		fmt.Fprintf(h, "%d:", len(s))
		h.Write(s)
	}
	return hex.EncodeToString(h.Sum(nil))
}

var errNoMAC = errors.New("it is not a MAC address of one card")

func parseMAC(text string) (mac [6]byte, err error) {
	hw, err := net.ParseMAC(text)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 {
		return mac, fmt.Errorf("read %q: %w", text, errNoMAC)
	}
	return [6]byte(hw), nil
}

// Protocols, as bytes of a frame.
const (
	etherARP  = "\x08\x06"
	etherIPv4 = "\x08\x00"
	etherIPv6 = "\x86\xdd"
	udp       = "\x11"
	igmp      = "\x02"
	icmpv6    = "\x3a"
	any6      = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

func is(base string, offset int, value string) match {
	return match{base: base, offset: offset, value: value}
}
func isNot(base string, offset int, value string) match {
	return match{base: base, offset: offset, value: value, not: true}
}
func ether(proto string) match { return is(atFrame, 12, proto) }
func drop(m ...match) rule     { return rule{matches: m} }
func accept(m ...match) rule   { return rule{matches: m, accept: true} }

// atMost drops what is sent to more than one card, beyond a rate.
func atMost(over int, m ...match) rule {
	toMany := match{base: atFrame, offset: 0, mask: 0x01, value: "\x01"}
	return rule{matches: append([]match{toMany}, m...), over: over}
}

// What a guest may send to all at most, in frames per second. What it needs to be found and to get its addresses has bounds of its own, so that
// what it says to all else does not keep it from that. What is for one card that is not known goes nowhere: bridges and tunnels do not flood it.
const (
	mostARP       = 100 // requests and announcements
	mostNeighbour = 100 // what is sent to all of neighbour discovery
	mostDHCP      = 10
	mostReports   = 50  // of multicast listeners
	mostToAll     = 500 // of all else, of IPv4 and of IPv6
)

// shapedRules are vifRules for a vif whose guest's rate is limited.
func shapedRules(mac string, addresses []string) []rule {
	out := vifRules(mac, addresses)
	for i := range out {
		out[i].shaped = out[i].accept
	}
	return out
}

// vifRules let out what a NIC with these addresses may send. addresses that are none give no rule: less is let out.
func vifRules(mac string, addresses []string) []rule {
	hw, err := parseMAC(mac)
	if err != nil {
		return []rule{drop()}
	}
	var four, six []string
	for _, text := range addresses {
		switch ip, err := netip.ParseAddr(text); {
		case err != nil:
		case ip.Is4():
			four = append(four, string(ip.AsSlice()))
		default:
			six = append(six, string(ip.AsSlice()))
		}
	}
	rules := []rule{drop(isNot(atFrame, 6, string(hw[:])))}
	rules = append(rules, arpRules(string(hw[:]), four)...)
	rules = append(rules, ipv4Rules(four)...)
	if len(six) > 0 {
		rules = append(rules, ipv6Rules(string(hw[:]), append(six, string(linkLocal(hw).AsSlice())))...)
	}
	return append(rules, drop()) // the policy says so too; this one counts
}

// arpRules: only of its own addresses (RFC 826), and probes for them, which have no sender (RFC 5227).
func arpRules(mac string, four []string) []rule {
	out := []rule{atMost(mostARP, ether(etherARP))}
	ours := []match{ether(etherARP), is(atPacket, 0, "\x00\x01\x08\x00\x06\x04"), is(atPacket, 8, mac)}
	for _, ip := range four {
		out = append(out, accept(append(ours[:3:3], is(atPacket, 14, ip))...),
			accept(append(ours[:3:3], is(atPacket, 14, "\x00\x00\x00\x00"), is(atPacket, 24, ip))...))
	}
	return out
}

// ipv4Rules: from its own addresses, without options (source routes are among them) but for IGMP, and never as a DHCP server.
func ipv4Rules(four []string) []rule {
	v4 := ether(etherIPv4)
	firstPart := match{base: atPacket, offset: 6, mask: 0x1f, value: "\x00"} // the low part of the offset follows
	out := []rule{
		drop(v4, match{base: atPacket, offset: 0, mask: 0x0f, value: "\x05", not: true}, isNot(atPacket, 9, igmp)),
		drop(v4, is(atPacket, 9, udp), firstPart, is(atPacket, 7, "\x00"), is(atPacket, 20, "\x00\x43")),
		drop(v4, is(atPacket, 9, udp), firstPart, is(atPacket, 7, "\x00"), is(atPacket, 22, "\x00\x44")), // clients look at that alone
		// a client that has no address yet
		atMost(mostDHCP, v4, is(atPacket, 9, udp), is(atPacket, 20, "\x00\x44\x00\x43")),
		accept(v4, is(atPacket, 12, "\x00\x00\x00\x00\xff\xff\xff\xff"), is(atPacket, 9, udp), is(atPacket, 20, "\x00\x44\x00\x43")),
		atMost(mostToAll, v4),
	}
	for _, ip := range four {
		out = append(out, accept(v4, is(atPacket, 12, ip)))
	}
	return out
}

// ipv6Rules: from its own addresses; neighbour discovery (RFC 4861) of them alone, and none that is hidden behind other headers (RFC 6980,
// RFC 7113); never as a router or a DHCP server.
func ipv6Rules(mac string, own []string) []rule {
	v6 := ether(etherIPv6)
	next := func(proto string) match { return is(atPacket, 6, proto) }
	reports := is(atPacket, 24, "\xff\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x16") // of multicast listeners, RFC 3810
	out := []rule{
		drop(v6, next("\x2b")), drop(v6, next("\x3c")),
		drop(v6, next("\x00"), match{base: atPacket, offset: 24, value: reports.value, not: true}),
		drop(v6, next("\x2c"), isNot(atPacket, 40, udp), isNot(atPacket, 40, "\x06")),
		drop(v6, next(udp), is(atPacket, 40, "\x02\x23")),
		drop(v6, next(udp), is(atPacket, 42, "\x02\x22")),
		drop(v6, next("\x2c"), is(atPacket, 40, udp), is(atPacket, 42, "\x00"), match{base: atPacket, offset: 43, mask: 0xf8, value: "\x00"}, is(atPacket, 48, "\x02\x23")),
		drop(v6, next("\x2c"), is(atPacket, 40, udp), is(atPacket, 42, "\x00"), match{base: atPacket, offset: 43, mask: 0xf8, value: "\x00"}, is(atPacket, 50, "\x02\x22")),
		atMost(mostReports, v6, next("\x00")),
		accept(v6, next("\x00"), is(atPacket, 8, any6)), // reports, as all others are dropped
	}
	out = append(out, neighbourRules(mac, own)...)
	client := []match{v6, next(udp), is(atPacket, 40, "\x02\x22\x02\x23")} // of DHCPv6
	out = append(out, atMost(mostDHCP, client...))
	for _, ip := range own {
		out = append(out, accept(append(client[:3:3], is(atPacket, 8, ip))...))
	}
	out = append(out, atMost(mostToAll, v6))
	for _, ip := range own {
		out = append(out, accept(v6, is(atPacket, 8, ip)))
	}
	return out
}

// neighbourRules let out neighbour discovery of its own addresses, and end the way of all other.
func neighbourRules(mac string, own []string) []rule {
	v6, is6 := ether(etherIPv6), is(atPacket, 6, icmpv6)
	kind := func(n byte) match { return is(atPacket, 40, string([]byte{n})) }
	length := func(n byte) match { return is(atPacket, 4, string([]byte{0, n})) }
	var out []rule
	for n := byte(133); n <= 136; n++ {
		out = append(out, atMost(mostNeighbour, v6, is6, kind(n)))
	}
	for _, from := range append(own[:len(own):len(own)], any6) {
		ours := []match{v6, is6, is(atPacket, 8, from)}
		of := func(m ...match) rule { return accept(append(ours[:3:3], m...)...) }
		if from == any6 { // looking whether an address is taken, or for a router
			out = append(out, of(kind(133), length(8)))
			for _, ip := range own {
				out = append(out, of(kind(135), length(24), is(atPacket, 48, ip)), of(kind(135), length(32), is(atPacket, 48, ip), is(atPacket, 64, "\x0e\x01")))
			}
			continue
		}
		out = append(out, of(kind(133), length(8)), of(kind(133), length(16), is(atPacket, 48, "\x01\x01"+mac)),
			of(kind(135), length(24)), of(kind(135), length(32), is(atPacket, 64, "\x01\x01"+mac)))
		for _, ip := range own {
			out = append(out, of(kind(136), length(24), is(atPacket, 48, ip)), of(kind(136), length(32), is(atPacket, 48, ip), is(atPacket, 64, "\x02\x01"+mac)))
		}
	}
	for n := byte(133); n <= 137; n++ {
		out = append(out, drop(v6, is6, kind(n)))
	}
	return out
}

// tunnelRules keep what is this host's own business off the tunnel's end: other hosts' guests have servers of their own. servers are the
// addresses of the bridge, in CIDR form.
func tunnelRules(vni int, servers []string) []rule {
	hw, _ := parseMAC(ServerMAC(vni)) // it is one
	mac := string(hw[:])
	v4, v6 := ether(etherIPv4), ether(etherIPv6)
	out := []rule{drop(is(atFrame, 0, mac)), drop(is(atFrame, 6, mac))}
	for _, port := range []string{"\x00\x43", "\x00\x44"} {
		out = append(out, drop(v4, is(atPacket, 9, udp), is(atPacket, 22, port)))
	}
	for _, port := range []string{"\x02\x22", "\x02\x23"} {
		out = append(out, drop(v6, is(atPacket, 6, udp), is(atPacket, 42, port)))
	}
	for _, kind := range []string{"\x85", "\x86", "\x89"} {
		out = append(out, drop(v6, is(atPacket, 6, icmpv6), is(atPacket, 40, kind)))
	}
	for _, text := range append([]string{linkLocal(hw).String()}, servers...) {
		text, _, _ = strings.Cut(text, "/")
		ip, err := netip.ParseAddr(text)
		switch raw := string(ip.AsSlice()); {
		case err != nil:
		case ip.Is4():
			out = append(out, drop(ether(etherARP), is(atPacket, 14, raw)), drop(ether(etherARP), is(atPacket, 24, raw)), drop(v4, is(atPacket, 12, raw)), drop(v4, is(atPacket, 16, raw)))
		default:
			out = append(out, drop(v6, is(atPacket, 8, raw)), drop(v6, is(atPacket, 24, raw)), drop(v6, is(atPacket, 6, icmpv6), is(atPacket, 48, raw)))
		}
	}
	return out
}

package dhcp

import (
	"encoding/binary"
	"net/netip"
	"time"
)

var allNodes = netip.MustParseAddr("ff02::1")

// Of router discovery (RFC 4861).
const (
	solicitation  = 133
	advertisement = 134
	optionSource  = 1
	optionPrefix  = 3
	optionMTU     = 5
	managed       = 0x80 // addresses come from DHCPv6
	otherConfig   = 0x40 // so does the rest
	onLink        = 0x80 // guests reach each other in a prefix; they make no addresses of it
)

// AnswerRouter answers a router solicitation, an IPv6 packet in a frame from the given card, with an advertisement for that card alone.
// link is our own card.
func (n *Network) AnswerRouter(link, from MAC, packet []byte) ([]byte, error) {
	if _, err := n.guest(from); err != nil {
		return nil, err
	}
	d, ok := parse6(packet, protocolICMPv6)
	if !ok || len(d.data) < 8 || d.data[0] != solicitation || d.data[1] != 0 || d.hops != 255 {
		return nil, ErrMalformed
	}
	source, ok := sourceOf(d.data[8:])
	switch to := d.from.Addr(); {
	case !ok:
		return nil, ErrMalformed
	case source != nil && MAC(source) != from:
		return nil, ErrForged
	case !n.IPv6():
		return nil, ErrNotForUs
	case to.IsLinkLocalUnicast():
		return n.advertise(link, to), nil
	}
	return n.advertise(link, allNodes), nil // it has no address yet, or not one of this link
}

// sourceOf finds the source link-layer address among the options of a solicitation; nil: there is none. False: they are malformed.
func sourceOf(options []byte) (mac []byte, ok bool) {
	for len(options) > 0 {
		if len(options) < 8 || options[1] == 0 || int(options[1])*8 > len(options) {
			return nil, false
		}
		if options[0] == optionSource {
			mac = options[2:8]
		}
		options = options[int(options[1])*8:]
	}
	return mac, true
}

// Advertisement makes the IPv6 packet that tells all nodes of a link, or one of them whose card it is sent to, of the network: no router, on-link
// prefixes, addresses from DHCPv6. Nil: the network has no IPv6.
func (n *Network) Advertisement(link MAC) []byte {
	if !n.IPv6() {
		return nil
	}
	return n.advertise(link, allNodes)
}

func (n *Network) advertise(link MAC, to netip.Addr) []byte {
	p := make([]byte, 16, 16+8+8+32*len(n.six))
	p[0], p[4], p[5] = advertisement, 64, managed|otherConfig // lifetime 0: not a router
	p = append(append(p, optionSource, 1), link[:]...)
	p = binary.BigEndian.AppendUint32(append(p, optionMTU, 1, 0, 0), uint32(n.mtu))
	for _, s := range n.six {
		p = append(p, optionPrefix, 4, byte(s.prefix.Bits()), onLink)
		p = binary.BigEndian.AppendUint32(p, uint32(leaseTime/time.Second)) // valid
		p = binary.BigEndian.AppendUint32(p, uint32(leaseTime/time.Second)) // preferred
		at := s.prefix.Masked().Addr().As16()
		p = append(append(p, 0, 0, 0, 0), at[:]...)
	}
	return icmp6(datagram{from: netip.AddrPortFrom(linkLocal(link), 0), to: netip.AddrPortFrom(to, 0), data: p})
}

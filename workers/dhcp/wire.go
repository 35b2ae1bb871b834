package dhcp

import (
	"encoding/binary"
	"net/netip"
)

// Packets are read from the network header on, and written so. The kernel has taken them from a port of the bridge that we look at, so of the
// headers only what is needed to find the payload is checked.

const (
	protocolUDP    = 17
	protocolICMPv6 = 58
	header4        = 20
	header6        = 40
	headerUDP      = 8
)

// datagram is a UDP datagram, or an ICMPv6 message, whose ports are 0.
type datagram struct {
	from, to netip.AddrPort
	hops     byte // of IPv6, that were left when it came
	data     []byte
}

// parse4 finds the UDP datagram in an IPv4 packet. False: there is none, or a part of one.
func parse4(p []byte) (datagram, bool) {
	if len(p) < header4 || p[0]>>4 != 4 || p[9] != protocolUDP || binary.BigEndian.Uint16(p[6:])&0x3fff != 0 {
		return datagram{}, false
	}
	size, total := int(p[0]&15)*4, int(binary.BigEndian.Uint16(p[2:]))
	if size < header4 || total < size || total > len(p) {
		return datagram{}, false
	}
	return parseUDP(netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20])), p[size:total])
}

// parse6 finds the UDP datagram or the ICMPv6 message in an IPv6 packet without extension headers.
func parse6(p []byte, protocol byte) (datagram, bool) {
	if len(p) < header6 || p[0]>>4 != 6 || p[6] != protocol || header6+int(binary.BigEndian.Uint16(p[4:])) > len(p) {
		return datagram{}, false
	}
	from, to := netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	data := p[header6 : header6+int(binary.BigEndian.Uint16(p[4:]))]
	d, ok := datagram{from: netip.AddrPortFrom(from, 0), to: netip.AddrPortFrom(to, 0), data: data}, true
	if protocol == protocolUDP {
		d, ok = parseUDP(from, to, data)
	}
	d.hops = p[7]
	return d, ok
}

// isICMPv6 tells whether an IPv6 packet says that it is ICMPv6.
func isICMPv6(p []byte) bool { return len(p) >= header6 && p[6] == protocolICMPv6 }

func parseUDP(from, to netip.Addr, p []byte) (datagram, bool) {
	if len(p) < headerUDP {
		return datagram{}, false
	}
	size := int(binary.BigEndian.Uint16(p[4:]))
	if size < headerUDP || size > len(p) {
		return datagram{}, false
	}
	source, target := binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
	return datagram{from: netip.AddrPortFrom(from, source), to: netip.AddrPortFrom(to, target), data: p[headerUDP:size]}, true
}

// udp4 makes an IPv4 packet.
func udp4(d datagram) []byte {
	p := make([]byte, header4, header4+headerUDP+len(d.data))
	p[0], p[8], p[9] = 0x45, 64, protocolUDP
	binary.BigEndian.PutUint16(p[2:], uint16(cap(p)))
	from, to := d.from.Addr().As4(), d.to.Addr().As4()
	copy(p[12:], from[:])
	copy(p[16:], to[:])
	binary.BigEndian.PutUint16(p[10:], ^fold(sum(0, p)))
	return appendUDP(p, d, sum(sum(0, from[:]), to[:]))
}

// udp6 makes an IPv6 packet of a UDP datagram.
func udp6(d datagram) []byte {
	p, pseudo := header(d, protocolUDP, headerUDP+len(d.data))
	return appendUDP(p, d, pseudo)
}

// icmp6 makes an IPv6 packet of an ICMPv6 message, which it gives its checksum, and whose hop limit is what neighbour discovery wants.
func icmp6(d datagram) []byte {
	p, pseudo := header(d, protocolICMPv6, len(d.data))
	p = append(p, d.data...)
	p[7] = 255
	binary.BigEndian.PutUint16(p[header6+2:], ^fold(sum(pseudo+protocolICMPv6+uint32(len(d.data)), d.data)))
	return p
}

// header makes that of an IPv6 packet, and the sum of its addresses.
func header(d datagram, protocol byte, size int) ([]byte, uint32) {
	p := make([]byte, header6, header6+size)
	p[0], p[6], p[7] = 0x60, protocol, 64
	binary.BigEndian.PutUint16(p[4:], uint16(size))
	from, to := d.from.Addr().As16(), d.to.Addr().As16()
	copy(p[8:], from[:])
	copy(p[24:], to[:])
	return p, sum(0, p[8:header6])
}

// appendUDP appends a UDP header and data. addresses is the sum of those of the packet.
func appendUDP(p []byte, d datagram, addresses uint32) []byte {
	at, size := len(p), headerUDP+len(d.data)
	p = binary.BigEndian.AppendUint16(p, d.from.Port())
	p = binary.BigEndian.AppendUint16(p, d.to.Port())
	p = binary.BigEndian.AppendUint16(p, uint16(size))
	p = append(append(p, 0, 0), d.data...)
	check := ^fold(sum(addresses+protocolUDP+uint32(size), p[at:]))
	if check == 0 {
		check = 0xffff // 0 means that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(p[at+6:], check)
	return p
}

// sum adds up 16-bit words (RFC 1071). Of the few packets of at most 64 KiB that we add up it does not overflow.
func sum(s uint32, p []byte) uint32 {
	for ; len(p) > 1; p = p[2:] {
		s += uint32(p[0])<<8 | uint32(p[1])
	}
	if len(p) == 1 {
		s += uint32(p[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

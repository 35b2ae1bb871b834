package network

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/workers/netspace"
)

// Pieces of frames.
func hw(mac string) []byte { b, _ := net.ParseMAC(mac); return b }
func ip(a string) []byte   { return netip.MustParseAddr(a).AsSlice() }
func be(n int) []byte      { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func cat(parts ...[]byte) []byte {
	return bytes.Join(parts, nil)
}

const all = "ff:ff:ff:ff:ff:ff"

// marker ends each frame of a test, so that it is known when it arrives; a bridge may cut it off where a header tells a shorter length.
var marker = []byte("cloudengine-attack")

func frame(to, from string, proto int, body ...[]byte) []byte {
	return cat(hw(to), hw(from), be(proto), cat(body...), marker)
}

func arp(op int, mac, from, toMAC, to string) []byte {
	return cat([]byte{0, 1, 8, 0, 6, 4}, be(op), hw(mac), ip(from), hw(toMAC), ip(to))
}

// ipv4 gives a header without options unless there are some (a multiple of four bytes).
func ipv4(from, to string, proto byte, options, body []byte) []byte {
	h := cat([]byte{0x40 | byte(5+len(options)/4), 0}, be(20+len(options)+len(body)+len(marker)), []byte{0, 1, 0, 0, 64, proto, 0, 0}, ip(from), ip(to), options)
	sum := uint32(0)
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
	return cat(h, body)
}

func datagram(from, to int) []byte { return cat(be(from), be(to), be(8+len(marker)), []byte{0, 0}) }

func ipv6(from, to string, next byte, length int, body ...[]byte) []byte {
	return cat([]byte{0x60, 0, 0, 0}, be(length), []byte{next, 255}, ip(from), ip(to), cat(body...))
}

// advert is a neighbour advertisement with the target's link-layer address. Its length is told without the marker behind it.
func advert(from, to, target, mac string) []byte {
	return ipv6(from, to, 58, 32, []byte{136, 0, 0, 0, 0x20, 0, 0, 0}, ip(target), []byte{2, 1}, hw(mac))
}

const (
	host6  = "fd00:1::ff" // nobody's
	local6 = "fe80::216:3eff:fe00:a"
	all6   = "ff02::1"
	macAll = "33:33:00:00:00:01"
)

// attack is a frame that guest a sends.
type attack struct {
	name  string
	frame []byte
}

func attacks() []attack {
	vlan := cat(hw(macB), hw(macA), be(0x8100), be(5), be(0x0800), ipv4(ipA, ipB, 17, nil, datagram(1, 2)), marker)
	route := []byte{131, 7, 4, 10, 0, 0, 9, 1} // loose source route (RFC 791) over 10.0.0.9
	inner := frame(macB, macB, 0x0800, ipv4(ipB, ipA, 17, nil, datagram(1, 2)))
	return []attack{
		{"another's MAC", frame(macB, macC, 0x0800, ipv4(ipA, ipB, 17, nil, datagram(1, 2)))},
		{"the servers' MAC", frame(macB, ServerMAC(testVNI), 0x0800, ipv4(ipA, ipB, 17, nil, datagram(1, 2)))},
		{"another's IPv4 address", frame(macB, macA, 0x0800, ipv4(ipC, ipB, 17, nil, datagram(1, 2)))},
		{"the server's IPv4 address", frame(macB, macA, 0x0800, ipv4("10.0.0.1", ipB, 17, nil, datagram(1, 2)))},
		{"no IPv4 address", frame(macB, macA, 0x0800, ipv4("0.0.0.0", ipB, 17, nil, datagram(1, 2)))},
		{"a source route", frame(macB, macA, 0x0800, ipv4(ipA, ipB, 17, route, datagram(1, 2)))},
		{"a DHCP answer", frame(macB, macA, 0x0800, ipv4(ipA, ipB, 17, nil, datagram(67, 68)))},
		{"a DHCP answer from another port", frame(macB, macA, 0x0800, ipv4(ipA, ipB, 17, nil, datagram(1067, 68)))},
		{"a DHCPv6 answer from another port", frame(macB, macA, 0x86dd, ipv6(ip6A, ip6B, 17, 26, datagram(1067, 546)))},
		{"a DHCPv6 answer from another port in fragments", frame(macB, macA, 0x86dd, ipv6(ip6A, ip6B, 44, 34, []byte{17, 0, 0, 1, 0, 0, 0, 1}, datagram(1067, 546)))},
		{"a DHCP answer to all", frame(all, macA, 0x0800, ipv4(ipA, "255.255.255.255", 17, nil, datagram(67, 68)))},
		{"ARP: I am the server", frame(all, macA, 0x0806, arp(2, macA, "10.0.0.1", all, "10.0.0.1"))},
		{"ARP: I am b", frame(all, macA, 0x0806, arp(2, macA, ipB, macC, ipC))},
		{"ARP: b asks", frame(all, macA, 0x0806, arp(1, macA, ipB, "00:00:00:00:00:00", ipC))},
		{"ARP with another's MAC inside", frame(all, macA, 0x0806, arp(2, macC, ipA, macB, ipB))},
		{"ARP: a probe for another's address", frame(all, macA, 0x0806, arp(1, macA, "0.0.0.0", "00:00:00:00:00:00", ipB))},
		{"a VLAN tag", vlan},
		{"two VLAN tags", cat(hw(macB), hw(macA), be(0x88a8), be(5), be(0x8100), be(5), be(0x0800), ipv4(ipA, ipB, 17, nil, datagram(1, 2)), marker)},
		{"spanning tree", cat(hw("01:80:c2:00:00:00"), hw(macA), be(38), []byte{0x42, 0x42, 3}, marker)},
		{"an unknown protocol", frame(macB, macA, 0x88b5)},
		{"another's IPv6 address", frame(macB, macA, 0x86dd, ipv6(ip6C, ip6B, 17, 26, datagram(1, 2)))},
		{"another's link-local address", frame(macB, macA, 0x86dd, ipv6("fe80::1", ip6B, 17, 26, datagram(1, 2)))},
		{"a router advertisement", frame(macAll, macA, 0x86dd, ipv6(local6, all6, 58, 16, []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}))},
		{"a router advertisement behind a header", frame(macAll, macA, 0x86dd, ipv6(local6, all6, 60, 24, []byte{58, 0, 1, 4, 0, 0, 0, 0, 134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}))},
		{"a router advertisement in fragments", frame(macAll, macA, 0x86dd, ipv6(local6, all6, 44, 24, []byte{58, 0, 0, 1, 0, 0, 0, 1, 134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}))},
		{"a redirect", frame(macB, macA, 0x86dd, ipv6(local6, ip6B, 58, 40, []byte{137, 0, 0, 0, 0, 0, 0, 0}, ip(ip6C), ip(ip6C)))},
		{"a routing header", frame(macB, macA, 0x86dd, ipv6(ip6A, ip6B, 43, 24, []byte{17, 2, 0, 1, 0, 0, 0, 0}, ip(host6)))},
		{"a DHCPv6 answer", frame(macB, macA, 0x86dd, ipv6(local6, "fe80::216:3eff:fe00:b", 17, 26, datagram(547, 546)))},
		{"a DHCPv6 answer in fragments", frame(macB, macA, 0x86dd, ipv6(local6, ip6B, 44, 34, []byte{17, 0, 0, 1, 0, 0, 0, 1}, datagram(547, 546)))},
		{"neighbour: I am c", frame(macB, macA, 0x86dd, advert(ip6A, ip6B, ip6C, macA))},
		{"neighbour: I am the server", frame(macB, macA, 0x86dd, advert(ip6A, ip6B, "fd00:1::1", macA))},
		{"neighbour with another's MAC inside", frame(macB, macA, 0x86dd, advert(ip6A, ip6B, ip6A, macC))},
		{"VXLAN in VXLAN from a host's address", frame(macB, macA, 0x0800, ipv4(hostX, hostY, 17, nil, cat(be(1), be(Port), be(200), []byte{0, 0, 8, 0, 0, 0, 0, 16, 1, 0}, inner)))},
	}
}

// allowed is what guest a may send: that a test's frames arrive at all.
func allowed() []attack {
	return []attack{
		{"IPv4", frame(macB, macA, 0x0800, ipv4(ipA, ipB, 17, nil, datagram(1, 2)))},
		{"ARP", frame(all, macA, 0x0806, arp(1, macA, ipA, "00:00:00:00:00:00", ipB))},
		{"IPv6", frame(macB, macA, 0x86dd, ipv6(ip6A, ip6B, 17, 26, datagram(1, 2)))},
		{"neighbour", frame(macB, macA, 0x86dd, advert(ip6A, ip6B, ip6A, macA))},
		{"link-local", frame(macB, macA, 0x86dd, ipv6(local6, ip6B, 17, 26, datagram(1, 2)))},
	}
}

// raw opens a socket for whole frames on a device in a namespace.
func (w *wire) raw(space, device string) int {
	w.t.Helper()
	fd := -1
	err := netspace.Inside(w.path(space), func() error {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		all := int(binary.BigEndian.Uint16([]byte{unix.ETH_P_ALL & 0xff, unix.ETH_P_ALL >> 8}))
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: i.Index})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// arrives says whether a frame of a test comes to a socket within some time. Others' are passed over.
func arrives(fd int, sent []byte, wait time.Duration) bool {
	deadline, b := time.Now().Add(wait), make([]byte, 2048)
	whole := bytes.TrimSuffix(sent, marker)
	for {
		n, from, err := unix.Recvfrom(fd, b, 0)
		if err == nil {
			if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype != unix.PACKET_OUTGOING && (bytes.Contains(b[:n], marker) || bytes.Contains(b[:n], whole)) {
				return true
			}
			continue
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(min(left, 100*time.Millisecond).Milliseconds())+1)
	}
}

// TestI9AGuestSendsOnlyWhatItsNICMay sends what a guest should not from guest a, and looks for it at the others on its network, on this host and
// another, and at the host's own end.
func TestI9AGuestSendsOnlyWhatItsNICMay(t *testing.T) {
	w, x, _ := twoHosts(t)
	sendAttacks(t, w, x)
}

func sendAttacks(t *testing.T, w *wire, x *hostOf) {
	from := w.raw("a", "eth0")
	ends := map[string]int{"b": w.raw("b", "eth0"), "c": w.raw("c", "eth0"), "the host": w.raw("x-"+Namespace(testVNI), Bridge), "the tunnel": w.raw("wire", "px")}
	send := func(f []byte) {
		t.Helper()
		if _, err := unix.Write(from, f); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range allowed() {
		if send(a.frame); !arrives(ends["b"], a.frame, soon) {
			t.Errorf("%s does not arrive at b", a.name)
		}
		for _, fd := range ends {
			arrives(fd, a.frame, 20*time.Millisecond)
		}
	}
	before := x.dropped(Device(1, 0))
	for _, a := range attacks() {
		send(a.frame)
		for who, fd := range ends {
			if arrives(fd, a.frame, 60*time.Millisecond) {
				t.Errorf("%s arrives at %s", a.name, who)
			}
		}
	}
	if n := x.dropped(Device(1, 0)) - before; n != uint64(len(attacks())) {
		t.Errorf("the rules count %d frames that were dropped, want %d", n, len(attacks()))
	}
}

func (x *hostOf) dropped(device string) (n uint64) {
	x.w.t.Helper()
	if err := x.k.in(testVNI, func(in inside) error {
		all, err := dropped(in.rules)
		n = all[device]
		return err
	}); err != nil {
		x.w.t.Fatal(err)
	}
	return n
}

// TestI9OtherNetworksAreOutOfReach: a guest of another account, with the same addresses on the same hosts, gets nothing of this network, and a
// guest gets nothing of the hosts.
func TestI9OtherNetworksAreOutOfReach(t *testing.T) {
	w, x, _ := twoHosts(t)
	const macE, otherVNI = "00:16:3e:00:00:0e", testVNI + 1
	evil := back(hostX, hostX)
	evil.Network, evil.VNI, evil.Account, evil.Ports = "n2", otherVNI, "rival", evil.Ports[:1]
	evil.Ports[0].MAC = macE
	x.docs = nil
	x.tell(evil)
	x.guest("e", otherVNI, 9, macE, ipA, ip6A)
	x.settle()
	for _, to := range [][2]string{{"b", ipB}, {"c", ipC}, {"b", ip6B}, {"x", hostX}, {"y", hostY}} {
		if w.hears("e", to[0], to[1], never) {
			t.Errorf("a guest of another account reaches %s at %s", to[0], to[1])
		}
	}
	for _, to := range [][2]string{{"x", hostX}, {"y", hostY}} {
		w.route("a", to[1])
		if w.hears("a", to[0], to[1], never) {
			t.Errorf("a guest reaches host %s at %s", to[0], to[1])
		}
	}
	if !w.hearsAt("e", "x-"+Namespace(otherVNI), "10.0.0.1") {
		t.Error("a guest of another account does not reach its own server")
	}
}

func (w *wire) hearsAt(from, space, address string) bool { return w.hears(from, space, address, soon) }

// route sends a guest's packets for an address to its server.
func (w *wire) route(guest, to string) {
	w.t.Helper()
	w.in(guest, func(h *netlinkHandle) error { return addRoute(h, to, "10.0.0.1") })
}

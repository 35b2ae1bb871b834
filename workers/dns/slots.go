package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"cloudengine/workers/netspace"

	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// port is DNS's.
const port = 53

// queue bounds what waits of one guest, in bytes of memory.
const queue = 64 << 10

// slots are UDP sockets on one port, one for each guest, so that the packets of one never fill another one's queue. The kernel chooses by the
// source address, with a program that follows the guests. Sockets stay open until the server ends: closing one would change the numbers of
// others. The first one is nobody's and takes nothing.
type slots struct {
	namespace, device, network string
	conns                      []*net.UDPConn
	of                         map[netip.Addr]int
	free                       []int
	nobody                     *net.UDPConn
}

func openSlots(namespace, device, network string) (*slots, error) {
	s := &slots{namespace: namespace, device: device, network: network, of: map[netip.Addr]int{}}
	c, err := s.listen()
	if err != nil {
		return nil, err
	}
	s.nobody = c
	nothing, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err == nil {
		err = ipv4.NewPacketConn(c).SetBPF(nothing) // SOL_SOCKET: the family does not matter
	}
	if err == nil {
		err = s.direct()
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("filter strangers' packets: %w", err)
	}
	return s, nil
}

func (s *slots) close() {
	for _, c := range append(s.conns, s.nobody) {
		c.Close()
	}
}

func (s *slots) listen() (c *net.UDPConn, err error) {
	err = netspace.Inside(s.namespace, func() error {
		c, err = netspace.ListenUDP(s.network, s.device, port, func(fd int) error {
			return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, queue))
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen for DNS in %s: %w", s.namespace, err)
	}
	return c, nil
}

// follow gives each guest a slot, those of guests that have gone to others, and tells which sockets are new. guests are of the slots' family.
func (s *slots) follow(guests []netip.Addr) (fresh []*net.UDPConn, err error) {
	there := map[netip.Addr]bool{}
	for _, ip := range guests {
		there[ip] = true
	}
	for ip, at := range s.of {
		if !there[ip] {
			delete(s.of, ip)
			s.free = append(s.free, at)
		}
	}
	for _, ip := range guests {
		if _, has := s.of[ip]; has {
			continue
		}
		if len(s.free) == 0 {
			c, err := s.listen()
			if err != nil {
				return fresh, err
			}
			fresh, s.conns = append(fresh, c), append(s.conns, c)
			s.free = append(s.free, len(s.conns)) // the first is nobody's
		}
		last := len(s.free) - 1
		s.of[ip], s.free = s.free[last], s.free[:last]
	}
	return fresh, s.direct()
}

// headerStart is the offset of a packet's first byte for programs, which count from the UDP payload (SKF_NET_OFF).
const headerStart = 0xfff00000

// direct tells the kernel which source address has which slot. Of IPv6 addresses the last four bytes count: guests that differ in others share one.
// Two instructions for each are far from the kernel's bound (4096): a network has at most 1000 NICs.
func (s *slots) direct() error {
	at := uint32(12)
	if s.network == "udp6" {
		at = 8 + 12
	}
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: headerStart + at, Size: 4}}
	for ip, slot := range s.of {
		b := ip.AsSlice()
		end := binary.BigEndian.Uint32(b[len(b)-4:])
		program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: end, SkipTrue: 1}, bpf.RetConstant{Val: uint32(slot)})
	}
	raw, err := bpf.Assemble(append(program, bpf.RetConstant{Val: 0}))
	if err != nil {
		return fmt.Errorf("assemble program: %w", err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, x := range raw {
		code[i] = unix.SockFilter{Code: x.Op, Jt: x.Jt, Jf: x.Jf, K: x.K}
	}
	conn, err := s.nobody.SyscallConn()
	if err != nil {
		return fmt.Errorf("reach socket: %w", err)
	}
	var failed error
	all := &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	err = conn.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, all)
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("direct guests to their sockets: %w", err)
	}
	return nil
}

// udp reads with the address that a packet was sent to, and answers from there: a socket has all addresses of the bridge.
type udp interface {
	read(b []byte) (n int, to netip.Addr, from *net.UDPAddr, err error)
	write(b []byte, from netip.Addr, to *net.UDPAddr) error
}

func newUDP(c *net.UDPConn, network string) (udp, error) {
	var err error
	var u udp
	if network == "udp4" {
		p := ipv4.NewPacketConn(c)
		u, err = udp4{p}, p.SetControlMessage(ipv4.FlagDst, true)
	} else {
		p := ipv6.NewPacketConn(c)
		u, err = udp6{p}, p.SetControlMessage(ipv6.FlagDst, true)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for packets' destinations: %w", err)
	}
	return u, nil
}

type (
	udp4 struct{ *ipv4.PacketConn }
	udp6 struct{ *ipv6.PacketConn }
)

func (u udp4) read(b []byte) (n int, to netip.Addr, from *net.UDPAddr, err error) {
	n, cm, addr, err := u.ReadFrom(b)
	if err == nil && cm != nil {
		to, _ = netip.AddrFromSlice(cm.Dst)
	}
	from, _ = addr.(*net.UDPAddr)
	return n, to.Unmap(), from, err
}

func (u udp4) write(b []byte, from netip.Addr, to *net.UDPAddr) error {
	_, err := u.WriteTo(b, &ipv4.ControlMessage{Src: from.AsSlice()}, to)
	return err
}

func (u udp6) read(b []byte) (n int, to netip.Addr, from *net.UDPAddr, err error) {
	n, cm, addr, err := u.ReadFrom(b)
	if err == nil && cm != nil {
		to, _ = netip.AddrFromSlice(cm.Dst)
	}
	from, _ = addr.(*net.UDPAddr)
	return n, to, from, err
}

func (u udp6) write(b []byte, from netip.Addr, to *net.UDPAddr) error {
	_, err := u.WriteTo(b, &ipv6.ControlMessage{Src: from.AsSlice()}, to)
	return err
}

package dhcp

import (
	"errors"
	"fmt"
	"net"

	"cloudengine/workers/netspace"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// sockets are what one network is served by. Requests are read, and answers sent, below IP: so we see whose frame it is and say whose it shall
// be, and guests without an address are no special case.
type sockets struct {
	link              MAC
	four, six, router *packet.Conn
	silent            []*net.UDPConn // take our ports, so that the kernel does not answer that they are closed; they take no packet
}

func (s *sockets) close() {
	for _, c := range []*packet.Conn{s.four, s.six, s.router} {
		if c != nil {
			c.Close()
		}
	}
	for _, c := range s.silent {
		c.Close()
	}
}

// open opens them in a namespace, on a device.
func open(namespace, device string) (*sockets, error) {
	s := &sockets{}
	err := netspace.Inside(namespace, func() error {
		ifi, err := net.InterfaceByName(device)
		if err != nil {
			return fmt.Errorf("find %s: %w", device, err)
		}
		if len(ifi.HardwareAddr) != 6 {
			return fmt.Errorf("%s is not an Ethernet device", device)
		}
		s.link = MAC(ifi.HardwareAddr)
		return s.open(ifi)
	})
	if err != nil {
		s.close()
		return nil, fmt.Errorf("listen for DHCP in %s: %w", namespace, err)
	}
	return s, nil
}

func (s *sockets) open(ifi *net.Interface) (err error) {
	if s.four, err = listen(ifi, unix.ETH_P_IP, only4); err != nil {
		return err
	}
	if s.six, err = listen(ifi, unix.ETH_P_IPV6, only6); err != nil {
		return err
	}
	if s.router, err = listen(ifi, unix.ETH_P_IPV6, onlySolicitations); err != nil {
		return err
	}
	for network, port := range map[string]int{"udp4": dhcpv4.ServerPort, "udp6": dhcpv6.DefaultServerPort} {
		c, err := netspace.ListenUDP(network, ifi.Name, port)
		if err != nil {
			return err
		}
		s.silent = append(s.silent, c)
		if err := silence(c); err != nil {
			return err
		}
		if network == "udp6" { // or a bridge that snoops would not hand these groups to us
			p := ipv6.NewPacketConn(c)
			err := errors.Join(p.JoinGroup(ifi, &net.UDPAddr{IP: allServers.AsSlice()}), p.JoinGroup(ifi, &net.UDPAddr{IP: net.IPv6linklocalallrouters}))
			if err != nil {
				return fmt.Errorf("join multicast groups: %w", err)
			}
		}
	}
	return nil
}

func listen(ifi *net.Interface, protocol int, only []bpf.Instruction) (*packet.Conn, error) {
	filter, err := bpf.Assemble(only)
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	c, err := packet.Listen(ifi, packet.Datagram, protocol, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", ifi.Name, err)
	}
	return c, nil
}

// silence lets a socket take nothing.
func silence(c *net.UDPConn) error {
	nothing, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err == nil {
		err = ipv6.NewPacketConn(c).SetBPF(nothing) // SOL_SOCKET: the family does not matter
	}
	if err != nil {
		return fmt.Errorf("filter all packets: %w", err)
	}
	return nil
}

// Filters see packets from the network header on. They spare us what is not ours; whether it is, is decided by what reads it.
var (
	only4 = []bpf.Instruction{
		bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolUDP, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 4}, // a fragment
		bpf.LoadMemShift{Off: 0},
		bpf.LoadIndirect{Off: 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: dhcpv4.ServerPort, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	}
	only6 = []bpf.Instruction{
		bpf.LoadAbsolute{Off: 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolUDP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: header6 + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: dhcpv6.DefaultServerPort, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	}
	onlySolicitations = []bpf.Instruction{
		bpf.LoadAbsolute{Off: 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolICMPv6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: header6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: solicitation, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	}
)

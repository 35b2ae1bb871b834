package dhcp

import (
	"encoding/binary"
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

// bridge is where the guests of a network are.
type bridge struct {
	namespace string
	ifi       *net.Interface
	link      MAC            // its own
	silent    []*net.UDPConn // take our ports, so that the kernel does not answer that they are closed; they take no packet
}

// sockets are for one guest alone, so that its packets never fill another one's queue. Requests are read, and answers sent, below IP: so we
// know whose frame it is and say whose it shall be, and guests without an address are no special case.
type sockets struct{ four, six *packet.Conn }

// queue bounds what waits of one guest and family, in bytes of memory: about ten packets.
const queue = 8 << 10

func openBridge(namespace, device string) (*bridge, error) {
	b := &bridge{namespace: namespace}
	err := netspace.Inside(namespace, func() (err error) {
		if b.ifi, err = net.InterfaceByName(device); err != nil {
			return fmt.Errorf("find %s: %w", device, err)
		}
		if len(b.ifi.HardwareAddr) != 6 {
			return fmt.Errorf("%s is not an Ethernet device", device)
		}
		b.link = MAC(b.ifi.HardwareAddr)
		return b.takePorts()
	})
	if err != nil {
		b.close()
		return nil, fmt.Errorf("listen for DHCP in %s: %w", namespace, err)
	}
	return b, nil
}

func (b *bridge) close() {
	for _, c := range b.silent {
		c.Close()
	}
}

func (b *bridge) takePorts() error {
	for network, port := range map[string]int{"udp4": dhcpv4.ServerPort, "udp6": dhcpv6.DefaultServerPort} {
		c, err := netspace.ListenUDP(network, b.ifi.Name, port)
		if err != nil {
			return err
		}
		b.silent = append(b.silent, c)
		if err := silence(c); err != nil {
			return err
		}
		if network == "udp6" { // or a bridge that snoops would not hand these groups to us
			p := ipv6.NewPacketConn(c)
			err := errors.Join(p.JoinGroup(b.ifi, &net.UDPAddr{IP: allServers.AsSlice()}), p.JoinGroup(b.ifi, &net.UDPAddr{IP: net.IPv6linklocalallrouters}))
			if err != nil {
				return fmt.Errorf("join multicast groups: %w", err)
			}
		}
	}
	return nil
}

// open opens the sockets of guests.
func (b *bridge) open(guests []MAC) (all []sockets, err error) {
	if len(guests) == 0 {
		return nil, nil
	}
	err = netspace.Inside(b.namespace, func() error {
		for _, mac := range guests {
			four, err := b.listen(unix.ETH_P_IP, only4(mac))
			if err != nil {
				return err
			}
			six, err := b.listen(unix.ETH_P_IPV6, only6(mac))
			if err != nil {
				four.Close()
				return err
			}
			all = append(all, sockets{four, six})
		}
		return nil
	})
	if err != nil {
		for _, s := range all {
			s.four.Close()
			s.six.Close()
		}
		return nil, fmt.Errorf("listen for guests in %s: %w", b.namespace, err)
	}
	return all, nil
}

func (b *bridge) listen(protocol int, only []bpf.Instruction) (*packet.Conn, error) {
	filter, err := bpf.Assemble(only)
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	c, err := packet.Listen(b.ifi, packet.Datagram, protocol, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", b.ifi.Name, err)
	}
	raw, err := c.SyscallConn()
	if err == nil {
		var failed error
		err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, queue) })
		err = errors.Join(err, failed)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("bound queue: %w", err)
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

// frameStart is the offset of a frame's first byte for filters, which count from the network header (SKF_LL_OFF).
const frameStart = 0xffe00000

// only4 lets through what may be a DHCPv4 request of one card; whether it is, is decided by what reads it.
func only4(mac MAC) []bpf.Instruction {
	return fromCard(mac, []bpf.Instruction{
		bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolUDP, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 4}, // a fragment
		bpf.LoadMemShift{Off: 0},
		bpf.LoadIndirect{Off: 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: dhcpv4.ServerPort, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
}

// only6 lets through what may be a DHCPv6 request or a router solicitation.
func only6(mac MAC) []bpf.Instruction {
	return fromCard(mac, []bpf.Instruction{
		bpf.LoadAbsolute{Off: 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: protocolICMPv6, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolUDP, SkipTrue: 5},
		bpf.LoadAbsolute{Off: header6 + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: dhcpv6.DefaultServerPort, SkipTrue: 2, SkipFalse: 3},
		bpf.LoadAbsolute{Off: header6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: solicitation, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
}

// fromCard drops what other cards have sent, before the filter that ends in a drop.
func fromCard(mac MAC, then []bpf.Instruction) []bpf.Instruction {
	drop := uint8(len(then) - 1)
	return append([]bpf.Instruction{
		bpf.LoadAbsolute{Off: frameStart + 8, Size: 4}, // the end of the address tells cards apart
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(mac[2:]), SkipTrue: drop + 2},
		bpf.LoadAbsolute{Off: frameStart + 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(binary.BigEndian.Uint16(mac[:])), SkipTrue: drop},
	}, then...)
}

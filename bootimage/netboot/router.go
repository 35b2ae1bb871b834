package netboot

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
)

// iPXE configures IPv6 beside IPv4 and boots when both are settled. On a network without an IPv6 router it waits 16 s
// for one at every boot. So a known machine that asks for a router (RFC 4861, 4.1) is told at once that there is none:
// an advertisement with lifetime 0 and no prefix, sent to it alone. It configures nothing.

// noRouter is such an advertisement (RFC 4861, 4.2): no hop limit, no flags, lifetime 0, no timers, no options. The
// kernel fills in the checksum.
var noRouter = []byte{134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// serveRouter answers until ctx ends. Without IPv6 here there is nothing that machines would wait for us to say; that
// is not an error.
func (s *Service) serveRouter(ctx context.Context) error {
	ifi, err := net.InterfaceByName(s.opt.Interface)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", s.opt.Interface, err)
	}
	conn, err := s.listenRouter(ifi)
	if err != nil {
		s.opt.Log.Warn("no answer to IPv6 router solicitations: machines boot some seconds later", "error", err)
		<-ctx.Done()
		return nil
	}
	return s.answerRouter(ctx, conn, ifi.Index)
}

// listenRouter opens a socket that takes nothing but router solicitations on our interface.
func (s *Service) listenRouter(ifi *net.Interface) (*ipv6.PacketConn, error) {
	raw, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, fmt.Errorf("listen for ICMPv6: %w", err)
	}
	conn := raw.IPv6PacketConn()
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterSolicitation)
	err = errors.Join(
		conn.SetICMPFilter(&only),
		conn.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface, true),
		conn.SetHopLimit(255), conn.SetMulticastHopLimit(255), // or it is not taken (RFC 4861, 6.1.2)
		conn.JoinGroup(ifi, &net.IPAddr{IP: net.IPv6linklocalallrouters}),
	)
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("set up ICMPv6 on %s: %w", ifi.Name, err)
	}
	return conn, nil
}

func (s *Service) answerRouter(ctx context.Context, conn *ipv6.PacketConn, index int) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	buf := make([]byte, maxDatagram)
	for {
		n, cm, from, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("read router solicitation: %w", err)
		}
		if err != nil || cm == nil || cm.IfIndex != index || cm.HopLimit != 255 {
			continue
		}
		mac := solicitor(buf[:n])
		if _, _, known := s.lookup(mac); !known {
			continue
		}
		peer, ok := from.(*net.IPAddr)
		if !ok || !peer.IP.IsLinkLocalUnicast() {
			continue
		}
		if _, err := conn.WriteTo(noRouter, &ipv6.ControlMessage{IfIndex: index}, peer); err != nil {
			s.opt.Log.Debug("answer router solicitation", "mac", mac, "error", err)
		}
	}
}

// solicitor returns the MAC in the source link-layer address option of a router solicitation; "" if it is malformed or
// has none.
func solicitor(packet []byte) string {
	if len(packet) < 8 || packet[0] != 133 {
		return ""
	}
	for options := packet[8:]; len(options) >= 8; {
		size := int(options[1]) * 8
		if size == 0 || size > len(options) {
			return ""
		}
		if options[0] == 1 && size == 8 {
			return net.HardwareAddr(options[2:8]).String()
		}
		options = options[size:]
	}
	return ""
}

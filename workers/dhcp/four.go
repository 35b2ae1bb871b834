package dhcp

import (
	"net"
	"net/netip"

	"cloudengine/workers/dhcp/fixed"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// Answer4 answers a DHCPv4 request: an IPv4 packet in a frame from the given card. The answer is an IPv4 packet for that card.
func (n *Network) Answer4(from MAC, packet []byte) ([]byte, error) {
	g, err := n.guest(from)
	if err != nil {
		return nil, err
	}
	d, ok := parse4(packet)
	if !ok || d.to.Port() != dhcpv4.ServerPort {
		return nil, ErrMalformed
	}
	req, ok := fixed.Parse(d.data)
	switch {
	case !ok:
		return nil, ErrMalformed
	case MAC(req.ClientHWAddr) != from:
		return nil, ErrForged
	case !g.four.IsValid():
		return nil, ErrNoAddress
	case d.to.Addr() != broadcast4 && d.to.Addr() != g.fourFrom:
		return nil, ErrNotForUs
	}
	kind, ok := fixed.Kind(req, g.fourFrom, g.four.Addr())
	if !ok {
		return nil, ErrNotForUs
	}
	reply, err := n.reply4(req, kind, g)
	if err != nil {
		return nil, ErrMalformed
	}
	return n.fits(udp4(datagram{
		from: netip.AddrPortFrom(g.fourFrom, dhcpv4.ServerPort),
		to:   netip.AddrPortFrom(g.answerTo(req, kind), dhcpv4.ClientPort),
		data: reply.ToBytes(),
	}))
}

// answerTo is RFC 2131, section 4.1, of clients that ask without a relay. Its frame is for the client's card in any case.
func (g *guest) answerTo(req *dhcpv4.DHCPv4, kind dhcpv4.MessageType) netip.Addr {
	switch {
	case kind == dhcpv4.MessageTypeNak:
		return broadcast4
	case req.ClientIPAddr.Equal(g.four.Addr().AsSlice()):
		return g.four.Addr() // it has its address: renewal
	case req.IsBroadcast():
		return broadcast4
	}
	return g.four.Addr()
}

func (n *Network) reply4(req *dhcpv4.DHCPv4, kind dhcpv4.MessageType, g *guest) (*dhcpv4.DHCPv4, error) {
	server := net.IP(g.fourFrom.AsSlice())
	mods := []dhcpv4.Modifier{dhcpv4.WithMessageType(kind), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server))}
	if kind == dhcpv4.MessageTypeNak {
		return dhcpv4.NewReplyFromRequest(req, append(mods, dhcpv4.WithBroadcast(true))...)
	}
	mods = append(mods,
		dhcpv4.WithNetmask(net.CIDRMask(g.four.Bits(), 32)),
		dhcpv4.WithDNS(server),
		dhcpv4.WithOption(dhcpv4.OptDomainName(n.zone)),
		dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{byte(n.mtu >> 8), byte(n.mtu)}),
	)
	if g.host != "" {
		mods = append(mods, dhcpv4.WithOption(dhcpv4.OptHostName(g.host)))
	}
	if req.MessageType() == dhcpv4.MessageTypeInform {
		return dhcpv4.NewReplyFromRequest(req, append(mods, dhcpv4.WithClientIP(req.ClientIPAddr))...)
	}
	if kind == dhcpv4.MessageTypeAck {
		mods = append(mods, dhcpv4.WithClientIP(req.ClientIPAddr))
	}
	return dhcpv4.NewReplyFromRequest(req, append(mods,
		dhcpv4.WithYourIP(g.four.Addr().AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(leaseTime)),
		dhcpv4.WithOption(dhcpv4.OptRenewTimeValue(renewTime)),
		dhcpv4.WithOption(dhcpv4.OptRebindingTimeValue(rebindTime)),
	)...)
}

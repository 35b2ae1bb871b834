package dhcp

import (
	"maps"
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
	return n.fits(udp4(datagram{
		from: netip.AddrPortFrom(g.fourFrom, dhcpv4.ServerPort),
		to:   netip.AddrPortFrom(g.answerTo(req, kind), dhcpv4.ClientPort),
		data: reply4(req, kind, g).ToBytes(),
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

// options4 makes what a guest is told with its address.
func (n *Network) options4(g *guest) dhcpv4.Options {
	server := net.IP(g.fourFrom.AsSlice())
	list := []dhcpv4.Option{
		dhcpv4.OptServerIdentifier(server),
		dhcpv4.OptSubnetMask(net.CIDRMask(g.four.Bits(), 32)),
		dhcpv4.OptDNS(server),
		dhcpv4.OptDomainName(n.zone),
		dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{byte(n.mtu >> 8), byte(n.mtu)}),
		dhcpv4.OptIPAddressLeaseTime(leaseTime),
		dhcpv4.OptRenewTimeValue(renewTime),
		dhcpv4.OptRebindingTimeValue(rebindTime),
	}
	if g.router.IsValid() {
		list = append(list, dhcpv4.OptRouter(g.router.AsSlice()))
	}
	if g.host != "" {
		list = append(list, dhcpv4.OptHostName(g.host))
	}
	return dhcpv4.OptionsFromList(list...)
}

func reply4(req *dhcpv4.DHCPv4, kind dhcpv4.MessageType, g *guest) *dhcpv4.DHCPv4 {
	reply := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: req.HWType, TransactionID: req.TransactionID, Flags: req.Flags, ClientHWAddr: req.ClientHWAddr,
		Options: dhcpv4.Options{},
	}
	switch {
	case kind == dhcpv4.MessageTypeNak:
		reply.SetBroadcast()
		server := dhcpv4.OptionServerIdentifier.Code()
		reply.Options[server] = g.options[server]
	default:
		reply.Options = maps.Clone(g.options)
		if kind == dhcpv4.MessageTypeAck {
			reply.ClientIPAddr = req.ClientIPAddr
		}
		if req.MessageType() != dhcpv4.MessageTypeInform {
			reply.YourIPAddr = g.four.Addr().AsSlice()
			break
		}
		for _, o := range []dhcpv4.OptionCode{dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue} {
			reply.Options.Del(o)
		}
	}
	reply.UpdateOption(dhcpv4.OptMessageType(kind))
	if id := req.Options.Get(dhcpv4.OptionClientIdentifier); id != nil { // RFC 6842
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientIdentifier, id))
	}
	return reply
}

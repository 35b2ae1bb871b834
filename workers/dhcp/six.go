package dhcp

import (
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// allServers is where clients ask (RFC 8415, 7.1). We never tell one to ask elsewhere.
var allServers = netip.MustParseAddr("ff02::1:2")

// Answer6 answers a DHCPv6 request: an IPv6 packet in a frame from the given card. The answer is an IPv6 packet for that card. link is our own.
// A client's name for itself (DUID) counts nothing: a guest has one for all its cards, and a copy of a guest's disk has the same one.
func (n *Network) Answer6(link, from MAC, packet []byte) ([]byte, error) {
	g, err := n.guest(from)
	if err != nil {
		return nil, err
	}
	d, ok := parse6(packet, protocolUDP)
	if !ok || d.to.Port() != dhcpv6.DefaultServerPort {
		return nil, ErrMalformed
	}
	if !n.IPv6() || d.to.Addr() != allServers || !d.from.Addr().IsLinkLocalUnicast() {
		return nil, ErrNotForUs
	}
	req, err := dhcpv6.MessageFromBytes(d.data)
	if err != nil {
		return nil, ErrMalformed
	}
	reply, err := n.reply6(req, g)
	if err != nil {
		return nil, err
	}
	return n.fits(udp6(datagram{
		from: netip.AddrPortFrom(linkLocal(link), dhcpv6.DefaultServerPort),
		to:   netip.AddrPortFrom(d.from.Addr(), dhcpv6.DefaultClientPort),
		data: reply.ToBytes(),
	}))
}

func (n *Network) reply6(req *dhcpv6.Message, g *guest) (*dhcpv6.Message, error) {
	if !n.addressed(req) {
		return nil, ErrNotForUs
	}
	reply := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: req.TransactionID}
	if id := req.GetOneOption(dhcpv6.OptionClientID); id != nil {
		reply.AddOption(id)
	}
	reply.AddOption(dhcpv6.OptServerID(n.duid))
	switch req.MessageType {
	case dhcpv6.MessageTypeSolicit:
		if req.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
			dhcpv6.WithRapidCommit(reply)
		} else {
			reply.MessageType = dhcpv6.MessageTypeAdvertise
		}
		reply.AddOption(dhcpv6.OptPreference(255)) // or it waits a second for other servers
		n.giveAddresses(req, reply, g)
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		n.giveAddresses(req, reply, g)
	case dhcpv6.MessageTypeConfirm:
		return reply, n.confirm(req, reply)
	case dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline: // nothing comes of it: the address is the NIC's
		reply.AddOption(&dhcpv6.OptStatusCode{StatusCode: iana.StatusSuccess})
		return reply, nil
	}
	server := g.sixFrom
	if !server.IsValid() {
		server = n.six[0].server
	}
	dhcpv6.WithDNS(server.AsSlice())(reply)
	dhcpv6.WithDomainSearchList(n.zone)(reply)
	return reply, nil
}

// addressed is RFC 8415, section 16: which messages a server takes.
func (n *Network) addressed(req *dhcpv6.Message) bool {
	client, server := req.Options.ClientID() != nil, req.Options.ServerID()
	switch req.MessageType {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRebind:
		return client && server == nil
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		return client && server != nil && n.duid.Equal(server)
	case dhcpv6.MessageTypeInformationRequest:
		return len(req.Options.IANA()) == 0 && (server == nil || n.duid.Equal(server))
	}
	return false
}

// giveAddresses answers each identity association. The first one gets the NIC's address, however it names itself; the others get none.
func (n *Network) giveAddresses(req, reply *dhcpv6.Message, g *guest) {
	for i, asked := range req.Options.IANA() {
		ia := &dhcpv6.OptIANA{IaId: asked.IaId, T1: renewTime, T2: rebindTime}
		own := i == 0 && g.six.IsValid()
		for _, a := range asked.Options.Addresses() {
			if ip, ok := netip.AddrFromSlice(a.IPv6Addr); ok && (!own || ip != g.six.Addr()) && req.MessageType != dhcpv6.MessageTypeSolicit {
				ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.IPv6Addr}) // lifetime 0: it is not to be used any more
			}
		}
		if own {
			ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: g.six.Addr().AsSlice(), PreferredLifetime: leaseTime, ValidLifetime: leaseTime})
		} else {
			ia.T1, ia.T2 = 0, 0
			ia.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail})
		}
		reply.AddOption(ia)
	}
	for _, asked := range req.Options.IAPD() {
		pd := &dhcpv6.OptIAPD{IaId: asked.IaId}
		pd.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoPrefixAvail})
		reply.AddOption(pd)
	}
}

// confirm tells whether all addresses that a client has are of this network (RFC 8415, 18.3.3).
func (n *Network) confirm(req, reply *dhcpv6.Message) error {
	status, any := iana.StatusSuccess, false
	for _, ia := range req.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			any = true
			if ip, ok := netip.AddrFromSlice(a.IPv6Addr); !ok || !n.onLink(ip) {
				status = iana.StatusNotOnLink
			}
		}
	}
	if !any {
		return ErrNotForUs
	}
	reply.AddOption(&dhcpv6.OptStatusCode{StatusCode: status})
	return nil
}

func (n *Network) onLink(ip netip.Addr) bool {
	for _, s := range n.six {
		if s.prefix.Contains(ip) {
			return true
		}
	}
	return false
}

// Package fixed is the part of DHCPv4 (RFC 2131) that is the same for every server whose clients have one fixed address each: which requests
// are read at all, and what kind of answer is due. It is pure, and knows neither leases nor clients.
package fixed

import (
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// MaxDatagram bounds what is read of one packet, in bytes: DHCP needs 576, PXE ROMs send up to 1500.
const MaxDatagram = 2048

// Parse reads a client's request from the payload of a UDP datagram. It tells false of one that is malformed, not from an Ethernet card, or relayed.
func Parse(packet []byte) (*dhcpv4.DHCPv4, bool) {
	req, err := dhcpv4.FromBytes(packet)
	if err != nil || req.OpCode != dhcpv4.OpcodeBootRequest || req.HWType != iana.HWTypeEthernet || len(req.ClientHWAddr) != 6 {
		return nil, false
	}
	return req, req.GatewayIPAddr.Equal(net.IPv4zero)
}

// Kind is the state machine of RFC 2131, section 4.3: what kind of answer a client of this server gets that has the address addr. False: none.
func Kind(req *dhcpv4.DHCPv4, server, addr netip.Addr) (dhcpv4.MessageType, bool) {
	if id := req.ServerIdentifier(); id != nil && !id.Equal(server.AsSlice()) {
		return 0, false // it chose another server
	}
	switch req.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return dhcpv4.MessageTypeOffer, true
	case dhcpv4.MessageTypeInform:
		return dhcpv4.MessageTypeAck, req.ClientIPAddr.Equal(addr.AsSlice())
	case dhcpv4.MessageTypeRequest:
		wanted := req.RequestedIPAddress()
		if wanted == nil || wanted.IsUnspecified() {
			wanted = req.ClientIPAddr
		}
		if wanted.Equal(addr.AsSlice()) {
			return dhcpv4.MessageTypeAck, true
		}
		return dhcpv4.MessageTypeNak, true
	}
	return 0, false // release and decline change nothing: the address is the client's
}

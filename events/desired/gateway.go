package desired

import "cloudengine/events"

// KindGateway is the kind of what one machine of a pair of gateways is told of a network that the pair connects. id: the network's; body Gateway.
const KindGateway events.Kind = "gateway"

// Gateway tells a machine to be one of the two that connect a network with an external one. Which of the two does so now they settle between
// themselves (VRRP, RFC 5798): no document says it.
type Gateway struct {
	Gateway events.Ref      `json:"gateway"` // the pair
	Network events.Ref      `json:"network"`
	VNI     int             `json:"vni"`     // VXLAN network identifier of the network
	MTU     int             `json:"mtu"`     // of the network, in bytes
	Local   string          `json:"local"`   // IPv4 address of this machine on the underlay
	Member  int             `json:"member"`  // which of the pair this machine is: 0 or 1
	Slot    int             `json:"slot"`    // 0 to 8191: no two networks that are connected over one external segment have the same
	Card    string          `json:"card"`    // MAC of the card on the external segment
	Router  string          `json:"router"`  // IPv4 address of the next router outside
	Address string          `json:"address"` // public IPv4 address, with its length, that the network's traffic goes out under
	Subnets []GatewaySubnet `json:"subnets"` // IPv4 subnets of the network
	Public  []PublicAddress `json:"public,omitempty"`
	Want    string          `json:"want"` // There or Absent
}

// GatewaySubnet is a subnet of a connected network.
type GatewaySubnet struct {
	CIDR    string `json:"cidr"`
	Gateway string `json:"gateway"` // address in it, without its length, that guests have as their router
}

// PublicAddress is an address outside that is one NIC's alone, in both directions.
type PublicAddress struct {
	Address string `json:"address"` // IPv4, without a length; in the subnet of the gateway's Address
	To      string `json:"to"`      // address of the NIC
}

package desired

import "cloudengine/events"

// KindNetwork is the kind of what a host is told of a network on which a VM that may run there has a NIC. id: the network's; body Network.
const KindNetwork events.Kind = "network"

// Network tells a host all of a network. A host gets it with the first grant of a VM that has a NIC there, and is told that it shall be Absent
// after the last.
type Network struct {
	Network events.NetworkID `json:"network"`
	Name    string           `json:"name"`
	Account string           `json:"account"`           // name of the account that it belongs to
	VNI     int              `json:"vni"`               // VXLAN network identifier
	MTU     int              `json:"mtu"`               // bytes, of what guests send
	Local   string           `json:"local,omitempty"`   // IPv4 address of this host on the underlay; empty: it is not on it any more
	Subnets []Subnet         `json:"subnets,omitempty"` // by id
	Ports   []Port           `json:"ports,omitempty"`   // all NICs of the network, by id
	Want    string           `json:"want"`              // There or Absent

	Gateways []NetworkGateway `json:"gateways,omitempty"` // machines that connect it with an external network
}

// NetworkGateway is one of the two machines that connect a network with an external one, as the others on the network see it. Which of the two
// has the gateway's address at the moment its gratuitous ARP says.
type NetworkGateway struct {
	MAC  string `json:"mac"`            // of its device in the network
	At   string `json:"at,omitempty"`   // IPv4 address of the machine on the underlay; empty: it is not on it
	Here bool   `json:"here,omitempty"` // that is this machine
}

// Subnet is a run of addresses of a network.
type Subnet struct {
	Subnet events.SubnetID `json:"subnet"`
	CIDR   string          `json:"cidr"`
	Server string          `json:"server"`           // where this host answers DHCP and DNS to its own guests
	Router string          `json:"router,omitempty"` // IPv4 address of its gateway, which guests are told; empty: none
}

// Port is a NIC as the others on its network see it.
type Port struct {
	NIC       events.NICID `json:"nic"`
	Host      string       `json:"host"` // name of its VM, under which it is found
	MAC       string       `json:"mac"`
	Addresses []string     `json:"addresses"`         // without the length of the subnet
	At        string       `json:"at,omitempty"`      // IPv4 address on the underlay of the host that its VM may run on; empty: it may run nowhere
	Here      bool         `json:"here,omitempty"`    // that is this host
	InBPS     int64        `json:"in_bps,omitempty"`  // bytes per second that TCP may bring to it; only where it may run; 0: no limit
	OutBPS    int64        `json:"out_bps,omitempty"` // and from it
}

// NIC is a network interface of a domain.
type NIC struct {
	NIC       events.NICID     `json:"nic"`
	Slot      string           `json:"slot"` // events.SlotNIC0 …
	Network   events.NetworkID `json:"network"`
	VNI       int              `json:"vni"` // of that
	MTU       int              `json:"mtu"` // of that, in bytes
	MAC       string           `json:"mac"`
	Addresses []string         `json:"addresses"` // all that the guest may send from
}

package events

// Ids of networks.
type (
	NetworkID string
	SubnetID  string
	NICID     string
)

// The kinds of aggregates of networks.
const (
	KindNetwork Kind = "network"
	KindSubnet  Kind = "subnet"
	KindNIC     Kind = "nic"
)

// NetworkCreated makes an internal network of an account: an Ethernet that spans all hosts of a fabric and that nobody else is on.
type NetworkCreated struct {
	Name    string    `json:"name"`
	Account AccountID `json:"account"`
	Fabric  FabricID  `json:"fabric"` // the underlay, of transport vxlan
	VNI     int       `json:"vni"`    // VXLAN network identifier, 4096 to 16777215: no two networks have the same
	MTU     int       `json:"mtu"`    // bytes, of what guests send: 50 less than the underlay has, or fewer
}

// EventType gives the wire name.
func (NetworkCreated) EventType() string { return "network.created.v1" }

// NetworkDeleted ends a network without subnets and NICs.
type NetworkDeleted struct{}

// EventType gives the wire name.
func (NetworkDeleted) EventType() string { return "network.deleted.v1" }

// SubnetCreated gives a network addresses. No two subnets of one network overlap.
type SubnetCreated struct {
	Name    string    `json:"name"`
	Account AccountID `json:"account"` // that its network belongs to
	Network NetworkID `json:"network"`
	CIDR    string    `json:"cidr"`   // IPv4 or IPv6, without bits behind the mask
	First   string    `json:"first"`  // first address that is given without being asked for
	Last    string    `json:"last"`   // last one
	Server  string    `json:"server"` // where each host answers DHCP and DNS to its own guests; never a guest's
}

// EventType gives the wire name.
func (SubnetCreated) EventType() string { return "subnet.created.v1" }

// SubnetDeleted ends a subnet of which no address is given or reserved.
type SubnetDeleted struct{}

// EventType gives the wire name.
func (SubnetDeleted) EventType() string { return "subnet.deleted.v1" }

// SubnetAddressReserved keeps an address back: it is given to a NIC only when it is asked for by name.
type SubnetAddressReserved struct {
	Address string `json:"address"` // that is kept back
}

// EventType gives the wire name.
func (SubnetAddressReserved) EventType() string { return "subnet.address_reserved.v1" }

// SubnetAddressReleased ends a reservation.
type SubnetAddressReleased struct {
	Address string `json:"address"` // that is free again
}

// EventType gives the wire name.
func (SubnetAddressReleased) EventType() string { return "subnet.address_released.v1" }

// Slots of a VM's NICs, as its host counts its vifs.
const (
	SlotNIC0 = "eth0"
	SlotNIC1 = "eth1"
	SlotNIC2 = "eth2"
	SlotNIC3 = "eth3"
)

// NICCreated gives a VM, which does not run, a network interface. It keeps its MAC and its addresses until it is deleted.
type NICCreated struct {
	Name      string       `json:"name"`    // the VM's and the slot's, as web1-eth0
	Account   AccountID    `json:"account"` // of the VM and of the network
	VM        VMID         `json:"vm"`
	Slot      string       `json:"slot"` // where the guest sees it
	Network   NetworkID    `json:"network"`
	MAC       string       `json:"mac"`       // lower case with colons; no two NICs have the same
	Addresses []NICAddress `json:"addresses"` // at most one of each subnet; no two NICs of a network have the same
}

// NICAddress is an address of a NIC.
type NICAddress struct {
	Subnet  SubnetID `json:"subnet"`
	Address string   `json:"address"` // without the length of the subnet
}

// EventType gives the wire name.
func (NICCreated) EventType() string { return "nic.created.v1" }

// NICLimited gives a NIC limits, in the place of those that it had. They hold at once if its VM runs, and wherever it runs later.
type NICLimited struct {
	InBPS  int64 `json:"in_bps"`  // bytes per second that TCP may bring to the guest; 0 = no limit
	OutBPS int64 `json:"out_bps"` // bytes per second that TCP may take from it; 0 = no limit
}

// EventType gives the wire name.
func (NICLimited) EventType() string { return "nic.limited.v1" }

// NICDeleted takes a NIC from a VM that does not run: nobody answers at its addresses any more, so they are free.
type NICDeleted struct{}

// EventType gives the wire name.
func (NICDeleted) EventType() string { return "nic.deleted.v1" }

package events

// Transports of a fabric.
const (
	TransportSRP   = "srp"   // SCSI RDMA Protocol over InfiniBand, RoCE or soft-RoCE
	TransportISCSI = "iscsi" // RFC 7143
	TransportVXLAN = "vxlan" // RFC 7348: an underlay of networks of accounts; nothing is stored over it
)

// FabricCreated makes a network of machines known, for storage or as an underlay. All that is attached to it speaks one transport.
type FabricCreated struct {
	Name      string `json:"name"`
	Transport string `json:"transport"` // what is spoken on it
	Subnet    string `json:"subnet"`    // IPv4, in CIDR form; members get their addresses from it
	MTU       int    `json:"mtu"`       // bytes
}

// EventType gives the wire name.
func (FabricCreated) EventType() string { return "fabric.created.v1" }

// FabricDeleted ends a fabric that nobody has joined.
type FabricDeleted struct{}

// EventType gives the wire name.
func (FabricDeleted) EventType() string { return "fabric.deleted.v1" }

// FabricJoined attaches one network card of a machine to a fabric.
type FabricJoined struct {
	Machine MachineID `json:"machine"`
	MAC     string    `json:"mac"`     // of the card, lower case with colons
	Address string    `json:"address"` // IPv4, without the length of the subnet; no two members have the same
}

// EventType gives the wire name.
func (FabricJoined) EventType() string { return "fabric.joined.v1" }

// FabricLeft takes a machine off a fabric.
type FabricLeft struct {
	Machine MachineID `json:"machine"`
}

// EventType gives the wire name.
func (FabricLeft) EventType() string { return "fabric.left.v1" }

package events

// NetworksReport is what a host sees of the networks of accounts when it is asked live. What it wants follows from the documents that its agent
// has; both are told, so that a document that was not followed and one that is old are two findings.
type NetworksReport struct {
	Networks   []NetworkReport `json:"networks"`    // by VNI
	Filter     string          `json:"filter"`      // whom the UDP port of tunnels is open to; empty: there is no filter
	FilterWant string          `json:"filter_want"` // whom it shall be open to
}

// FilterOpenTo begins NetworksReport.Filter where there is a filter: the addresses of hosts follow, sorted, with spaces between them.
const FilterOpenTo = "open to: "

// NetworkReport is one network on a host. Lists are sorted.
type NetworkReport struct {
	VNI        int         `json:"vni"`
	MTU        int         `json:"mtu"`             // of bridge and tunnel, in bytes; 0: they differ, or one is not there
	Up         bool        `json:"up"`              // bridge and tunnel are, and are set as they should be
	Local      string      `json:"local,omitempty"` // address of the tunnel's end; empty: there is no tunnel
	Addresses  []string    `json:"addresses,omitempty"`
	Routes     []string    `json:"routes,omitempty"`     // that do not follow from the addresses
	Remotes    []string    `json:"remotes,omitempty"`    // of the tunnel: MAC@address; of all hosts that get what is for everybody, the MAC 00:00:00:00:00:00
	Switch     []string    `json:"switch,omitempty"`     // of the bridge: MAC@port
	Neighbours []string    `json:"neighbours,omitempty"` // of the bridge: address@MAC
	Rules      string      `json:"rules,omitempty"`      // digest of the tunnel's rules
	RulesWant  string      `json:"rules_want,omitempty"` // what it shall be
	Left       []string    `json:"left,omitempty"`       // rules and queues of vifs that are gone
	Vifs       []VifReport `json:"vifs,omitempty"`       // by device
}

// VifReport is a vif in a network's namespace.
type VifReport struct {
	Device    string   `json:"device"`
	MAC       string   `json:"mac,omitempty"` // of its NIC, as xenstore has it; empty: xenstore does not know it
	Addresses []string `json:"addresses,omitempty"`
	MTU       int      `json:"mtu"`
	Up        bool     `json:"up"`
	Joined    bool     `json:"joined"` // a port of the bridge, that neither learns nor is sent what is for others
	Rules     string   `json:"rules,omitempty"`
	RulesWant string   `json:"rules_want,omitempty"`
	InBPS     int64    `json:"in_bps,omitempty"`  // limits of its NIC, as the host was told, in bytes per second
	OutBPS    int64    `json:"out_bps,omitempty"` // and from the guest
	Shape     string   `json:"shape"`             // what tc has of it
	ShapeWant string   `json:"shape_want"`        // what it shall have
}

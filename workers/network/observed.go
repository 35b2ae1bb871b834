package network

import "strings"

// Observed is what is there, in one look.
type Observed struct {
	Nets map[int]State // by VNI: those that have a namespace
	Vifs []Vif         // of domains, as their backends' nodes in xenstore say, which a guest cannot write
	Home []string      // vifs that are in no network's namespace yet
}

// State is what is there of a network. Lists are sorted.
type State struct {
	VNI        int
	MTU        int    // of bridge and tunnel, in bytes; 0: they differ, or one is not there
	MAC        string // of the bridge
	Local      string // address of the tunnel's end here; "": there is no tunnel
	Up         bool   // bridge and tunnel are, and their ports are set as they should be
	Addresses  []string
	Remotes    []string // of the tunnel: MAC@address on the underlay
	Switch     []string // of the bridge: MAC@port
	Neighbours []string // of the bridge: IP@MAC
	Guard      string   // digest of the tunnel's rules
	Ports      []PortState
	Stale      []string // tables of rules of vifs that are not there
}

// PortState is a vif in the namespace of a network.
type PortState struct {
	Device string
	Up     bool
	MTU    int    // bytes
	Joined bool   // a port of the bridge, which neither learns nor is sent what is for others
	Guard  string // digest of its rules
}

// Vif is a network interface of a domain, as it was made.
type Vif struct {
	Device    string
	VNI       int
	MAC       string
	Addresses []string
}

func (v Vif) guard() string { return digest(vifRules(v.MAC, v.Addresses)) }

func (s State) port(device string) (PortState, bool) {
	for _, p := range s.Ports {
		if p.Device == device {
			return p, true
		}
	}
	return PortState{}, false
}

func words(list []string) string { return strings.Join(list, " ") }

package network

import "strings"

// Observed is what is there, in one look.
type Observed struct {
	Nets map[int]State // by VNI: those that have a namespace
	Vifs []Vif         // of domains, as their backends' nodes in xenstore say, which a guest cannot write
	Home []string      // vifs that are in no network's namespace yet
	// Filter says whom the UDP port of tunnels is open to, as filterOf does.
	Filter string
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
	Routes     []string // that somebody has added; they are told, and left alone
	Guard      string   // digest of the tunnel's rules
	Ports      []PortState
	Stale      []string // tables of rules, and devices behind which frames wait, of vifs that are not there
	NoLeaf     bool     // this kernel has no FQ-CoDel
}

// PortState is a vif in the namespace of a network.
type PortState struct {
	Device string
	Up     bool
	MTU    int    // bytes
	Joined bool   // a port of the bridge, which neither learns nor is sent what is for others
	Guard  string // digest of its rules
	Shape  string // what tc has of it, as Limits.shape says it
}

// Vif is a network interface of a domain, as it was made.
type Vif struct {
	Device    string
	VNI       int
	MAC       string
	Addresses []string
	Limits    *Limits // nil: they are not known
}

// rules are those that shall be before it.
func (v Vif) rules() []rule {
	if v.Limits != nil && v.Limits.Out > 0 {
		return shapedRules(v.MAC, v.Addresses)
	}
	return vifRules(v.MAC, v.Addresses)
}

// guarded says whether rules of this digest may stay. Where limits are not known, those that send to a queue that is there may, too.
func (v Vif) guarded(have string, queue bool) bool {
	return have == digest(v.rules()) || v.Limits == nil && queue && have == digest(shapedRules(v.MAC, v.Addresses))
}

// limited gives a vif the limits that its network's document has for its NIC; a NIC that is not there has none.
func (w Wish) limited(v Vif) Vif {
	v.Limits = &Limits{}
	for _, p := range w.Ports {
		if p.MAC == v.MAC {
			*v.Limits = limitsOf(p, w.MTU)
		}
	}
	return v
}

// plugged says whether a vif is as it shall be.
func (v Vif) plugged(p PortState, mtu int, leaf bool) bool {
	return p.Up && p.Joined && p.MTU == mtu && p.Guard == digest(v.rules()) && p.Shape == v.Limits.shape(leaf)
}

func (s State) port(device string) (PortState, bool) {
	for _, p := range s.Ports {
		if p.Device == device {
			return p, true
		}
	}
	return PortState{}, false
}

func words(list []string) string { return strings.Join(list, " ") }

package verify

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"cloudengine/events"
	"cloudengine/projections"
)

// LiveNetworks is what one host answered when it was asked what it sees of networks of accounts.
type LiveNetworks struct {
	Missing string // why there is no answer; then all else is empty
	Boot    string
	Seen    events.NetworksReport
}

// What to do about networks.
const (
	nextNet   = "its agent compares all of it every ten seconds and mends it: look at the agent's log on the host (/run/cloudengine/noded.log) for why it does not"
	nextGuest = "stop the VM until the host's agent has put its rules back (\"cloudengine vm stop\"); find out who changed them: look at the agent's log on the host"
	nextOpen  = "find out who changed it: until it is as wanted, others on the underlay can send into the networks of accounts; look at the agent's log on the host"
	nextRoute = "nobody of ours adds routes there: find out who did; \"ip -n NAME route del\" on the host removes one"
)

// everybody is the MAC address under which a tunnel has the hosts that get what is for everybody.
const everybody = "00:00:00:00:00:00"

// NetworkMachines lists the hosts that are on a fabric which carries networks: they are asked live.
func (c *Cloud) NetworkMachines() []events.MachineID {
	var out []events.MachineID
	for _, m := range rows[projections.Member](c, projections.KindMember) {
		f := row[projections.Fabric](c, events.KindFabric, m.Fabric)
		if f != nil && f.Transport == events.TransportVXLAN && row[projections.Host](c, events.KindHost, m.Machine) != nil {
			out = append(out, events.MachineID(m.Machine))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// LiveNetworks compares what hosts answered with what the log says. Each host that was asked is in live.
func (c *Cloud) LiveNetworks(live map[events.MachineID]LiveNetworks) []Finding {
	v := &netVisit{c: c, operations: c.operations(), byVNI: map[int]*projections.Network{}}
	for _, n := range rows[projections.Network](c, events.KindNetwork) {
		v.byVNI[n.VNI] = n
	}
	for _, id := range keys(live) {
		m := row[projections.Machine](c, events.KindMachine, string(id))
		if m == nil || m.State == projections.MachineOff || m.Boot == nil {
			continue // it was removed meanwhile, or is off: the section of hosts tells of one that answers nevertheless
		}
		switch l := live[id]; {
		case l.Missing != "":
			v.find(Unknown, "unanswered", "machine", m.ID, m.Name, "it does not answer ("+l.Missing+"): what its guests reach is not known", "", "?",
				"look at its console and network; an agent of an older image does not know the question")
		case l.Boot != *m.Boot:
			v.find(Wrong, "wrong_boot", "machine", m.ID, m.Name, "its agent answers from another boot than the one that is enrolled", *m.Boot, l.Boot, nextBoot)
		default:
			v.host(m, l.Seen)
		}
	}
	return v.out.All
}

// netVisit is the comparison of all that answered.
type netVisit struct {
	c          *Cloud
	operations map[string]*projections.Operation
	byVNI      map[int]*projections.Network
	out        List
}

func (v *netVisit) find(s Severity, check, kind, id, name, what, want, have, next string) {
	v.out.Add(Finding{Section: Networks, Severity: s, Check: check, Kind: kind, ID: id, Name: name, What: what, Want: want, Have: have, Next: next,
		Moving: underWay(v.operations[id])})
}

// onHost is what the log says of one network on one host.
type onHost struct {
	network    *projections.Network
	host       *projections.Machine
	local      string
	addresses  []string
	neighbours []string
	remotes    []string
	far        []string                    // entries of the bridge for who is behind the tunnel
	peers      map[string]bool             // addresses of the other hosts
	mine       map[string]*projections.NIC // by MAC: those whose VM may run here
	moving     string                      // an operation of one of their VMs that is under way
}

// wants says which networks a host has, and how.
func (v *netVisit) wants(m *projections.Machine) map[int]*onHost {
	out := map[int]*onHost{}
	for _, nic := range rows[projections.NIC](v.c, events.KindNIC) {
		n := row[projections.Network](v.c, events.KindNetwork, nic.Network)
		if n == nil || v.runsOn(nic) != m.ID {
			continue
		}
		w := out[n.VNI]
		if w == nil {
			w = v.onHost(m, n)
			out[n.VNI] = w
		}
		w.mine[nic.MAC] = nic
		w.moving = cmp.Or(w.moving, underWay(v.operations[nic.VM]))
	}
	return out
}

// runsOn gives the host that the VM of a NIC has a grant on.
func (v *netVisit) runsOn(nic *projections.NIC) string {
	vm := row[projections.VM](v.c, events.KindVM, nic.VM)
	if vm == nil || vm.Epoch == nil {
		return ""
	}
	return text(vm.Host)
}

func (v *netVisit) underlay(n *projections.Network, machine string) string {
	for _, m := range rows[projections.Member](v.c, projections.KindMember) {
		if m.Fabric == n.Fabric && m.Machine == machine {
			return m.Address
		}
	}
	return ""
}

func (v *netVisit) onHost(m *projections.Machine, n *projections.Network) *onHost {
	w := &onHost{network: n, host: m, local: v.underlay(n, m.ID), peers: map[string]bool{}, mine: map[string]*projections.NIC{}}
	for _, s := range rows[projections.Subnet](v.c, events.KindSubnet) {
		if p, err := netip.ParsePrefix(s.CIDR); s.Network == n.ID && err == nil {
			w.addresses = append(w.addresses, fmt.Sprintf("%s/%d", s.Server, p.Bits()))
		}
	}
	for _, nic := range rows[projections.NIC](v.c, events.KindNIC) {
		host := v.runsOn(nic)
		if nic.Network != n.ID || host == "" || w.local == "" {
			continue
		}
		if host == m.ID {
			for _, a := range addressesOf(nic) {
				w.neighbours = append(w.neighbours, a+"@"+nic.MAC)
			}
			continue
		}
		if at := v.underlay(n, host); at != "" {
			w.peers[at] = true
			w.remotes, w.far = append(w.remotes, nic.MAC+"@"+at), append(w.far, nic.MAC)
		}
	}
	for at := range w.peers {
		w.remotes = append(w.remotes, everybody+"@"+at)
	}
	for _, list := range [][]string{w.addresses, w.neighbours, w.remotes, w.far} {
		slices.Sort(list)
	}
	return w
}

// host compares all that one host told.
func (v *netVisit) host(m *projections.Machine, seen events.NetworksReport) {
	wants := v.wants(m)
	there := map[int]bool{}
	for _, r := range seen.Networks {
		there[r.VNI] = true
		switch n, w := v.byVNI[r.VNI], wants[r.VNI]; {
		case n == nil:
			v.find(Wrong, "network_unknown", "machine", m.ID, m.Name, "it has a network that the log does not know", "none", fmt.Sprintf("VNI %d", r.VNI), nextNet)
		case w == nil:
			v.find(Wrong, "network_left", "network", n.ID, n.Name, "host "+m.Name+" has it, and no VM with a NIC on it may run there", "not there", "there", nextNet)
		default:
			v.network(w, r)
		}
	}
	peers := map[string]bool{}
	for _, vni := range slices.Sorted(maps.Keys(wants)) {
		w := wants[vni]
		for at := range w.peers {
			peers[at] = true
		}
		if !there[vni] {
			v.of(w, Wrong, "network_missing", "host "+m.Name+" has a VM with a NIC on it, and not the network", "there", "not there", nextNet)
		}
	}
	v.filter(m, seen, peers)
}

// filter: who may send to the host's port of tunnels.
func (v *netVisit) filter(m *projections.Machine, seen events.NetworksReport, peers map[string]bool) {
	tunnel := slices.ContainsFunc(seen.Networks, func(r events.NetworkReport) bool { return r.Local != "" })
	if !tunnel {
		return
	}
	list, closed := strings.CutPrefix(seen.Filter, events.FilterOpenTo)
	want := strings.Join(keys(peers), " ")
	switch have := strings.TrimSpace(list); {
	case !closed:
		v.find(Critical, "port_open", "machine", m.ID, m.Name, "I9: everybody can send to its port of tunnels", "hosts "+want, cmp.Or(seen.Filter, "no filter"), nextOpen)
	case have == want:
	case slices.ContainsFunc(strings.Fields(have), func(at string) bool { return !peers[at] }):
		v.find(Critical, "port_open", "machine", m.ID, m.Name, "I9: others can send to its port of tunnels", "hosts "+want, "hosts "+have, nextOpen)
	default:
		v.find(Wrong, "port_closed", "machine", m.ID, m.Name, "hosts of its networks cannot send to its port of tunnels", "hosts "+want, "hosts "+have, nextNet)
	}
}

// of adds a finding about a network on a host.
func (v *netVisit) of(w *onHost, s Severity, check, what, want, have, next string) {
	v.out.Add(Finding{Section: Networks, Severity: s, Check: check, Kind: "network", ID: w.network.ID, Name: w.network.Name, What: what, Want: want, Have: have, Next: next,
		Moving: w.moving})
}

// network compares one network on a host.
func (v *netVisit) network(w *onHost, r events.NetworkReport) {
	on := " on host " + w.host.Name
	same := func(s Severity, check, what, want, have string) {
		if want != have {
			v.of(w, s, check, what+on, cmp.Or(want, "none"), cmp.Or(have, "none"), nextNet)
		}
	}
	lists := func(s Severity, check, what string, want, have []string) {
		same(s, check, what, missing(want, have), missing(have, want))
	}
	same(Wrong, "tunnel", "the end of its tunnel"+" (VNI "+fmt.Sprint(r.VNI)+") is another", w.local, r.Local)
	same(Wrong, "mtu", "its MTU is another", fmt.Sprint(w.network.MTU), fmt.Sprint(r.MTU))
	same(Wrong, "bridge", "its bridge or tunnel is down, or set otherwise", "true", fmt.Sprint(r.Up))
	same(Critical, "tunnel_rules", "I9: the rules before its tunnel are others", r.RulesWant, r.Rules)
	lists(Wrong, "addresses", "its servers have other addresses", w.addresses, r.Addresses)
	lists(Wrong, "neighbours", "who has which address is other", w.neighbours, r.Neighbours)
	lists(Wrong, "peers", "its tunnel goes to others", w.remotes, r.Remotes)
	lists(Wrong, "entries", "its bridge sends elsewhere", w.entries(r.Vifs), r.Switch)
	if len(r.Routes) > 0 {
		v.of(w, Wrong, "routes", "somebody has added routes"+on, "none", strings.Join(r.Routes, " "), nextRoute)
	}
	lists(Wrong, "left", "what was made for vifs that are gone is left", nil, r.Left)
	v.vifs(w, r)
}

// entries are those of the bridge.
func (w *onHost) entries(vifs []events.VifReport) []string {
	var out []string
	for _, mac := range w.far {
		out = append(out, mac+"@vx")
	}
	for _, x := range vifs {
		if w.mine[x.MAC] != nil {
			out = append(out, x.MAC+"@"+x.Device)
		}
	}
	return out
}

// missing says which words of a list are not in another.
func missing(list, in []string) string {
	var out []string
	for _, x := range list {
		if !slices.Contains(in, x) {
			out = append(out, x)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

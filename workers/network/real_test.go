package network

import (
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"cloudengine/events/desired"
)

// Addresses of the tests.
const (
	macA, macB, macC = "00:16:3e:00:00:0a", "00:16:3e:00:00:0b", "00:16:3e:00:00:0c"
	ipA, ipB, ipC    = "10.0.0.2", "10.0.0.3", "10.0.0.4"
	ip6A, ip6B, ip6C = "fd00:1::2", "fd00:1::3", "fd00:1::4"
)

// back is a network with three NICs; at says where each is.
func back(local string, at ...string) desired.Network {
	n := desired.Network{
		Network: "n1", Name: "back", Account: "demo", VNI: testVNI, MTU: 1450, Local: local, Want: desired.There,
		Subnets: []desired.Subnet{{Subnet: "s4", CIDR: "10.0.0.0/24", Server: "10.0.0.1"}, {Subnet: "s6", CIDR: "fd00:1::/64", Server: "fd00:1::1"}},
		Ports: []desired.Port{
			{NIC: "a", Host: "a", MAC: macA, Addresses: []string{ipA, ip6A}}, {NIC: "b", Host: "b", MAC: macB, Addresses: []string{ipB, ip6B}},
			{NIC: "c", Host: "c", MAC: macC, Addresses: []string{ipC, ip6C}},
		},
	}
	for i := range at {
		n.Ports[i].At, n.Ports[i].Here = at[i], at[i] == local
	}
	return n
}

const (
	hostX, hostY = "10.77.3.1", "10.77.3.2"
	soon         = 5 * time.Second
	never        = 700 * time.Millisecond // is how long a test waits for what must not come
)

// twoHosts has guests a and b on host x, and c on host y.
func twoHosts(t *testing.T) (*wire, *hostOf, *hostOf) { return hostsOf(t) }

func hostsOf(t testing.TB) (*wire, *hostOf, *hostOf) {
	w := newWire(t)
	x, y := w.host("x", hostX), w.host("y", hostY)
	x.tell(back(hostX, hostX, hostX, hostY))
	y.tell(back(hostY, hostX, hostX, hostY))
	x.guest("a", testVNI, 1, macA, ipA, ip6A)
	x.guest("b", testVNI, 2, macB, ipB, ip6B)
	y.guest("c", testVNI, 1, macC, ipC, ip6C)
	x.settle()
	y.settle()
	return w, x, y
}

func TestGuestsOfOneNetworkReachEachOther(t *testing.T) {
	w, x, y := twoHosts(t)
	for _, way := range [][3]string{{"a", "b", ipB}, {"b", "a", ip6A}, {"a", "c", ipC}, {"c", "b", ipB}, {"a", "c", ip6C}, {"c", "a", ip6A}} {
		if !w.hears(way[0], way[1], way[2], soon) {
			t.Errorf("%s does not reach %s at %s", way[0], way[1], way[2])
		}
	}
	if plans := append(x.plans(), y.plans()...); len(plans) > 0 {
		t.Errorf("when all stands, there is a plan: %+v", plans)
	}
	for _, server := range []string{"10.0.0.1", "fd00:1::1"} {
		if !w.hearsInside("a", x, server) || !w.hearsInside("c", y, server) {
			t.Errorf("guests do not reach the server %s of their own host", server)
		}
	}
}

// hearsInside is hears for a server of a network on a host.
func (w *wire) hearsInside(from string, x *hostOf, address string) bool {
	return w.hears(from, x.name+"-"+Namespace(testVNI), address, soon)
}

func TestAGuestThatMovesIsFound(t *testing.T) {
	w, x, y := twoHosts(t)
	if !w.hears("a", "c", ipC, soon) {
		t.Fatal("a does not reach c")
	}
	y.vifs = nil
	if err := y.k.in(testVNI, func(in inside) error {
		l, err := in.links.LinkByName(Device(1, 0))
		if err == nil {
			err = in.links.LinkDel(l)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	gone := back(hostY, hostX, hostX, hostX)
	gone.Want = desired.Absent
	if steps := y.tell(gone); len(steps) != 3 || steps[1].Kind != stepRemove {
		t.Fatalf("the host that has no guest any more did %v", steps)
	}
	x.guest("c", testVNI, 3, macC, ipC, ip6C)
	began := time.Now()
	x.tell(back(hostX, hostX, hostX, hostX))
	if !w.hears("a", "c", ipC, soon) || !w.hears("b", "c", ip6C, soon) {
		t.Fatal("c is not found where it is")
	}
	t.Logf("found %s after the document came", time.Since(began).Round(time.Millisecond))
}

// TestPlantedDifferencesAreMended: whatever is changed by hand is seen and set right.
func TestPlantedDifferencesAreMended(t *testing.T) {
	w, x, _ := twoHosts(t)
	for what, plant := range map[string]func(in inside) error{
		"a rule is gone": func(in inside) error {
			tables, err := in.rules.ListTables()
			if err != nil {
				return err
			}
			in.rules.DelTable(tables[0])
			return in.rules.Flush()
		},
		"the bridge is down":    func(in inside) error { return in.set(Bridge, in.links.LinkSetDown) },
		"a vif is down":         func(in inside) error { return in.set(Device(1, 0), in.links.LinkSetDown) },
		"a vif is no port":      func(in inside) error { return in.set(Device(2, 0), in.links.LinkSetNoMaster) },
		"the tunnel is gone":    func(in inside) error { return in.set(Tunnel, in.links.LinkDel) },
		"a port learns":         func(in inside) error { return in.set(Device(1, 0), learn(in)) },
		"a tunnel learns":       func(in inside) error { return in.set(Tunnel, learn(in)) },
		"an entry is elsewhere": func(inside) error { return x.k.SetRemotes(testVNI, []string{macC + "@10.77.3.9"}) },
		"a switch entry":        func(inside) error { return x.k.SetSwitch(testVNI, []string{macA + "@" + Tunnel}) },
		"a neighbour":           func(inside) error { return x.k.SetNeighbours(testVNI, []string{"10.0.0.9@" + macA}) },
		"an address":            func(inside) error { return x.k.SetAddresses(testVNI, []string{"10.0.0.9/24"}) },
	} {
		t.Run(what, func(t *testing.T) {
			if err := x.k.in(testVNI, plant); err != nil {
				t.Fatal(err)
			}
			if len(x.plans()) == 0 {
				t.Fatal("nothing is planned")
			}
			x.settle()
			if !w.hears("a", "c", ipC, soon) || !w.hears("b", "a", ip6A, soon) {
				t.Error("afterwards guests do not reach each other")
			}
		})
	}
}

func learn(in inside) func(netlink.Link) error {
	return func(l netlink.Link) error { return in.links.LinkSetLearning(l, true) }
}

func TestAVifThatNobodyKnowsIsShut(t *testing.T) {
	w, x, _ := twoHosts(t)
	x.vifs = slices.DeleteFunc(x.vifs, func(v Vif) bool { return v.MAC == macB })
	x.settle()
	if w.hears("b", "a", ipA, never) {
		t.Error("a guest that xenstore does not know reaches another")
	}
}

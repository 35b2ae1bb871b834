package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/netspace"
	"cloudengine/workers/network"
)

// TestMain is what keepalived calls, too: the tests' own program.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "gateway-notify" {
		if err := Notify(context.Background(), os.Args[2], os.Args[3]); err != nil {
			_ = os.WriteFile(filepath.Join(os.Args[2], "notify-"+os.Args[3]+".err"), []byte(err.Error()), 0o600)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const (
	testVNI    = 4097
	guestMAC   = "00:16:3e:00:00:0a"
	guestIP    = "10.0.0.2"
	gatewayIP  = "10.0.0.254"
	router     = "203.0.113.1"
	public     = "203.0.113.10"
	floating   = "203.0.113.20"
	server     = "198.51.100.7" // somewhere on the internet
	hostX      = "10.77.3.1"
	soon       = time.Minute
	underlay   = "wire"
	outside    = "internet"
	serverPort = "7007"
)

// world is an underlay with a host and two gateways on it, and an internet, all in namespaces that it makes.
type world struct {
	t    *testing.T
	root string
	dir  string
	host *member
	pair [2]*member
}

// member is a machine of it.
type member struct {
	w     *world
	name  string
	local string
	nets  *network.Worker
	gates *Worker // nil: a host
	docs  []desired.Document
}

func newWorld(t *testing.T) *world {
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: run it as root")
	}
	b := make([]byte, 3)
	_, _ = rand.Read(b)
	w := &world{t: t, root: "cet" + hex.EncodeToString(b) + "-"}
	w.dir = "/run/" + w.root + "gateways" // keepalived calls nothing in a directory that others can write to, as /tmp
	w.must(os.MkdirAll(w.dir, 0o700))
	t.Cleanup(func() { _ = os.RemoveAll(w.dir) })
	w.copyProgram()
	for _, s := range []string{underlay, outside} {
		w.space(s)
		w.in(s, func(h *netlink.Handle) error {
			hw := net.HardwareAddr{2, 0, 0, 0, 3, 1} // else it changes with the ports
			br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "sw", HardwareAddr: hw}}
			return errors.Join(h.LinkAdd(br), h.LinkSetUp(br))
		})
	}
	w.address(outside, "sw", router+"/24")
	w.address(outside, "lo", server+"/32")
	w.host = w.machine("x", hostX)
	vif := network.Vif{Device: network.Device(1, 0), VNI: testVNI, MAC: guestMAC, Addresses: []string{guestIP}}
	w.host.nets.Domains = func(context.Context) ([]network.Vif, error) { return []network.Vif{vif}, nil }
	for i := range w.pair {
		w.pair[i] = w.gateway(i)
	}
	w.tell()
	w.guest(vif)
	w.settle()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) copyProgram() {
	self, err := os.Executable()
	w.must(err)
	in, err := os.Open(self)
	w.must(err)
	defer in.Close()
	out, err := os.OpenFile(w.dir+"/notify", os.O_CREATE|os.O_WRONLY, 0o700)
	w.must(err)
	_, err = io.Copy(out, in)
	w.must(errors.Join(err, out.Close()))
}

func (w *world) path(name string) string { return filepath.Join(namespaces, w.root+name) }

func (w *world) space(name string) {
	w.t.Helper()
	w.must(netspace.Make(w.path(name)))
	w.t.Cleanup(func() {
		if err := netspace.Remove(w.path(name)); err != nil {
			w.t.Error(err)
		}
	})
	w.in(name, func(h *netlink.Handle) error { return up(h, "lo") })
}

func up(h *netlink.Handle, device string) error {
	l, err := h.LinkByName(device)
	if err != nil {
		return err
	}
	return h.LinkSetUp(l)
}

func (w *world) in(name string, do func(h *netlink.Handle) error) {
	w.t.Helper()
	w.must(at(w.path(name), func(x space) error { return do(x.links) }))
}

// cable joins a card of a machine to a switch.
func (w *world) cable(to, machine, card, mac string) {
	w.t.Helper()
	w.pairOf("p"+machine, to, card, machine, mac)
	w.in(to, func(h *netlink.Handle) error {
		sw, err := h.LinkByName("sw")
		if err != nil {
			return err
		}
		l, err := h.LinkByName("p" + machine)
		if err != nil {
			return err
		}
		return errors.Join(h.LinkSetMaster(l, sw), h.LinkSetUp(l))
	})
	w.in(machine, func(h *netlink.Handle) error { return up(h, card) })
}

func (w *world) pairOf(one, inOne, two, inTwo, mac string) {
	w.t.Helper()
	hw, _ := net.ParseMAC(mac)
	w.must(at(w.path(inOne), func(x space) error {
		return at(w.path(inTwo), func(y space) error {
			attrs := netlink.LinkAttrs{Name: one}
			return x.links.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: two, PeerHardwareAddr: hw, PeerNamespace: netlink.NsFd(y.ns)})
		})
	}))
}

func (w *world) address(name, device, cidr string) {
	w.t.Helper()
	w.in(name, func(h *netlink.Handle) error {
		l, err := h.LinkByName(device)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		return errors.Join(h.AddrReplace(l, a), h.LinkSetUp(l))
	})
}

func (w *world) machine(name, address string) *member {
	w.t.Helper()
	w.space(name)
	w.cable(underlay, name, "eth1", "02:00:00:00:01:"+address[len(address)-1:]+"0")
	w.address(name, "eth1", address+"/24")
	m := &member{w: w, name: name, local: address}
	k := network.Kernel{Home: w.path(name), Root: w.root + name + "-"}
	m.nets = &network.Worker{Edges: k, Domains: func(context.Context) ([]network.Vif, error) { return nil, nil }}
	w.t.Cleanup(func() {
		if err := k.Remove(testVNI); err != nil {
			w.t.Error(err)
		}
	})
	return m
}

func cardMAC(i int) string { return fmt.Sprintf("02:00:00:00:02:%02x", i+1) }

func (w *world) gateway(i int) *member {
	w.t.Helper()
	m := w.machine(fmt.Sprint("g", i), fmt.Sprint("10.77.3.", 2+i))
	w.cable(outside, m.name, "eth2", cardMAC(i))
	m.gates = &Worker{
		Kernel: Kernel{network.Kernel{Home: w.path(m.name), Root: w.root + m.name + "-"}}, Run: filepath.Join(w.dir, m.name),
		Notify: w.dir + "/notify gateway-notify",
	}
	w.t.Cleanup(func() {
		w.logs(m)
		wish := Wish{Gateway: desired.Gateway{VNI: testVNI, Want: desired.Absent}}
		if err := m.gates.Apply(context.Background(), wish.step(stepRemove, "the test ends")); err != nil {
			w.t.Error(err)
		}
	})
	return m
}

// logs shows what a gateway's programs said, when the test has failed.
func (w *world) logs(m *member) {
	if !w.t.Failed() {
		return
	}
	files, _ := filepath.Glob(m.gates.Dir(testVNI) + "/*")
	for _, f := range files {
		if strings.HasSuffix(f, ".log") || strings.HasSuffix(f, ".err") || strings.HasSuffix(f, "role") {
			b, _ := os.ReadFile(f)
			w.t.Logf("%s %s:\n%s", m.name, filepath.Base(f), b)
		}
	}
}

// guest starts the guest; the host's network stands.
func (w *world) guest(v network.Vif) {
	w.t.Helper()
	w.settleNets(w.host)
	w.space("guest")
	w.pairOf(v.Device, "x", "eth0", "guest", v.MAC)
	w.must(w.host.nets.Edges.Plug(v, 1450))
	w.address("guest", "eth0", guestIP+"/24")
	w.in("guest", func(h *netlink.Handle) error { return h.RouteReplace(&netlink.Route{Gw: net.ParseIP(gatewayIP).To4()}) })
}

// tell gives all machines their documents.
func (w *world) tell() {
	for _, m := range []*member{w.host, w.pair[0], w.pair[1]} {
		n := desired.Network{
			Network: "n1", VNI: testVNI, MTU: 1450, Local: m.local, Want: desired.There,
			Subnets: []desired.Subnet{{Subnet: "s4", CIDR: "10.0.0.0/24", Server: "10.0.0.1"}},
			Ports:   []desired.Port{{NIC: "a", MAC: guestMAC, Addresses: []string{guestIP}, At: hostX, Here: m == w.host}},
		}
		for i, g := range w.pair {
			n.Gateways = append(n.Gateways, desired.NetworkGateway{MAC: InnerMAC(testVNI, i), At: g.local, Here: m == g})
		}
		m.docs = append(m.docs, document(w.t, m, desired.KindNetwork, n))
	}
	for i, m := range w.pair {
		m.docs = append(m.docs, document(w.t, m, desired.KindGateway, desired.Gateway{
			Network: events.Ref{Kind: "network", ID: "n1"}, VNI: testVNI, MTU: 1450, Local: m.local, Member: i, Slot: 3, Card: cardMAC(i),
			Router: router, Address: public + "/24",
			Subnets: []desired.GatewaySubnet{{CIDR: "10.0.0.0/24", Gateway: gatewayIP}}, Want: desired.There,
		}))
	}
}

func document(t *testing.T, m *member, kind events.Kind, body any) desired.Document {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return desired.Document{Version: 1, Machine: events.MachineID(m.name), Boot: "b", Kind: kind, ID: "n1", Body: b}
}

// change changes both gateways' documents.
func (w *world) change(how func(g *desired.Gateway)) {
	w.t.Helper()
	for _, m := range w.pair {
		for i, d := range m.docs {
			if d.Kind != desired.KindGateway {
				continue
			}
			var g desired.Gateway
			w.must(json.Unmarshal(d.Body, &g))
			how(&g)
			m.docs[i] = document(w.t, m, desired.KindGateway, g)
		}
	}
}

// reaches says whether a TCP connection comes about at once.
func (w *world) reaches(from, address string) bool {
	w.t.Helper()
	err := netspace.Inside(w.path(from), func() error {
		c, err := net.DialTimeout("tcp4", net.JoinHostPort(address, serverPort), 700*time.Millisecond)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	return err == nil
}

// settle carries plans out until there are none.
func (w *world) settle() {
	w.t.Helper()
	for _, m := range []*member{w.host, w.pair[0], w.pair[1]} {
		w.settleNets(m)
		w.settleGates(m)
		w.settleNets(m)
	}
}

func (w *world) settleNets(m *member) {
	w.t.Helper()
	for range 6 {
		seen, err := m.nets.Observe(w.t.Context())
		w.must(err)
		plans := m.nets.Plan(m.docs, seen)
		if len(plans) == 0 {
			return
		}
		w.apply(plans, m.nets.Apply)
	}
}

// settleGates leaves nothing to be done, or fails.
func (w *world) settleGates(m *member) {
	w.t.Helper()
	if m.gates == nil {
		return
	}
	for range 6 {
		plans := m.plans()
		if len(plans) == 0 {
			return
		}
		w.apply(plans, m.gates.Apply)
	}
	w.t.Fatalf("the plans do not end:\n%s", workers.Print(m.plans()))
}

func (m *member) plans() []workers.Plan {
	m.w.t.Helper()
	seen, err := m.gates.Observe(m.w.t.Context())
	m.w.must(err)
	return m.gates.Plan(m.docs, seen)
}

func (w *world) apply(plans []workers.Plan, do func(context.Context, workers.Step) error) {
	w.t.Helper()
	for _, p := range plans {
		for _, s := range p.Steps {
			if err := do(w.t.Context(), s); err != nil {
				w.t.Fatalf("%s: %v", s, err)
			}
		}
	}
}

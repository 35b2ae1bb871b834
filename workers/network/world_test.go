package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/netspace"
)

// wire is an underlay with hosts on it, in namespaces that it makes, and guests, whose "vifs" are veth pairs with their own end in a namespace.
type wire struct {
	t     testing.TB
	root  string // of all names
	hosts map[string]*hostOf
}

// hostOf is one host.
type hostOf struct {
	w     *wire
	name  string
	k     Kernel
	work  *Worker
	vifs  []Vif
	docs  []desired.Document
	local string
}

const testVNI = 4097

func newWire(t testing.TB) *wire {
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: run it as root")
	}
	b := make([]byte, 3)
	_, _ = rand.Read(b)
	w := &wire{t: t, root: "cet" + hex.EncodeToString(b) + "-", hosts: map[string]*hostOf{}}
	w.space("wire")
	w.in("wire", func(h *netlink.Handle) error {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "sw"}}
		return errors.Join(h.LinkAdd(br), h.LinkSetUp(br))
	})
	return w
}

func (w *wire) path(name string) string { return filepath.Join(namespaces, w.root+name) }

// space makes a namespace that ends with the test.
func (w *wire) space(name string) {
	w.t.Helper()
	if err := netspace.Make(w.path(name)); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := netspace.Remove(w.path(name)); err != nil {
			w.t.Error(err)
		}
	})
	w.in(name, func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		return h.LinkSetUp(lo)
	})
}

func (w *wire) in(name string, do func(h *netlink.Handle) error) {
	w.t.Helper()
	if err := at(w.path(name), func(x inside) error { return do(x.links) }); err != nil {
		w.t.Fatal(err)
	}
}

// pair makes a veth pair: one end in each namespace.
func (w *wire) pair(one, inOne, two, inTwo string, mac string) {
	w.t.Helper()
	hw, _ := net.ParseMAC(mac)
	err := at(w.path(inOne), func(x inside) error {
		return at(w.path(inTwo), func(y inside) error {
			v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: one, TxQLen: queueLength}, PeerName: two, PeerHardwareAddr: hw, PeerNamespace: netlink.NsFd(y.ns)}
			return x.links.LinkAdd(v)
		})
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// host makes a host with an address on the underlay.
func (w *wire) host(name, address string) *hostOf {
	w.t.Helper()
	w.space(name)
	w.pair("p"+name, "wire", "eth1", name, "02:00:00:00:01:"+hexOf(len(w.hosts)+1))
	w.in("wire", func(h *netlink.Handle) error {
		sw, err := h.LinkByName("sw")
		if err != nil {
			return err
		}
		l, err := h.LinkByName("p" + name)
		if err != nil {
			return err
		}
		return errors.Join(h.LinkSetMaster(l, sw), h.LinkSetUp(l))
	})
	w.address(name, "eth1", address+"/24")
	x := &hostOf{w: w, name: name, local: address, k: Kernel{Home: w.path(name), Root: w.root + name + "-"}}
	x.work = &Worker{Edges: x.k, Domains: func(context.Context) ([]Vif, error) { return x.vifs, nil }}
	w.hosts[name] = x
	w.t.Cleanup(func() {
		vnis, err := x.k.Networks()
		for _, vni := range vnis {
			err = errors.Join(err, x.k.Remove(vni))
		}
		if err != nil {
			w.t.Error(err)
		}
	})
	return x
}

func hexOf(n int) string { return hex.EncodeToString([]byte{byte(n)}) }

func (w *wire) address(space, device, cidr string) {
	w.t.Helper()
	w.in(space, func(h *netlink.Handle) error {
		l, err := h.LinkByName(device)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		a.Flags = 2 // IFA_F_NODAD
		return errors.Join(h.AddrReplace(l, a), h.LinkSetUp(l))
	})
}

// guest starts a guest on a host: its vif appears as xen-netback makes it, and the hotplug script plugs it. addresses are what its NIC has.
func (x *hostOf) guest(name string, vni, domid int, mac string, addresses ...string) {
	x.w.t.Helper()
	if _, err := os.Stat(x.w.path(name)); err != nil {
		x.w.space(name)
	}
	v := Vif{Device: Device(domid, 0), VNI: vni, MAC: mac, Addresses: addresses}
	x.w.pair(v.Device, x.name, "eth0", name, mac)
	x.vifs = append(x.vifs, v)
	if err := x.k.Plug(v, 1450); err != nil {
		x.w.t.Fatal(err)
	}
	x.w.in(name, func(h *netlink.Handle) error { // as DHCP tells it
		l, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		return h.LinkSetMTU(l, 1450)
	})
	for _, a := range addresses {
		x.w.address(name, "eth0", a+lengthOf(a))
	}
}

func lengthOf(address string) string {
	if net.ParseIP(address).To4() != nil {
		return "/24"
	}
	return "/64"
}

// tell gives the host a document, and carries plans out until there are none; it gives all steps.
func (x *hostOf) tell(n desired.Network) []workers.Step {
	x.w.t.Helper()
	body, err := json.Marshal(n)
	if err != nil {
		x.w.t.Fatal(err)
	}
	x.docs = []desired.Document{{Version: 1, Machine: events.MachineID(x.name), Boot: "b", Kind: desired.KindNetwork, ID: string(n.Network), Body: body}}
	return x.settle()
}

func (x *hostOf) settle() []workers.Step {
	x.w.t.Helper()
	var all []workers.Step
	for range 6 {
		plans := x.plans()
		if len(plans) == 0 {
			return all
		}
		for _, p := range plans {
			for _, s := range p.Steps {
				if err := x.work.Apply(x.w.t.Context(), s); err != nil {
					x.w.t.Fatalf("%s: %v", s, err)
				}
				all = append(all, s)
			}
		}
	}
	x.w.t.Fatalf("the plans do not end:\n%s", workers.Print(x.plans()))
	return nil
}

func (x *hostOf) plans() []workers.Plan {
	x.w.t.Helper()
	seen, err := x.work.Observe(x.w.t.Context())
	if err != nil {
		x.w.t.Fatal(err)
	}
	return x.work.Plan(x.docs, seen)
}

// hears says whether a UDP datagram from one guest to an address arrives at another, or at a host's namespace.
func (w *wire) hears(from, to, address string, wait time.Duration) bool {
	w.t.Helper()
	host, port := address, "7007"
	var c net.PacketConn
	err := netspace.Inside(w.path(to), func() (err error) {
		c, err = net.ListenPacket("udp", net.JoinHostPort(host, port))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	var s net.Conn
	err = netspace.Inside(w.path(from), func() (err error) {
		s, err = net.Dial("udp", net.JoinHostPort(host, port))
		return err
	})
	if err != nil {
		return false // no route is no reach
	}
	defer s.Close()
	deadline := time.Now().Add(wait)
	for time.Now().Before(deadline) {
		_, _ = s.Write([]byte("hello"))
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, _, err := c.ReadFrom(make([]byte, 64)); err == nil && n == 5 {
			return true
		}
	}
	return false
}

type netlinkHandle = netlink.Handle

func addRoute(h *netlink.Handle, to, via string) error {
	return h.RouteReplace(&netlink.Route{Dst: &net.IPNet{IP: net.ParseIP(to).To4(), Mask: net.CIDRMask(32, 32)}, Gw: net.ParseIP(via).To4()})
}

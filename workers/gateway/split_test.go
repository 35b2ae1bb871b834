package gateway

import (
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"cloudengine/events/desired"
)

// watch is how long a test waits for a takeover that must not come.
const watch = 5 * advert * 2

// actives counts the members that have the gateway's address on the inside.
func (w *world) actives() (n int) {
	w.t.Helper()
	for _, m := range w.pair {
		w.must(at(m.gates.Kernel.Path(testVNI), func(x space) error {
			l, err := x.links.LinkByName(inner)
			if err != nil {
				return err
			}
			all, err := x.links.AddrList(l, netlink.FAMILY_V4)
			if slices.ContainsFunc(all, func(a netlink.Addr) bool { return a.IP.String() == gatewayIP }) {
				n++
			}
			return err
		}))
	}
	return n
}

// deafen takes from both members where the other one is in the network, or gives it back: they do not hear each other over the underlay, and the
// guest hears both.
func (w *world) deafen(deaf bool) {
	w.t.Helper()
	for i, m := range w.pair {
		entry := InnerMAC(testVNI, 1-i) + "@" + w.pair[1-i].local
		all := "00:00:00:00:00:00@" + w.pair[1-i].local
		s, err := m.nets.Edges.State(testVNI)
		w.must(err)
		list := slices.DeleteFunc(s.Remotes, func(r string) bool { return r == entry || r == all })
		if !deaf {
			list = append(list, entry, all)
		}
		w.must(m.nets.Edges.SetRemotes(testVNI, list))
	}
}

// cut takes the external segment between the gateways away, or gives it back; the first one stays on the router's.
func (w *world) cut(off bool) {
	w.t.Helper()
	w.in(outside, func(h *netlink.Handle) error {
		l, err := h.LinkByName("pg1")
		if err != nil {
			return err
		}
		if off {
			return h.LinkSetNoMaster(l)
		}
		sw, err := h.LinkByName("sw")
		if err != nil {
			return err
		}
		return h.LinkSetMaster(l, sw)
	})
}

// TestOneWayBetweenThemIsEnough: a pair that hears each other on one side alone goes on as it was. One that hears each other nowhere is twice
// active, each where the other one is not heard, and once again when they meet.
func TestOneWayBetweenThemIsEnough(t *testing.T) {
	w := newWorld(t)
	w.serve(outside, server)
	active, _ := w.active()
	if active != w.pair[0] {
		t.Fatal("the first of the pair is not active, though both began at once and it is preferred")
	}
	s := w.stream("guest", server)
	still := func(what string) {
		t.Helper()
		for end := time.Now().Add(watch); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if n := w.actives(); n != 1 || active.role() != RoleMaster {
				t.Fatalf("%s: %d are active, and who was is %s", what, n, active.role())
			}
		}
		w.goesOn(s)
	}
	w.deafen(true)
	still("the underlay is cut between them")
	w.deafen(false)
	still("the underlay is there again")
	w.cut(true)
	still("the external segment is cut between them")
	w.deafen(true)
	w.until("both are active, as they hear nothing of each other", func() bool { return w.actives() == 2 })
	w.deafen(false)
	w.until("one is active when they meet", func() bool { return w.actives() == 1 })
	w.cut(false)
	still("all is there again")
}

// TestAKilledElectionLeavesNothing: a gateway whose keepalived was killed has its addresses still; the agent takes them before all else.
func TestAKilledElectionLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.serve(outside, server)
	active, other := w.active()
	s := w.stream("guest", server)
	w.until("the other one knows the connection", other.knows)
	_, keepalived := daemons(active.gates.Dir(testVNI))
	stall := w.stall(s, func() {
		active.kill(keepalived)
		w.until("the other one is active", func() bool { return other.role() == RoleMaster })
		w.settleGates(active)
	})
	t.Logf("keepalived killed: the stream stood still for %s", stall.Round(time.Millisecond))
	w.until("one is active", func() bool { return w.actives() == 1 && active.role() == RoleBackup })
	w.goesOn(s)
}

// TestALostUnderlayIsAnswered: a machine that is active and cannot be reached over the underlay any more gives up, though the other one hears it
// outside.
func TestALostUnderlayIsAnswered(t *testing.T) {
	w := newWorld(t)
	w.serve(outside, server)
	active, other := w.active()
	s := w.stream("guest", server)
	w.until("the other one knows the connection", other.knows)
	link := func(do func(h *netlink.Handle, l netlink.Link) error) {
		w.in(underlay, func(h *netlink.Handle) error {
			l, err := h.LinkByName("p" + active.name)
			if err != nil {
				return err
			}
			return do(h, l)
		})
	}
	stall := w.stall(s, func() {
		link((*netlink.Handle).LinkSetDown)
		w.until("the agent has seen it", func() bool { return !active.gates.Kernel.linked(active.local) })
		w.settleGates(active)
	})
	t.Logf("underlay lost, and seen at once: the stream stood still for %s", stall.Round(time.Millisecond))
	w.until("the other one is active alone", func() bool { return other.role() == RoleMaster && w.actives() == 1 })
	link((*netlink.Handle).LinkSetUp)
	w.until("there is a link again", func() bool { return active.gates.Kernel.linked(active.local) })
	w.settleGates(active)
	w.until("it is there for the other one again", func() bool { return active.role() == RoleBackup })
	w.goesOn(s)
}

// TestAPublicAddressIsOneGuests, in both directions, and comes and goes without a change of who is active.
func TestAPublicAddressIsOneGuests(t *testing.T) {
	w := newWorld(t)
	seen := w.serve(outside, server)
	active, _ := w.active()
	s := w.stream("guest", server)
	if p := <-seen; p != public {
		t.Fatalf("the server sees %s, want %s", p, public)
	}
	inside := w.serve("guest", guestIP)
	w.change(func(g *desired.Gateway) { g.Public = []desired.PublicAddress{{Address: floating, To: guestIP}} })
	w.settle()
	w.until("the address is there", func() bool { return w.reaches(outside, floating) })
	if p := <-inside; p != router {
		t.Errorf("the guest sees %s, want %s", p, router)
	}
	w.stream("guest", server)
	if p := <-seen; p != floating {
		t.Errorf("the server sees %s, want %s", p, floating)
	}
	if w.reaches(outside, public) {
		t.Error("the address of the whole network lets connections in")
	}
	w.goesOn(s)
	if active.role() != RoleMaster || w.actives() != 1 {
		t.Error("another one is active")
	}
	w.change(func(g *desired.Gateway) { g.Public = nil })
	w.settle()
	w.until("the address is gone", func() bool { return !w.reaches(outside, floating) })
	w.goesOn(s)
}

// TestAGuestDoesNotReachTheGateways: neither what they have for each other, nor the router's neighbours behind a wrong address.
func TestAGuestDoesNotReachTheGateways(t *testing.T) {
	w := newWorld(t)
	w.active()
	wish := Wish{Gateway: desired.Gateway{Slot: 3}}
	for i := range w.pair {
		for _, device := range []string{inner, outer} {
			if a := wish.own(device, i).Addr().String(); w.reaches("guest", a) {
				t.Errorf("a guest reaches %s of member %d", a, i)
			}
		}
	}
	if w.reaches("guest", gatewayIP) {
		t.Error("a gateway answers a guest over TCP")
	}
}

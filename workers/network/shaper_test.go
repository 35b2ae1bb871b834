package network

import (
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cloudengine/events/desired"
	"cloudengine/workers/netspace"
)

const mbit = 1_000_000 / 8 // bytes per second

// limits is back, on host x, with limits of guest a.
func limits(in, out int64) desired.Network {
	n := back(hostX, hostX, hostX, hostY)
	n.Ports[0].InBPS, n.Ports[0].OutBPS = in, out
	return n
}

// stream is a TCP connection from one guest to another that is never idle.
type stream struct {
	got *atomic.Int64
	end func()
}

func (w *wire) stream(from, to, address string) stream {
	w.t.Helper()
	var l net.Listener
	var c net.Conn
	err := netspace.Inside(w.path(to), func() (err error) { l, err = net.Listen("tcp", net.JoinHostPort(address, "0")); return err })
	if err == nil {
		defer l.Close()
		err = netspace.Inside(w.path(from), func() (err error) { c, err = net.DialTimeout("tcp", l.Addr().String(), soon); return err })
	}
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	var both sync.WaitGroup
	got := new(atomic.Int64)
	forever := func(do func(b []byte) (int, error), n *atomic.Int64) {
		for b := make([]byte, 1<<16); ; {
			k, err := do(b)
			if n.Add(int64(k)); err != nil {
				return
			}
		}
	}
	both.Go(func() { forever(c.Write, new(atomic.Int64)) })
	both.Go(func() { forever(s.Read, got) })
	end := func() { _, _ = c.Close(), s.Close(); both.Wait() }
	w.t.Cleanup(end)
	return stream{got, end}
}

// rate gives how many bytes per second arrive, after a while that does not count.
func (s stream) rate(before, during time.Duration) float64 {
	<-time.After(before)
	began, n := time.Now(), s.got.Load()
	<-time.After(during)
	return float64(s.got.Load()-n) / time.Since(began).Seconds()
}

func within5(t testing.TB, what string, got float64, want int64) {
	t.Helper()
	t.Logf("%s: %.2f Mbit/s of %.0f", what, got/mbit, float64(want)/mbit)
	if math.Abs(got-float64(want)) > 0.05*float64(want) {
		t.Errorf("%s: %.2f Mbit/s, want %.0f", what, got/mbit, float64(want)/mbit)
	}
}

const settled, measured = 500 * time.Millisecond, 2 * time.Second

// TestARateHoldsForTCPAndIsChangedWhileItRuns: in both directions, to a guest on the same host and on another, within 5 %; the other way is free.
func TestARateHoldsForTCPAndIsChangedWhileItRuns(t *testing.T) {
	w, x, _ := twoHosts(t)
	x.tell(limits(30*mbit, 20*mbit))
	in := w.stream("b", "a", ipA)
	within5(t, "to the guest", in.rate(settled, measured), 30*mbit)
	x.tell(limits(80*mbit, 20*mbit))
	within5(t, "to the guest, changed", in.rate(settled, measured), 80*mbit)
	in.end()
	out := w.stream("a", "c", ipC)
	within5(t, "from the guest, over the tunnel", out.rate(settled, measured), 20*mbit)
	out.end()
	in = w.stream("b", "a", ip6A)
	x.tell(limits(0, 0))
	deadline, got := time.Now().Add(2*soon), 0.0
	for got < 100*mbit && time.Now().Before(deadline) { // what waited in the shaper is lost, and is sent again
		got = in.rate(0, settled)
	}
	if got < 100*mbit {
		t.Errorf("without limits %.2f Mbit/s", got/mbit)
	}
	if plans := x.plans(); len(plans) > 0 {
		t.Errorf("when all stands, there is a plan: %+v", plans)
	}
}

// TestFlowsOfOneGuestShareItsRate: one that sends as much as it can leaves the other its half, and acknowledgements do not wait behind it. Where the
// kernel has no FQ-CoDel there is one queue, and nothing is promised but the rate.
func TestFlowsOfOneGuestShareItsRate(t *testing.T) {
	w, x, _ := twoHosts(t)
	x.tell(limits(40*mbit, 20*mbit))
	one, two := w.stream("a", "c", ipC), w.stream("a", "c", ip6C)
	got := [2]float64{}
	var both sync.WaitGroup
	for i, s := range []stream{one, two} {
		both.Go(func() { got[i] = s.rate(settled, measured) })
	}
	both.Wait()
	t.Logf("%.2f and %.2f Mbit/s, FQ-CoDel: %t", got[0]/mbit, got[1]/mbit, !noLeaf.Load())
	within5(t, "both", got[0]+got[1], 20*mbit)
	if noLeaf.Load() {
		return
	}
	if got[0] < 0.8*got[1] || got[1] < 0.8*got[0] {
		t.Errorf("one has %.2f, the other %.2f Mbit/s", got[0]/mbit, got[1]/mbit)
	}
	within5(t, "to the guest meanwhile", w.stream("b", "a", ipA).rate(settled, measured), 40*mbit)
}

// TestI9RulesStandBeforeALimit: what a guest may not send does not get past its rules by way of the shaper, and what it needs still comes.
func TestI9RulesStandBeforeALimit(t *testing.T) {
	w, x, _ := twoHosts(t)
	x.tell(limits(50*mbit, 50*mbit))
	sendAttacks(t, w, x)
	for _, server := range []string{"10.0.0.1", "fd00:1::1"} {
		if !w.hearsInside("a", x, server) {
			t.Errorf("a limited guest does not reach the server %s", server)
		}
	}
}

// TestPlantedDifferencesOfLimitsAreMended: whatever is changed by hand in tc(8) is seen and set right, in one go.
func TestPlantedDifferencesOfLimitsAreMended(t *testing.T) {
	_, x, _ := twoHosts(t)
	x.tell(limits(50*mbit, 40*mbit))
	vif := Device(1, 0)
	root := netlink.MakeHandle(htbMajor, 0)
	attrs := func(l netlink.Link, handle, parent uint32) netlink.QdiscAttrs {
		return netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: handle, Parent: parent}
	}
	unlimited := func(in inside) func(l netlink.Link) error {
		return func(l netlink.Link) error {
			return in.links.QdiscDel(netlink.NewHtb(attrs(l, root, netlink.HANDLE_ROOT)))
		}
	}
	rate := func(in inside, rate, ceil uint64) func(l netlink.Link) error {
		return func(l netlink.Link) error {
			c := &netlink.HtbClass{ClassAttrs: netlink.ClassAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 1), Parent: root}, Rate: rate, Ceil: ceil}
			c.Buffer, c.Cbuffer = xmitTime(rate, burst(rate)), xmitTime(rate, burst(rate))
			return in.links.ClassReplace(c)
		}
	}
	for what, plant := range map[string]func(in inside) error{
		"no limit to the guest":       func(in inside) error { return in.set(vif, unlimited(in)) },
		"no limit from the guest":     func(in inside) error { return in.set(ifbOf(vif), unlimited(in)) },
		"another rate to the guest":   func(in inside) error { return in.set(vif, rate(in, 90*mbit, 90*mbit)) },
		"another rate from the guest": func(in inside) error { return in.set(ifbOf(vif), rate(in, 90*mbit, 90*mbit)) },
		"another ceiling":             func(in inside) error { return in.set(vif, rate(in, 50*mbit, 90*mbit)) },
		"the queue is down":           func(in inside) error { return in.set(ifbOf(vif), in.links.LinkSetDown) },
		"the queue is gone":           func(in inside) error { return in.set(ifbOf(vif), in.links.LinkDel) },
		"a limit that nobody has asked": func(in inside) error {
			return in.set(Device(2, 0), func(l netlink.Link) error { return in.shaper(l, mbit) })
		},
		"a queue that nobody has asked": func(in inside) error { _, err := in.queue(ifbOf(Device(2, 0)), mbit); return err },
		"a way past the rules": func(in inside) error {
			return in.set(vif, func(l netlink.Link) error {
				return in.links.QdiscAdd(&netlink.Ingress{QdiscAttrs: attrs(l, netlink.MakeHandle(0xffff, 0), netlink.HANDLE_INGRESS)})
			})
		},
		"a filter past the limit": func(in inside) error {
			return in.set(vif, func(l netlink.Link) error {
				return in.links.FilterAdd(&netlink.U32{FilterAttrs: netlink.FilterAttrs{LinkIndex: l.Attrs().Index, Parent: root, Priority: 1, Protocol: unix.ETH_P_ALL}, ClassId: root})
			})
		},
		"a second class": func(in inside) error {
			return in.set(vif, func(l netlink.Link) error {
				return in.links.ClassAdd(&netlink.HtbClass{ClassAttrs: netlink.ClassAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 2), Parent: root}, Rate: mbit, Ceil: mbit})
			})
		},
	} {
		t.Run(what, func(t *testing.T) {
			if err := x.k.in(testVNI, plant); err != nil {
				t.Fatal(err)
			}
			if len(x.plans()) == 0 {
				t.Fatal("nothing is planned")
			}
			if steps := x.settle(); len(steps) != 1 {
				t.Errorf("steps %v", steps)
			}
		})
	}
}

// TestALimitEndsWithItsVif: nothing of it is left behind.
func TestALimitEndsWithItsVif(t *testing.T) {
	_, x, _ := twoHosts(t)
	x.tell(limits(50*mbit, 40*mbit))
	vif := Device(1, 0)
	if err := x.k.in(testVNI, func(in inside) error { return in.set(vif, in.links.LinkDel) }); err != nil {
		t.Fatal(err)
	}
	x.vifs = slices.DeleteFunc(x.vifs, func(v Vif) bool { return v.Device == vif })
	x.settle()
	if err := x.k.in(testVNI, func(in inside) error {
		all, err := in.links.LinkList()
		if find(all, ifbOf(vif)) != nil {
			t.Error("its queue is there still")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkARateOverAMinute is TestARateHoldsForTCPAndIsChangedWhileItRuns for as long as a user would look: run it with -benchtime 1x.
func BenchmarkARateOverAMinute(b *testing.B) {
	w, x, _ := hostsOf(b)
	x.tell(limits(100*mbit, 100*mbit))
	for _, way := range [][3]string{{"a", "c", ipC}, {"b", "a", ipA}, {"a", "b", ip6B}} {
		s := w.stream(way[0], way[1], way[2])
		got := s.rate(settled, time.Minute)
		within5(b, "from "+way[0]+" to "+way[1], got, 100*mbit)
		b.ReportMetric(got/mbit, way[0]+"-"+way[1]+"-Mbit/s")
		s.end()
	}
}

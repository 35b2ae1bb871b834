package network

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cloudengine/workers/netspace"
)

// stranger is on the underlay, and no host.
func (w *wire) stranger(name, address string) {
	w.space(name)
	w.pair("p"+name, "wire", "eth1", name, "02:00:00:00:09:09")
	w.in("wire", func(h *netlink.Handle) error {
		sw, err1 := h.LinkByName("sw")
		l, err2 := h.LinkByName("p" + name)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		return errors.Join(h.LinkSetMaster(l, sw), h.LinkSetUp(l))
	})
	w.address(name, "eth1", address+"/24")
}

// forge sends a frame to a host as its tunnel would, from a namespace on the underlay.
func (w *wire) forge(from, to string, vni int, frame []byte) {
	w.t.Helper()
	err := netspace.Inside(w.path(from), func() error {
		c, err := net.Dial("udp4", to)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(cat([]byte{8, 0, 0, 0, byte(vni >> 16), byte(vni >> 8), byte(vni), 0}, frame))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestI9OnlyHostsReachThePortOfTunnels: who is on the underlay's network and no host with guests of a network of this one gets nothing in.
func TestI9OnlyHostsReachThePortOfTunnels(t *testing.T) {
	w, x, _ := twoHosts(t)
	w.stranger("z", "10.77.3.9")
	b := w.raw("b", "eth0")
	forged := frame(macB, macC, 0x0800, ipv4(ipC, ipB, 17, nil, datagram(1, 2)))
	at := net.JoinHostPort(hostX, "4789")
	if w.forge("y", at, testVNI, forged); !arrives(b, forged, soon) {
		t.Fatal("a frame of another host does not arrive")
	}
	if w.forge("z", at, testVNI, forged); arrives(b, forged, never) {
		t.Error("a frame of a stranger arrives")
	}
	large := frame(macB, macC, 0x0800, ipv4(ipC, ipB, 17, nil, cat(datagram(1, 2), bytes.Repeat([]byte{1}, 1900))))
	if w.forge("z", at, testVNI, large); arrives(b, large, never) {
		t.Error("a frame of a stranger arrives in fragments")
	}
	two := back(hostX, hostX, hostX, hostX) // c runs here by now: y is no host of it any more
	x.tell(two)
	if w.forge("y", at, testVNI, forged); arrives(b, forged, never) {
		t.Error("a frame of a host that has no guest of the network any more arrives")
	}
}

// TestPlantedDifferencesOfTheFilterAreMended: whatever is changed by hand is seen and set right.
func TestPlantedDifferencesOfTheFilterAreMended(t *testing.T) {
	w, x, _ := twoHosts(t)
	ours := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: filterTable}
	for what, plant := range map[string]func(c *nftables.Conn) error{
		"the filter is gone": func(c *nftables.Conn) error { c.DelTable(ours); return c.Flush() },
		"a rule is gone": func(c *nftables.Conn) error {
			rules, err := c.GetRules(ours, &nftables.Chain{Name: chainName, Table: ours})
			if err != nil {
				return err
			}
			return errors.Join(c.DelRule(rules[1]), c.Flush())
		},
		"all rules are gone": func(c *nftables.Conn) error { c.FlushTable(ours); return c.Flush() },
		"another may send": func(c *nftables.Conn) error {
			set := &nftables.Set{Table: ours, Name: filterSet, KeyType: nftables.TypeIPAddr}
			return errors.Join(c.SetAddElements(set, []nftables.SetElement{{Key: []byte{10, 77, 3, 9}}}), c.Flush())
		},
	} {
		t.Run(what, func(t *testing.T) {
			if err := x.k.home(func(in inside) error { return plant(in.rules) }); err != nil {
				t.Fatal(err)
			}
			if steps := x.settle(); len(steps) != 1 || steps[0].Kind != stepFilter {
				t.Errorf("steps %v", steps)
			}
		})
	}
	if !w.hears("c", "a", ipA, soon) {
		t.Error("afterwards guests do not reach each other")
	}
}

// TestI9BroadcastsOfAGuestHaveABound: a guest that sends to all as fast as it can reaches others a bounded number of times, and is still found, and
// finds its addresses. What is for a card that is not known goes nowhere.
func TestI9BroadcastsOfAGuestHaveABound(t *testing.T) {
	w, x, _ := twoHosts(t)
	a, b, host := w.raw("a", "eth0"), w.raw("b", "eth0"), w.raw("x-"+Namespace(testVNI), Bridge)
	send := func(f []byte) {
		t.Helper()
		if _, err := unix.Write(a, f); err != nil && !errors.Is(err, unix.ENOBUFS) {
			t.Fatal(err)
		}
	}
	lost := 0
	for what, f := range map[string][]byte{
		"IPv4 to all":     frame(all, macA, 0x0800, ipv4(ipA, "10.0.0.255", 17, nil, datagram(1, 2))),
		"IPv4 to a group": frame("01:00:5e:00:00:fb", macA, 0x0800, ipv4(ipA, "224.0.0.251", 17, nil, datagram(5353, 5353))),
		"IPv6 to a group": frame("33:33:00:00:00:fb", macA, 0x86dd, ipv6(ip6A, "ff02::fb", 17, 26, datagram(5353, 5353))),
	} {
		began, n := time.Now(), 0
		for range 5 * mostToAll {
			send(f)
			if arrives(b, f, 0) {
				n++
			}
		}
		for arrives(b, f, 50*time.Millisecond) {
			n++
		}
		lost += 5*mostToAll - n
		if most := mostToAll * (2.1 + time.Since(began).Seconds()); n == 0 || float64(n) > most { // of IPv4 there is one bucket for both
			t.Errorf("%s: %d of %d frames arrive in %s, want at most %.0f", what, n, 5*mostToAll, time.Since(began), most)
		}
	}
	if lost > 0 && x.dropped(Device(1, 0)) == 0 {
		t.Error("nothing is counted")
	}
	discover := frame(all, macA, 0x0800, ipv4("0.0.0.0", "255.255.255.255", 17, nil, datagram(68, 67)))
	for what, f := range map[string][]byte{
		"ARP": frame(all, macA, 0x0806, arp(1, macA, ipA, "00:00:00:00:00:00", ipB)), "DHCP": discover,
		"neighbour discovery": frame(macAll, macA, 0x86dd, advert(ip6A, all6, ip6A, macA)),
		"DHCPv6":              frame("33:33:00:01:00:02", macA, 0x86dd, ipv6(local6, "ff02::1:2", 17, 26, datagram(546, 547))),
	} {
		if send(f); !arrives(host, f, soon) {
			t.Errorf("after that, %s does not arrive", what)
		}
	}
	b, host = w.raw("b", "eth0"), w.raw("x-"+Namespace(testVNI), Bridge) // without what came before
	nobody := frame("00:16:3e:00:00:99", macA, 0x0800, ipv4(ipA, ipB, 17, nil, datagram(1, 2)))
	send(nobody)
	for who, fd := range map[string]int{"b": b, "the host": host, "the tunnel": w.raw("wire", "px")} {
		if arrives(fd, nobody, never/2) {
			t.Errorf("a frame for nobody arrives at %s", who)
		}
	}
}

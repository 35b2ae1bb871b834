// Package wire lets tests of the lab lose a network between two parts of one machine.
package wire

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Join lets two cards of this machine reach each other by the wire: packets to one address leave by the other card, and what comes in by a
// card is local. Otherwise the kernel would hand everything over inside, and there were no network to fail. Cards are up then. It must be
// called once in a machine, by root.
func Join(t testing.TB, cards, addresses [2]string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range cards {
		for _, s := range [][2]string{{"accept_local", "1"}, {"rp_filter", "0"}, {"arp_ignore", "1"}, {"arp_announce", "2"}} {
			must(os.WriteFile(fmt.Sprintf("/proc/sys/net/ipv4/conf/%s/%s", c, s[0]), []byte(s[1]), 0))
		}
		l, err := netlink.LinkByName(c)
		must(err)
		a, err := netlink.ParseAddr(addresses[i] + "/32")
		must(err)
		must(netlink.AddrAdd(l, a))
		must(netlink.LinkSetUp(l))
		must(route(l, addresses[i], addresses[1-i]))
		in := netlink.NewRule()
		in.IifName, in.Table, in.Priority = c, unix.RT_TABLE_LOCAL, 1
		must(netlink.RuleAdd(in))
		if i == 0 {
			out := netlink.NewRule()
			out.Table, out.Priority = ownTable, 2
			must(netlink.RuleAdd(out))
			local := netlink.NewRule()
			local.Table, local.Priority = unix.RT_TABLE_LOCAL, 3
			must(netlink.RuleAdd(local))
		}
	}
	first := netlink.NewRule()
	first.Table, first.Priority = unix.RT_TABLE_LOCAL, 0
	must(netlink.RuleDel(first))
}

// ownTable is the routing table of what leaves.
const ownTable = 100

func route(l netlink.Link, from, to string) error {
	dst := &net.IPNet{IP: net.ParseIP(to), Mask: net.CIDRMask(32, 32)}
	return netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Src: net.ParseIP(from), Scope: netlink.SCOPE_LINK, Table: ownTable})
}

// Up brings a card up again that was set down: its route was lost with that.
func Up(t testing.TB, l netlink.Link, from, to string) {
	t.Helper()
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
	if err := route(l, from, to); err != nil {
		t.Fatal(err)
	}
}

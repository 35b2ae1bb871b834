package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"cloudengine/workers/netspace"
	"cloudengine/workers/network"
)

// Kernel is the gateways of this machine: rtnetlink(7) and nftables in the namespaces below /run/netns. Its zero value is the real one.
type Kernel struct {
	Networks network.Kernel // where the networks are
}

// namespaces is where they have names, as ip-netns(8) has them.
const namespaces = "/run/netns"

// Path gives the file of a gateway's namespace.
func (k Kernel) Path(vni int) string {
	return filepath.Join(namespaces, k.Networks.Root+prefix+strconv.Itoa(vni))
}

// space is a namespace that is open.
type space struct {
	ns    netns.NsHandle
	links *netlink.Handle
}

func at(path string, do func(x space) error) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer ns.Close()
	return in(ns, path, do)
}

func in(ns netns.NsHandle, path string, do func(x space) error) error {
	links, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", path, err)
	}
	defer links.Close()
	return do(space{ns, links})
}

// own is the namespace that the program begins in. It is opened before there is a second thread.
var own, errOwn = netns.Get()

func (k Kernel) home(do func(x space) error) error {
	switch {
	case k.Networks.Home != "":
		return at(k.Networks.Home, do)
	case errOwn != nil:
		return fmt.Errorf("open own namespace: %w", errOwn)
	}
	return in(own, "of this machine", do)
}

// settings of a namespace that routes. A connection that is not known is not taken over from its middle: its packets wait until the other
// machine's connections are there.
var settings = [][2]string{
	{"ipv4/ip_forward", "1"}, {"ipv4/conf/all/rp_filter", "0"}, {"ipv4/conf/default/rp_filter", "0"}, {"ipv4/conf/all/arp_ignore", "1"},
	{"ipv4/conf/all/arp_announce", "2"}, {"ipv4/conf/all/accept_redirects", "0"}, {"ipv4/conf/all/send_redirects", "0"},
	{"ipv4/conf/default/send_redirects", "0"},
	{"ipv6/conf/all/disable_ipv6", "1"}, {"ipv6/conf/default/disable_ipv6", "1"},
}

// connections are settings that are there once the kernel tracks them.
var connections = [][2]string{{"netfilter/nf_conntrack_tcp_loose", "0"}, {"netfilter/nf_conntrack_events", "1"}}

func set(path string, list [][2]string) error {
	return netspace.Inside(path, func() error {
		for _, s := range list {
			if err := os.WriteFile("/proc/sys/net/"+s[0], []byte(s[1]), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("set %s: %w", s[0], err)
			}
		}
		return nil
	})
}

// Make makes the namespace and the two devices of a gateway, or sets what is there right. Its network must stand.
func (k Kernel) Make(w Wish) error {
	path := k.Path(w.VNI)
	if err := netspace.Make(path); err != nil {
		return err
	}
	if err := set(path, settings); err != nil {
		return err
	}
	if err := at(path, func(x space) error { return errors.Join(k.makeInner(w, x), k.makeOuter(w, x)) }); err != nil {
		return fmt.Errorf("make gateway of network %d: %w", w.VNI, err)
	}
	return set(path, connections)
}

// makeInner makes the pair of devices between the gateway and its network.
func (k Kernel) makeInner(w Wish, x space) error {
	err := at(k.Networks.Path(w.VNI), func(n space) error {
		hw, _ := net.ParseMAC(InnerMAC(w.VNI, w.Member)) // it is one
		if _, err := n.links.LinkByName(Port); errors.As(err, &netlink.LinkNotFoundError{}) {
			pair := &netlink.Veth{
				LinkAttrs: netlink.LinkAttrs{Name: Port, MTU: w.MTU}, PeerName: inner, PeerHardwareAddr: hw, PeerNamespace: netlink.NsFd(x.ns),
			}
			if err := n.links.LinkAdd(pair); err != nil {
				return fmt.Errorf("make pair of devices: %w", err)
			}
		}
		l, err := n.links.LinkByName(Port)
		if err != nil {
			return fmt.Errorf("find port: %w", err)
		}
		br, err := n.links.LinkByName(network.Bridge)
		if err != nil {
			return fmt.Errorf("find bridge: %w", err)
		}
		err = errors.Join(n.links.LinkSetMaster(l, br), n.links.LinkSetLearning(l, false), n.links.LinkSetFlood(l, false), n.links.LinkSetUp(l))
		return errors.Join(err, n.links.NeighSet(&netlink.Neigh{
			LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER, State: netlink.NUD_NOARP, HardwareAddr: hw,
		}))
	})
	return errors.Join(err, w.begin(x, inner, InnerMAC(w.VNI, w.peer())))
}

// makeOuter makes the device on the external card. The card itself has no address and is up.
func (k Kernel) makeOuter(w Wish, x space) error {
	if _, err := x.links.LinkByName(outer); errors.As(err, &netlink.LinkNotFoundError{}) {
		if err := k.home(func(h space) error { return w.macvlan(h, x) }); err != nil {
			return err
		}
	}
	return w.begin(x, outer, outerMAC(w.VNI, w.peer()))
}

func (w Wish) macvlan(h, x space) error {
	card, err := cardOf(h, w.Card)
	if err != nil {
		return err
	}
	if err := h.links.LinkSetUp(card); err != nil {
		return fmt.Errorf("set %s up: %w", card.Attrs().Name, err)
	}
	hw, _ := net.ParseMAC(outerMAC(w.VNI, w.Member)) // it is one
	name := fmt.Sprintf("cegw%d", w.VNI)
	if l, err := h.links.LinkByName(name); err == nil { // left behind by one that was killed here
		if err := h.links.LinkDel(l); err != nil {
			return fmt.Errorf("remove what was left of a device: %w", err)
		}
	}
	attrs := netlink.LinkAttrs{Name: name, ParentIndex: card.Attrs().Index, HardwareAddr: hw}
	mv := &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
	if err := h.links.LinkAdd(mv); err != nil {
		return fmt.Errorf("make device on %s: %w", card.Attrs().Name, err)
	}
	if err := h.links.LinkSetNsFd(mv, int(x.ns)); err != nil {
		return errors.Join(fmt.Errorf("move device: %w", err), h.links.LinkDel(mv))
	}
	l, err := x.links.LinkByName(name)
	if err == nil {
		err = x.links.LinkSetName(l, outer)
	}
	if err != nil {
		return fmt.Errorf("name device: %w", err)
	}
	return nil
}

var errNoCard = errors.New("this machine has no such card")

func cardOf(h space, mac string) (netlink.Link, error) {
	all, err := h.links.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	for _, l := range all {
		if l.Attrs().HardwareAddr.String() == mac && l.Type() != "macvlan" {
			return l, nil
		}
	}
	return nil, fmt.Errorf("find card %s: %w", mac, errNoCard)
}

// begin gives a device the address for the other member, says where that one is, and sets it up.
func (w Wish) begin(x space, device, peer string) error {
	l, err := x.links.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	hw, _ := net.ParseMAC(peer) // it is one
	p := w.own(device, w.Member)
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}, Scope: int(netlink.SCOPE_LINK)}
	a.Flags = unix.IFA_F_NODAD
	err = errors.Join(x.links.AddrReplace(l, a), x.links.LinkSetUp(l), x.links.NeighSet(&netlink.Neigh{
		LinkIndex: l.Attrs().Index, IP: w.own(device, w.peer()).Addr().AsSlice(), HardwareAddr: hw, State: netlink.NUD_PERMANENT,
	}))
	if err != nil {
		return fmt.Errorf("begin with %s: %w", device, err)
	}
	return nil
}

// Down takes all addresses from a gateway but those for the other member: without keepalived it must not answer.
func (k Kernel) Down(vni int) error {
	return at(k.Path(vni), func(x space) error {
		for _, device := range []string{inner, outer} {
			l, err := x.links.LinkByName(device)
			if errors.As(err, &netlink.LinkNotFoundError{}) {
				continue
			}
			if err != nil {
				return fmt.Errorf("find %s: %w", device, err)
			}
			all, err := x.links.AddrList(l, netlink.FAMILY_V4)
			if err != nil {
				return fmt.Errorf("list addresses of %s: %w", device, err)
			}
			for _, a := range all {
				if a.IP.IsLinkLocalUnicast() {
					continue
				}
				if err := x.links.AddrDel(l, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
					return fmt.Errorf("remove %s of %s: %w", a.IPNet, device, err)
				}
			}
		}
		return nil
	})
}

// Yield sets int's link down, or up again: keepalived then gives up what it has, on both sides.
func (k Kernel) Yield(vni int, down bool) error {
	return at(k.Networks.Path(vni), func(n space) error {
		l, err := n.links.LinkByName(Port)
		if err == nil {
			do := n.links.LinkSetUp
			if down {
				do = n.links.LinkSetDown
			}
			err = do(l)
		}
		if err != nil {
			return fmt.Errorf("set link of gateway %d: %w", vni, err)
		}
		return nil
	})
}

// Remove removes the namespace of a gateway with its devices; no error if it is not there.
func (k Kernel) Remove(vni int) error {
	err := at(k.Networks.Path(vni), func(n space) error {
		l, err := n.links.LinkByName(Port)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		if err == nil {
			err = n.links.LinkDel(l)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove port of gateway %d: %w", vni, err)
	}
	return netspace.Remove(k.Path(vni))
}

// Gateways gives the networks that have the namespace of a gateway here, by identifier.
func (k Kernel) Gateways() ([]int, error) {
	all, err := os.ReadDir(namespaces)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var out []int
	for _, e := range all {
		text, ours := strings.CutPrefix(e.Name(), k.Networks.Root+prefix)
		if vni, err := strconv.Atoi(text); ours && err == nil && netspace.Is(k.Path(vni)) {
			out = append(out, vni)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Stands says whether the devices of a gateway are there and up, whether its port is, and whether the underlay's card, which has the address local,
// has a link.
func (k Kernel) Stands(vni int, local string) (up, port, underlay bool, err error) {
	err = at(k.Path(vni), func(x space) error {
		up = true
		for _, device := range []string{inner, outer} {
			l, err := x.links.LinkByName(device)
			if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
				return fmt.Errorf("find %s: %w", device, err)
			}
			up = up && err == nil && l.Attrs().RawFlags&unix.IFF_UP != 0
		}
		return nil
	})
	if err != nil {
		return false, false, false, err
	}
	err = at(k.Networks.Path(vni), func(n space) error {
		l, err := n.links.LinkByName(Port)
		if err != nil {
			up = false
			return nil
		}
		port, up = l.Attrs().RawFlags&unix.IFF_UP != 0, up && l.Attrs().MasterIndex != 0
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		up, err = false, nil
	}
	return up, port, k.linked(local), err
}

// linked says whether the card that has an address of the underlay has a link.
func (k Kernel) linked(local string) bool {
	linked := false
	err := k.home(func(h space) error {
		all, err := h.links.AddrList(nil, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, a := range all {
			if a.IP.String() != local {
				continue
			}
			l, err := h.links.LinkByIndex(a.LinkIndex)
			if err != nil {
				return err
			}
			linked = l.Attrs().RawFlags&unix.IFF_RUNNING != 0
		}
		return nil
	})
	return err == nil && linked
}

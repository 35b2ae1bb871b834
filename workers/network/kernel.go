package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"cloudengine/workers/netspace"
)

// Kernel is the network of this machine: rtnetlink(7) and nftables in the namespaces below /run/netns. Its zero value is the real one.
type Kernel struct {
	Home string // namespace in which the underlay's cards and new vifs are; empty: the one of the process
	Root string // of the namespaces' names in /run/netns; for tests, which have several hosts on one machine
}

// namespaces is where they have names, as ip-netns(8) has them.
const namespaces = "/run/netns"

// Path gives the file of a network's namespace.
func (k Kernel) Path(vni int) string { return filepath.Join(namespaces, k.Root+Namespace(vni)) }

// inside is a namespace that is open.
type inside struct {
	ns    netns.NsHandle
	links *netlink.Handle
	rules *nftables.Conn
}

// in opens the namespace of a network for what do does.
func (k Kernel) in(vni int, do func(x inside) error) error { return at(k.Path(vni), do) }

func at(path string, do func(x inside) error) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer ns.Close()
	return within(ns, path, do)
}

func within(ns netns.NsHandle, path string, do func(x inside) error) error {
	links, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", path, err)
	}
	defer links.Close()
	rules, err := nftables.New(nftables.WithNetNSFd(int(ns)))
	if err != nil {
		return fmt.Errorf("open nftables in %s: %w", path, err)
	}
	return do(inside{ns, links, rules})
}

// own is the namespace that the program begins in. It is opened before there is a second thread: afterwards one may be in another for a moment, and
// what /proc/self says is of the first.
var own, errOwn = netns.Get()

func (k Kernel) home(do func(x inside) error) error {
	switch {
	case k.Home != "":
		return at(k.Home, do)
	case errOwn != nil:
		return fmt.Errorf("open own namespace: %w", errOwn)
	}
	return within(own, "of this machine", do)
}

// Remove removes the namespace of a network with all that is in it; no error if it is not there.
func (k Kernel) Remove(vni int) error { return netspace.Remove(k.Path(vni)) }

// settings of a namespace: its bridge has addresses, and asks nobody for some.
var settings = [][2]string{
	{"ipv6/conf/all/accept_ra", "0"}, {"ipv6/conf/default/accept_ra", "0"}, {"ipv6/conf/all/forwarding", "0"}, {"ipv4/ip_forward", "0"},
	{"ipv6/conf/default/dad_transmits", "0"}, {"ipv6/conf/all/accept_redirects", "0"}, {"ipv4/conf/all/accept_redirects", "0"}, {"ipv4/conf/all/arp_ignore", "1"},
}

// Make makes the namespace and the bridge of a network, or sets what is there right.
func (k Kernel) Make(vni, mtu int, mac string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return fmt.Errorf("read MAC of bridge: %w", err)
	}
	path := k.Path(vni)
	if err := netspace.Make(path); err != nil {
		return err
	}
	err = netspace.Inside(path, func() error {
		for _, s := range settings {
			if err := os.WriteFile("/proc/sys/net/"+s[0], []byte(s[1]), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("set %s: %w", s[0], err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return k.in(vni, func(x inside) error {
		snooping := false
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: Bridge, HardwareAddr: hw, MTU: mtu}, MulticastSnooping: &snooping}
		if err := x.links.LinkAdd(br); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make bridge: %w", err)
		}
		return errors.Join(x.set(Bridge, func(l netlink.Link) error {
			return errors.Join(x.links.LinkSetHardwareAddr(l, hw), x.links.LinkSetMTU(l, mtu), x.links.LinkSetUp(l))
		}), x.set("lo", x.links.LinkSetUp))
	})
}

func (x inside) set(device string, do func(netlink.Link) error) error {
	l, err := x.links.LinkByName(device)
	if err == nil {
		err = do(l)
	}
	if err != nil {
		return fmt.Errorf("set %s: %w", device, err)
	}
	return nil
}

// join makes a device a port of the bridge that neither learns who is behind it nor gets what is for a port that is not known.
func (x inside) join(l netlink.Link) error {
	br, err := x.links.LinkByName(Bridge)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	if err := x.links.LinkSetMaster(l, br); err != nil {
		return fmt.Errorf("make %s a port: %w", l.Attrs().Name, err)
	}
	return errors.Join(x.links.LinkSetLearning(l, false), x.links.LinkSetFlood(l, false))
}

// Tunnel makes the tunnel of a network anew, from an address of the underlay; with none there is no tunnel. It is up when its rules are there.
func (k Kernel) Tunnel(vni, mtu int, local string, servers []string) error {
	err := k.in(vni, func(x inside) error {
		l, err := x.links.LinkByName(Tunnel)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		if err == nil {
			err = x.links.LinkDel(l)
		}
		if err != nil {
			return fmt.Errorf("remove tunnel: %w", err)
		}
		return nil
	})
	if err != nil || local == "" {
		return err
	}
	return k.in(vni, func(x inside) error {
		if err := k.tunnelAtHome(vni, mtu, local, x.ns); err != nil {
			return err
		}
		if err := x.guard(Tunnel, tunnelRules(vni, servers), nftables.ChainPolicyAccept, 0); err != nil {
			return err
		}
		return x.set(Tunnel, func(l netlink.Link) error {
			return errors.Join(x.join(l), x.links.LinkSetUp(l))
		})
	})
}

// tunnelAtHome makes the tunnel where the underlay is, and moves it: its packets go on over the underlay of where it was made.
func (k Kernel) tunnelAtHome(vni, mtu int, local string, into netns.NsHandle) error {
	return k.home(func(h inside) error {
		name := fmt.Sprintf("cevx%d", vni)
		if l, err := h.links.LinkByName(name); err == nil { // left behind by one that was killed here
			if err := h.links.LinkDel(l); err != nil {
				return fmt.Errorf("remove what was left of a tunnel: %w", err)
			}
		}
		vx := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu}, VxlanId: vni, SrcAddr: net.ParseIP(local).To4(), Port: Port, Learning: false}
		if err := h.links.LinkAdd(vx); err != nil {
			return fmt.Errorf("make tunnel from %s: %w", local, err)
		}
		if err := h.links.LinkSetNsFd(vx, int(into)); err != nil {
			return errors.Join(fmt.Errorf("move tunnel: %w", err), h.links.LinkDel(vx))
		}
		x, err := netlink.NewHandleAt(into, unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer x.Close()
		l, err := x.LinkByName(name)
		if err == nil {
			err = x.LinkSetName(l, Tunnel)
		}
		if err != nil {
			return fmt.Errorf("name tunnel: %w", err)
		}
		return nil
	})
}

// Networks gives the identifiers of the networks that have a namespace.
func (k Kernel) Networks() ([]int, error) {
	all, err := os.ReadDir(namespaces)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var out []int
	for _, e := range all {
		name, mine := strings.CutPrefix(e.Name(), k.Root)
		if vni, ok := VNIOf(name); ok && mine && netspace.Is(k.Path(vni)) {
			out = append(out, vni)
		}
	}
	slices.Sort(out)
	return out, nil
}

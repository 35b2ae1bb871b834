package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bring makes a list of what is there into the one that is wanted: first what is too much goes, then what is missing comes.
func bring(have, want []string, remove, add func(word string) error) error {
	for _, w := range have {
		if !slices.Contains(want, w) {
			if err := remove(w); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return fmt.Errorf("remove %s: %w", w, err)
			}
		}
	}
	for _, w := range want {
		if !slices.Contains(have, w) {
			if err := add(w); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("add %s: %w", w, err)
			}
		}
	}
	return nil
}

// SetAddresses gives the bridge of a network these addresses, in CIDR form, and no others.
func (k Kernel) SetAddresses(vni int, want []string) error {
	return k.in(vni, func(x inside) error {
		br, err := x.links.LinkByName(Bridge)
		if err != nil {
			return fmt.Errorf("find bridge: %w", err)
		}
		have, err := x.addresses(br)
		if err != nil {
			return err
		}
		with := func(do func(netlink.Link, *netlink.Addr) error) func(string) error {
			return func(word string) error {
				a, err := netlink.ParseAddr(word)
				if err != nil {
					return err
				}
				a.Flags = unix.IFA_F_NODAD // the same address is on each host
				return do(br, a)
			}
		}
		return bring(have, want, with(x.links.AddrDel), with(x.links.AddrReplace))
	})
}

func (x inside) addresses(br netlink.Link) ([]string, error) {
	all, err := x.links.AddrList(br, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of bridge: %w", err)
	}
	var out []string
	for _, a := range all {
		ip, ok := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		if ok && !ip.Unmap().IsLinkLocalUnicast() {
			out = append(out, netip.PrefixFrom(ip.Unmap(), ones).String())
		}
	}
	slices.Sort(out)
	return out, nil
}

// SetNeighbours tells the bridge who has which address: IP@MAC.
func (k Kernel) SetNeighbours(vni int, want []string) error {
	return k.in(vni, func(x inside) error {
		br, err := x.links.LinkByName(Bridge)
		if err != nil {
			return fmt.Errorf("find bridge: %w", err)
		}
		have, err := x.neighbours(br)
		if err != nil {
			return err
		}
		with := func(do func(*netlink.Neigh) error) func(string) error {
			return func(word string) error {
				ip, mac, err := cut(word)
				if err != nil {
					return err
				}
				hw, err := net.ParseMAC(mac)
				if err != nil {
					return err
				}
				return do(&netlink.Neigh{LinkIndex: br.Attrs().Index, IP: net.ParseIP(ip), HardwareAddr: hw, State: netlink.NUD_PERMANENT})
			}
		}
		return bring(have, want, with(x.links.NeighDel), with(x.links.NeighSet))
	})
}

func (x inside) neighbours(br netlink.Link) ([]string, error) {
	var out []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := x.links.NeighList(br.Attrs().Index, family)
		if err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
		for _, n := range all {
			if n.State == netlink.NUD_PERMANENT {
				out = append(out, n.IP.String()+"@"+n.HardwareAddr.String())
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// SetSwitch tells the bridge which port is whose: MAC@device. A port that is not there is left out.
func (k Kernel) SetSwitch(vni int, want []string) error {
	return k.in(vni, func(x inside) error {
		ports, err := x.ports()
		if err != nil {
			return err
		}
		have, err := x.entries(ports)
		if err != nil {
			return err
		}
		with := func(do func(*netlink.Neigh) error) func(string) error {
			return func(word string) error {
				mac, device, err := cut(word)
				if err != nil {
					return err
				}
				hw, err := net.ParseMAC(mac)
				if err != nil {
					return err
				}
				for index, name := range ports {
					if name == device {
						return do(bridgeEntry(index, hw))
					}
				}
				return nil
			}
		}
		return bring(have, want, with(x.links.NeighDel), with(x.links.NeighSet))
	})
}

// bridgeEntry is one that a bridge does not forget.
func bridgeEntry(index int, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER, State: netlink.NUD_NOARP, HardwareAddr: mac}
}

// ports gives the ports of the bridge by index.
func (x inside) ports() (map[int]string, error) {
	br, err := x.links.LinkByName(Bridge)
	if err != nil {
		return nil, fmt.Errorf("find bridge: %w", err)
	}
	all, err := x.links.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	out := map[int]string{}
	for _, l := range all {
		if l.Attrs().MasterIndex == br.Attrs().Index {
			out[l.Attrs().Index] = l.Attrs().Name
		}
	}
	return out, nil
}

// entries gives the forwarding entries of the bridge that are written, not its ports' own addresses.
func (x inside) entries(ports map[int]string) ([]string, error) {
	all, err := x.links.NeighList(0, unix.AF_BRIDGE)
	if err != nil {
		return nil, fmt.Errorf("list forwarding entries: %w", err)
	}
	var out []string
	for _, n := range all {
		if device, port := ports[n.LinkIndex]; port && n.State == netlink.NUD_NOARP && n.Flags&netlink.NTF_SELF == 0 {
			out = append(out, n.HardwareAddr.String()+"@"+device)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// SetRemotes tells the tunnel where others are: MAC@address, and 00:00:00:00:00:00 for each host that gets what is for everybody.
func (k Kernel) SetRemotes(vni int, want []string) error {
	return k.in(vni, func(x inside) error {
		l, err := x.links.LinkByName(Tunnel)
		if err != nil {
			return fmt.Errorf("find tunnel: %w", err)
		}
		have, err := x.remotes(l)
		if err != nil {
			return err
		}
		with := func(do func(*netlink.Neigh) error) func(string) error {
			return func(word string) error {
				mac, to, err := cut(word)
				if err != nil {
					return err
				}
				hw, err := net.ParseMAC(mac)
				if err != nil {
					return err
				}
				return do(&netlink.Neigh{
					LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT | netlink.NUD_NOARP, IP: net.ParseIP(to).To4(), HardwareAddr: hw,
				})
			}
		}
		return bring(have, want, with(x.links.NeighDel), with(x.links.NeighAppend))
	})
}

func (x inside) remotes(l netlink.Link) ([]string, error) {
	all, err := x.links.NeighList(l.Attrs().Index, unix.AF_BRIDGE)
	if err != nil {
		return nil, fmt.Errorf("list entries of tunnel: %w", err)
	}
	var out []string
	for _, n := range all {
		if n.Flags&netlink.NTF_SELF != 0 && n.IP != nil {
			out = append(out, n.HardwareAddr.String()+"@"+n.IP.String())
		}
	}
	slices.Sort(out)
	return out, nil
}

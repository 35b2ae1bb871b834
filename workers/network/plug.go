package network

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Plug joins a vif to its network: moves it there, puts its rules before it, makes it a port and only then sets it up. It may be repeated,
// also by two at once. mtu is in bytes. Where limits are not told, those that are there stay. ErrNoDevice if it is nowhere.
func (k Kernel) Plug(v Vif, mtu int) error {
	return k.in(v.VNI, func(x inside) error {
		l, err := k.bring(x, v.Device)
		if err != nil {
			return fmt.Errorf("find %s: %w", v.Device, err)
		}
		if err := x.bound(v, l); err != nil {
			return err
		}
		if err := errors.Join(x.links.LinkSetMTU(l, mtu), x.join(l), x.enter(v, l.Attrs().Index), x.links.LinkSetUp(l)); err != nil {
			return fmt.Errorf("plug %s: %w", v.Device, err)
		}
		return nil
	})
}

// bound puts a vif behind its rules and limits. The device behind which its guest's frames wait is there before a rule sends them to it, and until
// none does.
func (x inside) bound(v Vif, l netlink.Link) error {
	name, shaper := ifbOf(v.Device), 0
	queue, err := x.links.LinkByName(name)
	if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("find %s: %w", name, err)
	}
	there := err == nil
	if v.Limits != nil && v.Limits.Out > 0 {
		if queue, err = x.queue(name, v.Limits.Out); err != nil {
			return err
		}
		there = true
	}
	if there {
		shaper = queue.Attrs().Index
	}
	have, err := guards(x.rules, map[string]int{name: shaper})
	if err != nil {
		return err
	}
	if !v.guarded(have[v.Device], there) {
		if err := x.guard(v.Device, v.rules(), nftables.ChainPolicyDrop, shaper); err != nil {
			return err
		}
	}
	if v.Limits == nil {
		return nil
	}
	if v.Limits.Out == 0 && there {
		if err := x.links.LinkDel(queue); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return x.limit(l, v.Limits.In)
}

// queueLength is how many segments may wait where the kernel has no FQ-CoDel, which has limits of its own.
const queueLength = 64

// queue makes the device behind which the frames of a guest wait: one that gives them back to where they came from, in the kernel's order of things
// behind the rules.
func (x inside) queue(name string, rate uint64) (netlink.Link, error) {
	if err := x.links.LinkAdd(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: name, TxQLen: queueLength}}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	l, err := x.links.LinkByName(name)
	if err == nil {
		err = errors.Join(x.limit(l, rate), x.links.LinkSetUp(l))
	}
	if err != nil {
		return nil, fmt.Errorf("set %s: %w", name, err)
	}
	return l, nil
}

// ErrNoDevice says that a vif is neither in its network nor where xen-netback makes it.
var ErrNoDevice = errors.New("there is no such device")

// bring gives a vif in the namespace of its network, and moves it there if it is not. Somebody else may do so at the same moment.
func (k Kernel) bring(x inside, device string) (netlink.Link, error) {
	var err error
	for range 3 {
		var l netlink.Link
		if l, err = x.links.LinkByName(device); !errors.As(err, &netlink.LinkNotFoundError{}) {
			return l, err
		}
		err = k.fetch(device, x)
		if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) && !errors.Is(err, unix.ENODEV) {
			return nil, err
		}
	}
	return nil, errors.Join(ErrNoDevice, err)
}

// MTU gives the size of the largest packet on a network that stands, in bytes.
func (k Kernel) MTU(vni int) (mtu int, err error) {
	err = k.in(vni, func(x inside) error {
		br, err := x.links.LinkByName(Bridge)
		if err != nil {
			return fmt.Errorf("find bridge: %w", err)
		}
		mtu = br.Attrs().MTU
		return nil
	})
	return mtu, err
}

// enter writes the forwarding entry of a vif, without waiting for the worker's next look.
func (x inside) enter(v Vif, index int) error {
	mac, err := parseMAC(v.MAC)
	if err != nil {
		return err
	}
	return x.links.NeighSet(bridgeEntry(index, mac[:]))
}

// fetch moves a vif from where xen-netback makes it. It is down then.
func (k Kernel) fetch(device string, to inside) error {
	return k.home(func(h inside) error {
		l, err := h.links.LinkByName(device)
		if err != nil {
			return err
		}
		if err := errors.Join(h.links.LinkSetDown(l), h.links.LinkSetNsFd(l, int(to.ns))); err != nil {
			return fmt.Errorf("move %s: %w", device, err)
		}
		return nil
	})
}

// Guard puts the rules of a tunnel in the place of those that are there.
func (k Kernel) Guard(vni int, servers []string) error {
	return k.in(vni, func(x inside) error {
		return x.guard(Tunnel, tunnelRules(vni, servers), nftables.ChainPolicyAccept, 0)
	})
}

// Sweep removes the rules of vifs that are gone, and the devices behind which their guests' frames waited.
func (k Kernel) Sweep(vni int) error {
	s, err := k.State(vni)
	if err != nil {
		return err
	}
	return k.in(vni, func(x inside) error {
		for _, name := range s.Stale {
			if !isIfb(name) {
				x.rules.DelTable(table(name))
			}
		}
		if err := x.rules.Flush(); err != nil {
			return fmt.Errorf("remove rules of %s: %w", words(s.Stale), err)
		}
		for _, name := range s.Stale {
			if isIfb(name) {
				if err := x.set(name, x.links.LinkDel); err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
					return err
				}
			}
		}
		return nil
	})
}

// Shut sets a vif down; no error if it is gone.
func (k Kernel) Shut(vni int, device string) error {
	return k.in(vni, func(x inside) error {
		l, err := x.links.LinkByName(device)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		if err == nil {
			err = x.links.LinkSetDown(l)
		}
		if err != nil {
			return fmt.Errorf("set %s down: %w", device, err)
		}
		return nil
	})
}

// Vifs gives the vifs that are in no network yet.
func (k Kernel) Vifs() ([]string, error) {
	var out []string
	err := k.home(func(h inside) error {
		all, err := h.links.LinkList()
		if err != nil {
			return fmt.Errorf("list devices: %w", err)
		}
		for _, l := range all {
			if isVif(l.Attrs().Name) {
				out = append(out, l.Attrs().Name)
			}
		}
		return nil
	})
	slices.Sort(out)
	return out, err
}

// State reads all of a network.
func (k Kernel) State(vni int) (State, error) {
	s := State{VNI: vni}
	err := k.in(vni, func(x inside) error {
		all, err := x.links.LinkList()
		if err != nil {
			return fmt.Errorf("list devices: %w", err)
		}
		rules, err := guards(x.rules, indexes(all))
		if err != nil {
			return err
		}
		shapers, err := x.shapers(all)
		if err != nil {
			return err
		}
		return x.read(&s, all, rules, shapers)
	})
	return s, err
}

// indexes gives the devices behind which guests' frames wait.
func indexes(all []netlink.Link) map[string]int {
	out := map[string]int{}
	for _, l := range all {
		if isIfb(l.Attrs().Name) {
			out[l.Attrs().Name] = l.Attrs().Index
		}
	}
	return out
}

func (x inside) read(s *State, all []netlink.Link, rules map[string]string, shapers map[string][]string) error {
	br := find(all, Bridge)
	if br == nil {
		return nil
	}
	s.MAC, s.MTU, s.Up, s.NoLeaf = br.Attrs().HardwareAddr.String(), br.Attrs().MTU, isUp(br), noLeaf.Load()
	ports := map[int]string{}
	for _, l := range all {
		a := l.Attrs()
		if a.MasterIndex == br.Attrs().Index {
			ports[a.Index] = a.Name
		}
		switch vx, is := l.(*netlink.Vxlan); {
		case isVif(a.Name):
			s.Ports = append(s.Ports, x.portState(l, br, all, rules[a.Name], shapers))
		case is && a.Name == Tunnel:
			x.tunnelState(s, vx, br, rules[Tunnel])
		}
	}
	s.Stale = stale(all, rules)
	var err error
	if s.Addresses, err = x.addresses(br); err != nil {
		return err
	}
	if s.Neighbours, err = x.neighbours(br); err != nil {
		return err
	}
	if s.Routes, err = x.routes(); err != nil {
		return err
	}
	if s.Switch, err = x.entries(ports); err != nil {
		return err
	}
	if s.Local != "" {
		s.Remotes, err = x.remotes(find(all, Tunnel))
	}
	return err
}

// stale gives the rules and queues of vifs that are gone.
func stale(all []netlink.Link, rules map[string]string) []string {
	var out []string
	for name := range rules {
		if isVif(name) && find(all, name) == nil {
			out = append(out, name)
		}
	}
	for name := range indexes(all) {
		if find(all, "vif"+strings.TrimPrefix(name, "ifb")) == nil {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (x inside) portState(l, br netlink.Link, all []netlink.Link, rules string, shapers map[string][]string) PortState {
	a := l.Attrs()
	out := shapers[ifbOf(a.Name)]
	if q := find(all, ifbOf(a.Name)); q != nil && !isUp(q) {
		out = append(out, "down")
	} else if q != nil && len(out) == 0 {
		out = []string{"none"}
	}
	return PortState{
		Device: a.Name, Up: isUp(l), MTU: a.MTU, Joined: a.MasterIndex == br.Attrs().Index && x.quiet(l), Guard: rules, Shape: shape(shapers[a.Name], out),
	}
}

func (x inside) tunnelState(s *State, vx *netlink.Vxlan, br netlink.Link, rules string) {
	if vx.VxlanId != s.VNI || vx.Port != Port || vx.Learning || vx.SrcAddr == nil {
		return
	}
	s.Local, s.Guard = vx.SrcAddr.String(), rules
	s.Up = s.Up && isUp(vx) && vx.MasterIndex == br.Attrs().Index && x.quiet(vx)
	if vx.MTU != s.MTU {
		s.MTU = 0
	}
}

func find(all []netlink.Link, name string) netlink.Link {
	for _, l := range all {
		if l.Attrs().Name == name {
			return l
		}
	}
	return nil
}

func isUp(l netlink.Link) bool { return l.Attrs().RawFlags&1 != 0 } // IFF_UP

// quiet says whether a port neither learns nor gets what is for nobody.
func (x inside) quiet(l netlink.Link) bool {
	p, err := x.links.LinkGetProtinfo(l)
	return err == nil && !p.Learning && !p.Flood
}

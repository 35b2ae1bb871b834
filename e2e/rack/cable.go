package rack

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// CutBus takes a machine off boot0, as if its cable were pulled: it goes on running and its
// controller answers. Restore puts it back. Both may be repeated.
func (r *Rack) CutBus(name string) error {
	return r.withTap(name, false, func(tap netlink.Link) error { return netlink.LinkSetNoMaster(tap) })
}

// CutSAN takes a machine off san0; RestoreSAN puts it back. Both may be repeated.
func (r *Rack) CutSAN(name string) error {
	return r.withTap(name, true, func(tap netlink.Link) error { return netlink.LinkSetNoMaster(tap) })
}

// RestoreSAN undoes CutSAN.
func (r *Rack) RestoreSAN(name string) error { return r.plugIn(name, true, SANBridge) }

// Restore undoes CutBus.
func (r *Rack) Restore(name string) error {
	return r.plugIn(name, false, BootBridge)
}

func (r *Rack) plugIn(name string, san bool, to string) error {
	return r.withTap(name, san, func(tap netlink.Link) error {
		bridge, err := netlink.LinkByName(to)
		if err != nil {
			return err
		}
		return netlink.LinkSetMaster(tap, bridge)
	})
}

// CutBMC makes a machine's controller unreachable; RestoreBMC undoes it. Both may be repeated.
func (r *Rack) CutBMC(name string) error {
	return r.changeBMC(name, func(l netlink.Link, a *netlink.Addr) error {
		if err := netlink.AddrDel(l, a); !errors.Is(err, unix.EADDRNOTAVAIL) {
			return err
		}
		return nil
	})
}

// RestoreBMC undoes CutBMC.
func (r *Rack) RestoreBMC(name string) error { return r.changeBMC(name, netlink.AddrReplace) }

func (r *Rack) changeBMC(name string, change func(netlink.Link, *netlink.Addr) error) error {
	m, err := r.Machine(name)
	if err != nil {
		return err
	}
	return r.Inside(func() error {
		bridge, err := netlink.LinkByName(BMCBridge)
		if err != nil {
			return fmt.Errorf("find bridge %s: %w", BMCBridge, err)
		}
		if err := change(bridge, addressOf(m.BMC.AsSlice())); err != nil {
			return fmt.Errorf("change address of the controller of %s: %w", name, err)
		}
		return nil
	})
}

func (r *Rack) withTap(name string, san bool, f func(netlink.Link) error) error {
	m, err := r.Machine(name)
	if err != nil {
		return err
	}
	return r.Inside(func() error {
		port := m.tap
		if san {
			port = m.sanTap
		}
		tap, err := netlink.LinkByName(port)
		if err != nil {
			return fmt.Errorf("find tap of %s: %w", name, err)
		}
		if err := f(tap); err != nil {
			return fmt.Errorf("change bridge of %s: %w", name, err)
		}
		return nil
	})
}

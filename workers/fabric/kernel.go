package fabric

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sort"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cloudengine/workers/sysfs"
)

// Kernel is the network of this machine: rtnetlink(7) for cards and addresses, RDMA netlink for soft devices, sysfs for what belongs to what.
type Kernel struct{}

var _ Network = Kernel{}

// Cards lists the Ethernet interfaces that a real device is behind.
func (Kernel) Cards() ([]Card, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	rdma, err := readRDMA("/sys")
	if err != nil {
		return nil, err
	}
	var out []Card
	for _, l := range links {
		a := l.Attrs()
		if _, err := os.Stat(filepath.Join("/sys/class/net", a.Name, "device")); err != nil || len(a.HardwareAddr) != 6 {
			continue // a bridge or a VLAN has the address of a card, and is none
		}
		c := Card{Device: a.Name, MAC: a.HardwareAddr.String(), MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, Master: names[a.MasterIndex]}
		c.RDMA, c.Soft = rdma[a.Name].name, rdma[a.Name].soft
		if c.Addresses, err = addresses(l); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Device < out[j].Device })
	return out, nil
}

func addresses(l netlink.Link) ([]netip.Prefix, error) {
	list, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
	}
	var out []netip.Prefix
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP.To4())
		ones, bits := a.Mask.Size()
		if !ok || bits != 32 {
			return nil, fmt.Errorf("list addresses of %s: %s is not understood", l.Attrs().Name, a)
		}
		out = append(out, netip.PrefixFrom(ip, ones))
	}
	return out, nil
}

// rdmaDevice is an RDMA device on a card.
type rdmaDevice struct {
	name string
	soft bool
}

// readRDMA says which RDMA device is on which network interface. A soft one names it in "parent" (rxe's own attribute); one of hardware shares
// its "device" with the interface. The first of several wins.
func readRDMA(sys string) (map[string]rdmaDevice, error) {
	out := map[string]rdmaDevice{}
	all, err := os.ReadDir(filepath.Join(sys, "class/infiniband"))
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list RDMA devices: %w", err)
	}
	for _, e := range all {
		dir := filepath.Join(sys, "class/infiniband", e.Name())
		if parent, err := sysfs.Read(filepath.Join(dir, "parent")); err == nil {
			out[parent] = rdmaDevice{e.Name(), true}
			continue
		}
		nets, err := os.ReadDir(filepath.Join(dir, "device/net"))
		if err != nil {
			continue // InfiniBand without Ethernet, or gone
		}
		for _, n := range nets {
			if _, ok := out[n.Name()]; !ok {
				out[n.Name()] = rdmaDevice{e.Name(), false}
			}
		}
	}
	return out, nil
}

// SetMTU sets the size of the largest packet, in bytes.
func (Kernel) SetMTU(device string, bytes int) error {
	return with(device, "set MTU of", func(l netlink.Link) error { return netlink.LinkSetMTU(l, bytes) })
}

// SetUp sets the card up.
func (Kernel) SetUp(device string) error { return with(device, "set up", netlink.LinkSetUp) }

// AddAddress gives the card an address.
func (Kernel) AddAddress(device string, p netip.Prefix) error {
	return with(device, "give an address to", func(l netlink.Link) error { return netlink.AddrReplace(l, address(p)) })
}

// RemoveAddress takes an address from the card.
func (Kernel) RemoveAddress(device string, p netip.Prefix) error {
	return with(device, "take an address from", func(l netlink.Link) error {
		if err := netlink.AddrDel(l, address(p)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return err
		}
		return nil
	})
}

func address(p netip.Prefix) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}}
}

func with(device, verb string, do func(netlink.Link) error) error {
	l, err := netlink.LinkByName(device)
	if err == nil {
		err = do(l)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, device, err)
	}
	return nil
}

// AddRDMA makes a soft RDMA device (rdma-link(8), type rxe).
func (Kernel) AddRDMA(name, device string) error {
	if err := netlink.RdmaLinkAdd(name, "rxe", device); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make RDMA device on %s: %w", device, err)
	}
	return nil
}

// RemoveRDMA removes a soft RDMA device.
func (Kernel) RemoveRDMA(name string) error {
	if _, err := os.Stat(filepath.Join("/sys/class/infiniband", name)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := netlink.RdmaLinkDel(name); err != nil {
		return fmt.Errorf("remove RDMA device %s: %w", name, err)
	}
	return nil
}

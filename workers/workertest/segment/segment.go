// Package segment gives tests a network as hosts have it: a network namespace with a bridge, and guests, each in a namespace of its own. It
// needs root, and the program nsenter for what runs inside. All of it goes with the test.
package segment

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"cloudengine/workers/netspace"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Device is the name of the bridge, Card that of a guest's card.
const (
	Device = "br"
	Card   = "eth0"
)

// Segment is a bridge in a namespace.
type Segment struct {
	Path string // of the namespace
	t    testing.TB
}

// Guest is a card on the bridge, alone in a namespace.
type Guest struct {
	Path string // of the namespace
	MAC  net.HardwareAddr
	t    testing.TB
}

var made atomic.Int64

// New makes a bridge with a hardware address, and addresses with the lengths of their subnets.
func New(t testing.TB, mac string, addresses ...string) *Segment {
	t.Helper()
	s := &Segment{Path: namespace(t), t: t}
	err := netspace.Inside(s.Path, func() error {
		hw, err := net.ParseMAC(mac)
		if err != nil {
			return err
		}
		l := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: Device, HardwareAddr: hw}}
		if err := netlink.LinkAdd(l); err != nil {
			return fmt.Errorf("make bridge: %w", err)
		}
		for _, text := range addresses {
			a, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(l, a); err != nil {
				return fmt.Errorf("add %s: %w", text, err)
			}
		}
		return netlink.LinkSetUp(l)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Guest adds a card with a hardware address.
func (s *Segment) Guest(mac string) *Guest {
	s.t.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		s.t.Fatal(err)
	}
	g := &Guest{Path: namespace(s.t), MAC: hw, t: s.t}
	to, err := os.Open(g.Path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer to.Close()
	port := fmt.Sprintf("vif%d", made.Add(1))
	err = netspace.Inside(s.Path, func() error {
		v := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: Card, PeerHardwareAddr: hw, PeerNamespace: netlink.NsFd(to.Fd()),
		}
		if err := netlink.LinkAdd(v); err != nil {
			return fmt.Errorf("make cable: %w", err)
		}
		br, err := netlink.LinkByName(Device)
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetMaster(v, br), netlink.LinkSetUp(v))
	})
	if err == nil {
		err = g.Inside(func() error {
			l, err := netlink.LinkByName(Card)
			if err != nil {
				return err
			}
			return netlink.LinkSetUp(l)
		})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

// Inside calls f in the guest's namespace.
func (g *Guest) Inside(f func() error) error { return netspace.Inside(g.Path, f) }

// Command makes a command that runs there, and ends with ctx.
func (g *Guest) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + g.Path}, args...)...)
}

// SetAddress gives the card an address with the length of its subnet.
func (g *Guest) SetAddress(text string) {
	g.t.Helper()
	err := g.Inside(func() error {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		l, err := netlink.LinkByName(Card)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(l, a)
	})
	if err != nil {
		g.t.Fatalf("give guest address %s: %v", text, err)
	}
}

// namespace makes one, in which addresses count at once: nobody else could have them.
func namespace(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: run it as root")
	}
	path := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Of a thread that is in a namespace of its own only as long as it takes to make another one from there.
	err := netspace.Inside("/proc/self/ns/net", func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make namespace: %w", err)
		}
		for _, name := range []string{"accept_dad", "dad_transmits"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/"+name, []byte("0"), 0); err != nil {
				return err
			}
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		return unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Errorf("drop namespace: %v", err)
		}
	})
	return path
}

// Remove takes the bridge away.
func (s *Segment) Remove() {
	s.t.Helper()
	err := netspace.Inside(s.Path, func() error {
		l, err := netlink.LinkByName(Device)
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

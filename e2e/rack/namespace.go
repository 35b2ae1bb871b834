package rack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"cloudengine/workers/netspace"
)

// NamespacePath is the file that holds the rack's network namespace while it is up.
func (r *Rack) NamespacePath() string { return filepath.Join("/run/netns", r.cfg.Namespace) }

// Inside calls f on a thread that is in the rack's namespace. The thread is never used again, so
// nothing else of this process can end up inside. Sockets that f makes stay inside for good.
func (r *Rack) Inside(f func() error) error { return netspace.Inside(r.NamespacePath(), f) }

// Start starts a command inside the rack's namespace, as exec.Cmd.Start does. Do not set
// Pdeathsig: the thread that starts it ends at once.
func (r *Rack) Start(cmd *exec.Cmd) error { return r.Inside(cmd.Start) }

// Dial connects to an address inside the rack.
func (r *Rack) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := r.Inside(func() error {
		host, _, err := net.SplitHostPort(address)
		if err != nil || net.ParseIP(host) == nil {
			return fmt.Errorf("dial %q: want IP address and port", address)
		}
		// One address, no name look-up, no dual stack: the dialer makes its socket on this thread.
		conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen opens a TCP socket inside the rack.
func (r *Rack) Listen(ctx context.Context, address string) (net.Listener, error) {
	var l net.Listener
	err := r.Inside(func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		return err
	})
	return l, err
}

// owner returns the directory of the rack that the namespace belongs to; "" if none says that it does.
// It is the alias of boot0, so it is there exactly as long as what it speaks of.
func (r *Rack) owner() (dir string, err error) {
	if !r.hasNamespace() {
		return "", nil
	}
	err = r.Inside(func() error {
		link, err := netlink.LinkByName(BootBridge)
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find bridge %s: %w", BootBridge, err)
		}
		dir = link.Attrs().Alias
		return nil
	})
	return dir, err
}

// checkOwner refuses a namespace that another rack lives in.
func (r *Rack) checkOwner() error {
	dir, err := r.owner()
	if err == nil && dir != "" && dir != r.cfg.Dir {
		return fmt.Errorf("namespace %s belongs to the rack in %s: bring that down, or choose another name", r.cfg.Namespace, dir)
	}
	return err
}

// takeOver removes a namespace that another rack has left behind: nothing runs inside, and nobody works on that rack. Machines,
// controllers and forwards of a rack that is up all are inside.
func (r *Rack) takeOver() error {
	dir, err := r.owner()
	if err != nil || dir == "" || dir == r.cfg.Dir {
		return err
	}
	unlock, err := (&Rack{cfg: Config{Dir: dir}}).tryLock()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return r.checkOwner() // refuses: it is going up or down just now
	}
	if err == nil {
		defer unlock()
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	pids, err := r.processesInside()
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return r.checkOwner() // refuses
	}
	r.say("rack: namespace %s was left behind by the rack in %s; it is made anew", r.cfg.Namespace, dir)
	if err := netns.DeleteNamed(r.cfg.Namespace); err != nil {
		return fmt.Errorf("delete namespace %s: %w", r.cfg.Namespace, err)
	}
	return nil
}

func (r *Rack) ensureNetwork() error {
	if err := r.ensureNamespace(); err != nil {
		return err
	}
	return r.Inside(func() error {
		if err := ensureLink("lo", nil); err != nil {
			return err
		}
		if err := r.ensureBridge(BootBridge, r.cfg.ControlAddress().AsSlice()); err != nil {
			return err
		}
		if err := r.claim(); err != nil {
			return err
		}
		if err := r.ensureBridge(BMCBridge, hostOf(r.cfg.BMCNet, 1).AsSlice()); err != nil {
			return err
		}
		if r.cfg.hasSAN() {
			if err := ensureLink(SANBridge, silentBridge(SANBridge, sanMTU)); err != nil {
				return err
			}
		}
		if r.cfg.Networks {
			if err := ensureLink(NetBridge, silentBridge(NetBridge, 1500)); err != nil {
				return err
			}
		}
		for _, m := range r.Machines() {
			if err := r.ensureMachinePorts(m); err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
		}
		return nil
	})
}

// claim makes owner say our directory. It must run inside.
func (r *Rack) claim() error {
	link, err := netlink.LinkByName(BootBridge)
	if err == nil {
		err = netlink.LinkSetAlias(link, r.cfg.Dir)
	}
	if err != nil {
		return fmt.Errorf("claim namespace %s: %w", r.cfg.Namespace, err)
	}
	return nil
}

// ensureNamespace makes the named namespace unless it is there. A file below /run/netns that is
// not a namespace (left by a crash between two system calls) is replaced.
func (r *Rack) ensureNamespace() error {
	if r.hasNamespace() {
		return nil
	}
	if err := os.Remove(r.NamespacePath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove stale namespace file: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // NewNamed leaves this thread inside; let it end
		ns, err := netns.NewNamed(r.cfg.Namespace)
		if err == nil {
			err = ns.Close()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("make namespace %s: %w", r.cfg.Namespace, err)
	}
	return nil
}

func (r *Rack) hasNamespace() bool {
	var st unix.Statfs_t
	const nsfsMagic = 0x6e736673 // linux/magic.h
	return unix.Statfs(r.NamespacePath(), &st) == nil && st.Type == nsfsMagic
}

func (r *Rack) ensureBridge(name string, address net.IP) error {
	snooping := false
	err := ensureLink(name, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}, MulticastSnooping: &snooping})
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", name, err)
	}
	addr := addressOf(address)
	addr.IPNet.Mask = net.CIDRMask(24, 32)
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("give %s its address: %w", name, err)
	}
	return nil
}

// sanMTU lets RDMA over Ethernet use its largest packets of 4096 bytes.
const sanMTU = 4200

// silentBridge is the switch of a network of machines on which we have no address. mtu is in bytes.
func silentBridge(name string, mtu int) netlink.Link {
	snooping := false
	return &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu}, MulticastSnooping: &snooping}
}

// ensurePort makes a tap in a bridge. One that is there is left as it is: it may have been cut off on purpose. It must run inside.
func ensurePort(name, bridge string, mtu int) error {
	_, err := netlink.LinkByName(name)
	fresh := err != nil
	tap := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu},
		Mode:      netlink.TUNTAP_MODE_TAP,
		Flags:     netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
		Queues:    0,
	}
	if err := ensureLink(name, tap); err != nil || !fresh {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find tap: %w", err)
	}
	if mtu > 0 {
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("set MTU of tap: %w", err)
		}
	}
	to, err := netlink.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	if err := netlink.LinkSetMaster(link, to); err != nil {
		return fmt.Errorf("put tap into bridge: %w", err)
	}
	return nil
}

func (r *Rack) ensureMachinePorts(m Machine) error {
	if err := ensurePort(m.tap, BootBridge, 0); err != nil {
		return err
	}
	if m.sanTap != "" {
		if err := ensurePort(m.sanTap, SANBridge, sanMTU); err != nil {
			return err
		}
	}
	if m.netTap != "" {
		if err := ensurePort(m.netTap, NetBridge, 0); err != nil {
			return err
		}
	}
	link, err := netlink.LinkByName(BMCBridge)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	if err := netlink.AddrReplace(link, addressOf(m.BMC.AsSlice())); err != nil {
		return fmt.Errorf("add controller's address: %w", err)
	}
	return nil
}

// ensureLink adds a link if none of that name exists, and sets it up. It must run inside.
func ensureLink(name string, link netlink.Link) error {
	have, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) && link != nil {
		if err := netlink.LinkAdd(link); err != nil {
			return fmt.Errorf("add link %s: %w", name, err)
		}
		have, err = netlink.LinkByName(name)
	}
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(have); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	return nil
}

func addressOf(ip net.IP) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(32, 32)}}
}

// removeNetwork ends what still runs inside and deletes the namespace; its links go with it.
func (r *Rack) removeNetwork(ctx context.Context) error {
	if !r.hasNamespace() {
		return nil
	}
	if err := r.endProcessesInside(ctx); err != nil {
		return err
	}
	if err := netns.DeleteNamed(r.cfg.Namespace); err != nil {
		return fmt.Errorf("delete namespace %s: %w", r.cfg.Namespace, err)
	}
	return nil
}

// endProcessesInside asks every process in the namespace to end, and kills it if it has not after
// ten seconds. The namespace is ours alone, so being inside is the proof that it was started for
// the rack. Our own process is left alone (it may have threads inside).
func (r *Rack) endProcessesInside(ctx context.Context) error {
	deadline := time.Now().Add(10 * time.Second)
	asked := map[int]bool{}
	for {
		pids, err := r.processesInside()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			switch {
			case time.Now().After(deadline):
				_ = unix.Kill(pid, unix.SIGKILL)
			case !asked[pid]:
				asked[pid] = true
				_ = unix.Kill(pid, unix.SIGTERM)
			}
		}
		if time.Now().After(deadline.Add(10 * time.Second)) {
			return fmt.Errorf("processes %v in namespace %s do not end", pids, r.cfg.Namespace)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func (r *Rack) processesInside() ([]int, error) {
	var want unix.Stat_t
	if err := unix.Stat(r.NamespacePath(), &want); err != nil {
		return nil, fmt.Errorf("look at namespace %s: %w", r.cfg.Namespace, err)
	}
	dirs, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, path := range dirs {
		var have unix.Stat_t
		if unix.Stat(path, &have) != nil || have.Ino != want.Ino || have.Dev != want.Dev {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		if err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

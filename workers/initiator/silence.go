package initiator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cloudengine/workers/fabric"
)

// An SRP target that dies is not always heard of: when packets are lost, soft RDMA (rxe) carries out again what it has done already, the
// registration of memory, fails in that ("mr->lkey not free"), and then neither sends nor tells ib_srp. What is under way would wait for the
// time limit of its commands, and for error handling after that: minutes. So we ask the target's address.
const (
	askTime    = 1700 * time.Millisecond // of one question
	askPause   = time.Second             // between two looks whether it must be asked
	silentAsks = 3                       // questions in a row without an answer: the target is dead
	resetTime  = 3 * time.Minute         // of a reset in the background
)

// watch is what asking has shown so far. Its zero value is ready.
type watch struct {
	flow   flow
	mu     sync.Mutex
	silent map[string]int // questions in a row without an answer, by session
	resets sync.WaitGroup
}

// askAll asks each target from which an answer is due and none has come since the last call, all at the same time. A session that is known to be
// down needs no question, and one on which commands end, or none is under way, needs none either.
func (i *Initiator) askAll(ctx context.Context, w *watch) {
	waiting, err := w.flow.waiting(i)
	if err != nil {
		i.log().Warn("look at SRP sessions", "err", err)
		return
	}
	before := w.silent
	w.silent = map[string]int{}
	var group sync.WaitGroup
	for _, s := range waiting {
		group.Go(func() {
			err := i.ask(ctx, s.Target, askTime)
			if err == nil || ctx.Err() != nil {
				return
			}
			key := s.ID + " " + strconv.Itoa(s.Host)
			n := before[key] + 1
			w.mu.Lock()
			w.silent[key] = n
			w.mu.Unlock()
			if n%silentAsks == 0 {
				i.log().Warn("target is silent: its session is reset", "target", s.Target, "err", err)
				w.resets.Go(func() { i.reset(ctx, s) })
			}
		})
	}
	group.Wait()
}

// reset makes the kernel connect anew at once. If the target is dead that fails, and with it all that is under way on the session, which goes
// on trying as after any loss; if not, commands are sent again. The target's hardware address is forgotten first: then an address that nobody
// has is noticed within a second, where a login would be tried for more than a minute.
func (i *Initiator) reset(ctx context.Context, s Session) {
	if err := i.forget(s.Target); err != nil {
		i.log().Warn("hardware address not forgotten", "target", s.Target, "err", err)
	}
	disk, err := i.anyDisk(s.Host)
	if err != nil || disk == "" { // nothing can be under way
		return
	}
	key := "reset " + strconv.Itoa(s.Host)
	begun := time.Now()
	err = i.flights.do(ctx, key, key, resetTime, func(context.Context) error {
		send := i.edges.reset
		if send == nil {
			send = i.resetHost
		}
		return send(disk)
	})
	i.log().Info("session was reset", "target", s.Target, "took", time.Since(begun).Round(time.Millisecond), "err", err)
}

func (i *Initiator) anyDisk(host int) (string, error) {
	units, err := i.units(host)
	if err != nil {
		return "", err
	}
	for _, u := range units {
		if d := i.disk(u); d != "" {
			return d, nil
		}
	}
	return "", nil
}

// forget drops what the kernel knows of the target's hardware address.
func (i *Initiator) forget(t Target) error {
	drop := i.edges.forget
	if drop == nil {
		drop = forgetNeighbour
	}
	addr, err := netip.ParseAddr(t.Address)
	if err != nil {
		return fmt.Errorf("read the target's address: %w", err)
	}
	if i.Links == nil {
		return nil
	}
	for _, l := range i.Links() {
		if l.Transport == fabric.SRP && l.Address.Contains(addr) {
			return drop(l.Device, addr)
		}
	}
	return nil
}

func forgetNeighbour(device string, addr netip.Addr) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find card %s: %w", device, err)
	}
	err = netlink.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: net.IP(addr.AsSlice())})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("forget the hardware address of %s: %w", addr, err)
	}
	return nil
}

const (
	sgReset         = 0x2284 // SG_SCSI_RESET (scsi/sg.h)
	sgResetHost     = 3      // SG_SCSI_RESET_HOST: for ib_srp, connect anew
	sgNoEscalation  = 0x100  // SG_SCSI_RESET_NO_ESCALATE
	resetOnlyByHost = sgResetHost | sgNoEscalation
)

// resetHost resets the session that a disk is of. It returns when the kernel does.
func (i *Initiator) resetHost(disk string) error {
	fd, err := unix.Open(i.path("dev", disk), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("reset the session of %s: %w", disk, err)
	}
	defer unix.Close(fd)
	how := int32(resetOnlyByHost)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), sgReset, uintptr(unsafe.Pointer(&how))); errno != 0 {
		return fmt.Errorf("reset the session of %s: %w", disk, errno)
	}
	return nil
}

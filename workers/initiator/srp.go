package initiator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cloudengine/events"
	"cloudengine/workers/fabric"
)

// srpPort is where targets take SRP logins over RDMA/CM.
const srpPort = 5555

// loginSRP logs in through ib_srp (Documentation/ABI/stable/sysfs-driver-ib_srp in the kernel's sources).
func (i *Initiator) loginSRP(ctx context.Context, t Target) error {
	sessions, err := i.with(t)
	if err != nil {
		return err
	}
	if len(sessions) > 0 && sessions[0].Target.Address == t.Address {
		return i.recover(ctx, t, sessions[0])
	}
	if len(sessions) > 0 { // to another address, or made by nobody knows whom
		if err := i.logoutSRP(ctx, t); err != nil {
			return err
		}
	}
	device, err := i.rdma(t)
	if err != nil {
		return err
	}
	if err := i.answers(ctx, t); err != nil {
		return err
	}
	if err := i.record(t); err != nil {
		return err
	}
	return i.addTarget(ctx, t, device)
}

// rdma finds the RDMA device of the fabric on which the target is.
func (i *Initiator) rdma(t Target) (string, error) {
	addr, err := netip.ParseAddr(t.Address)
	if err != nil {
		return "", fmt.Errorf("read the target's address: %w", err)
	}
	var links []fabric.Link
	if i.Links != nil {
		links = i.Links()
	}
	for _, l := range links {
		if l.Transport == fabric.SRP && l.RDMA != "" && l.Address.Contains(addr) {
			return l.RDMA, nil
		}
	}
	return "", ErrNoLink
}

// answers asks the target's address for a TCP connection to the port. Nothing needs to listen there: a refusal is an answer too. A login to an
// address that is dead would take the kernel more than a minute, during which no other login on the same RDMA device can begin.
func (i *Initiator) answers(ctx context.Context, t Target) error { return i.ask(ctx, t, answerTime) }

func (i *Initiator) ask(ctx context.Context, t Target, limit time.Duration) error {
	ask := i.edges.answers
	if ask == nil {
		ask = dial
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := ask(ctx, net.JoinHostPort(t.Address, strconv.Itoa(srpPort))); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return nil
}

func dial(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", addr)
	if err == nil {
		return conn.Close()
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	return err
}

// addTarget logs in, again while the target refuses: after a crash it takes a new login for an old one that it still remembers.
func (i *Initiator) addTarget(ctx context.Context, t Target, device string) error {
	file := i.path("sys/class/infiniband_srp", "srp-"+device+"-1", "add_target")
	var err error
	for try := range staleTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return errors.Join(err, ctx.Err())
			case <-time.After(i.pause()):
			}
		}
		err = i.put(file, options(i.Self, t))
		switch {
		case err == nil:
			return i.established(ctx, t)
		case errors.Is(err, syscall.EEXIST): // made by someone else meanwhile, or one whose end is not over yet: then it has left sysfs already
			if sessions, listErr := i.with(t); listErr != nil || len(sessions) > 0 {
				return errors.Join(listErr, i.established(ctx, t))
			}
		case errors.Is(err, syscall.ECONNRESET):
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ETIMEDOUT):
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		default:
			return err
		}
	}
	return fmt.Errorf("%w (%d times)", err, staleTries)
}

func (i *Initiator) pause() time.Duration {
	if i.edges.pause != 0 {
		return i.edges.pause
	}
	return stalePause
}

// options of add_target. Few commands at once: a unit that fails over has them all to fail first.
func options(self events.MachineID, t Target) string {
	return strings.Join([]string{
		"id_ext=" + events.TargetSRP(t.Machine), "ioc_guid=" + events.TargetSRP(t.Machine), "dest=" + net.JoinHostPort(t.Address, strconv.Itoa(srpPort)),
		"initiator_ext=" + events.InitiatorSRP(self), "queue_size=32", "max_cmd_per_lun=16", "tl_retry_count=2",
	}, ",")
}

// established sets a new session's limits and waits for its disks. A session that was given up during its first scan is not there.
func (i *Initiator) established(ctx context.Context, t Target) error {
	sessions, err := i.with(t)
	if err != nil {
		return err
	}
	if len(sessions) == 0 {
		return fmt.Errorf("%w: it was gone again at once", ErrDown)
	}
	for _, s := range sessions {
		if err := i.ladder(s.Host); err != nil {
			return err
		}
		if err := i.settle(ctx, s.Host); err != nil {
			return err
		}
	}
	return nil
}

// ports gives the directories of a host's remote ports: one.
func (i *Initiator) ports(host int) ([]string, error) {
	all, err := i.list("sys/class/srp_remote_ports")
	var out []string
	for _, p := range all {
		if n, ok := number(portName, p); ok && n == host {
			out = append(out, i.path("sys/class/srp_remote_ports", p))
		}
	}
	return out, err
}

// ladder sets the limits of a session. dev_loss_tmo comes first: the kernel refuses fast_io_fail_tmo unless it is the lower one.
func (i *Initiator) ladder(host int) error {
	ports, err := i.ports(host)
	if err != nil {
		return err
	}
	for _, p := range ports {
		for _, l := range []struct {
			name string
			to   int
		}{{"dev_loss_tmo", devLoss}, {"fast_io_fail_tmo", fastIOFail}, {"reconnect_delay", reconnectDelay}} {
			if err := i.put(p+"/"+l.name, strconv.Itoa(l.to)); err != nil {
				return err
			}
		}
	}
	return nil
}

// recover makes the session that is there work. The kernel waits longer and longer between its tries, up to minutes: once the target answers it
// is made to try at once.
func (i *Initiator) recover(ctx context.Context, t Target, s Session) error {
	if s.Live {
		if err := i.looked(ctx, t, false); err != nil {
			return err
		}
		return i.established(ctx, t)
	}
	if err := i.answers(ctx, t); err != nil {
		return fmt.Errorf("%w (%s): %w", ErrDown, s.State, err)
	}
	ports, err := i.ports(s.Host)
	if err != nil {
		return err
	}
	for _, p := range ports {
		for _, delay := range []string{"off", "1", strconv.Itoa(reconnectDelay)} {
			if err := i.put(p+"/reconnect_delay", delay); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	if err := i.alive(ctx, t); err != nil {
		return err
	}
	return i.established(ctx, t)
}

// alive waits until a session with the target works.
func (i *Initiator) alive(ctx context.Context, t Target) error {
	wait, cancel := context.WithTimeout(ctx, recoverTime)
	defer cancel()
	state := "gone"
	err := until(wait, func() (bool, error) {
		sessions, err := i.with(t)
		for _, s := range sessions {
			if state = s.State; s.Live {
				return true, nil
			}
		}
		return false, err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w (%s)", ErrDown, state)
	}
	return err
}

func (i *Initiator) logoutSRP(ctx context.Context, t Target) error {
	sessions, err := i.with(t)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		ports, err := i.ports(s.Host)
		if err != nil {
			return err
		}
		for _, p := range ports {
			if err := i.put(p+"/delete", "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	if err := i.gone(ctx, sessions); err != nil {
		return err
	}
	if err := os.Remove(i.path(recordDir, events.TargetSRP(t.Machine))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget the target: %w", err)
	}
	return nil
}

// gone waits until the hosts of sessions are gone, and with them their disks.
func (i *Initiator) gone(ctx context.Context, sessions []Session) error {
	err := until(ctx, func() (bool, error) {
		for _, s := range sessions {
			if _, err := os.Stat(i.path("sys/class/scsi_host", "host"+strconv.Itoa(s.Host))); !errors.Is(err, os.ErrNotExist) {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the end of the session: %w", err)
	}
	return nil
}

package initiator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"cloudengine/events"
	"cloudengine/workers/fabric"
)

// Target is a machine that exports, as it is reached over one transport.
type Target struct {
	Transport string // fabric.SRP or fabric.ISCSI
	Machine   events.MachineID
	Address   string // IPv4, without port
}

func (t Target) String() string { return t.Transport + ":" + string(t.Machine) + "@" + t.Address }

func (t Target) lane() string { return t.Transport + ":" + string(t.Machine) }

// The causes of failed logins, for errors.Is.
var (
	// ErrUnreachable says that nothing answers at the address.
	ErrUnreachable = errors.New("the target's address does not answer")
	// ErrRefused says that the target answers, and does not let this machine in (yet), or not while it remembers an older session.
	ErrRefused = errors.New("the target refuses the login")
	// ErrDown says that there is a session whose connection is lost. The kernel goes on trying to get it back.
	ErrDown = errors.New("the session's connection is lost")
	// ErrNoLink says that the machine is not attached to a fabric on which the target could be.
	ErrNoLink = errors.New("no fabric of this machine leads to the target")
	// ErrNoSession says that there is no session with the target.
	ErrNoSession = errors.New("there is no session with the target")
	// ErrPending says that the kernel has not answered in time. It is still asked, and the next call joins.
	ErrPending = errors.New("no answer yet")
)

// Limits. They belong together: what the transport notices itself (a lost connection after 5 to 8 s, then 2 s) must come before anything else.
const (
	deviceTimeout  = 60  // s; of a SCSI command before the SCSI layer's error handling, which must come last
	fastIOFail     = 2   // s; from a lost connection to errors of what waits
	reconnectDelay = 3   // s; between two tries of the kernel to get an SRP session back
	devLoss        = 600 // s; then an SRP session is given up, and needs a new login
	noopInterval   = 2   // s; iSCSI asks an idle target this often
	noopTimeout    = 3   // s; and takes the connection for lost after this

	loginTime   = 40 * time.Second // of Login and Rescan in the background, all tries together
	logoutTime  = 60 * time.Second
	answerTime  = 3 * time.Second       // of a target's address before a login is tried
	staleTries  = 6                     // logins that a target refuses while it remembers our session before a crash
	stalePause  = time.Second           // between them, and between tries to log out
	recoverTime = 10 * time.Second      // that Login waits for the connection of a session that is there
	settleTime  = 10 * time.Second      // for disks of units that were found
	lookAgain   = 50 * time.Millisecond // at sysfs, while waiting
)

// Initiator is this machine as an initiator. Its fields must not be changed once it is used; its methods are safe for concurrent use. Calls
// about one target wait for each other.
type Initiator struct {
	Self  events.MachineID
	Root  string               // of sysfs, devices and files; "" = /
	Links func() []fabric.Link // attachments of this machine; for SRP only
	Log   *slog.Logger         // nil: none
	Bin   string               // directory of iscsid and iscsiadm; "" = /usr/sbin or /sbin

	flights flights
	seen    sync.Map // what units said of their reservations last, by flight
	edges   edges
}

// edges are what tests replace.
type edges struct {
	iscsiadm func(ctx context.Context, args ...string) (exit int, said string, err error)
	ensure   func(ctx context.Context) error              // that iscsid runs
	answers  func(ctx context.Context, addr string) error // nil if something is at an address and port
	command  func(dev string, cdb []byte) (reply, error)  // one SCSI command without data
	reserve  func(dev string, cdb, data []byte, direction int32) (reply, error)
	put      func(path, value string) error             // write to sysfs
	reset    func(disk string) error                    // the session that a disk is of
	forget   func(device string, addr netip.Addr) error // the hardware address of what is at addr
	pause    time.Duration                              // 0: stalePause
}

func (i *Initiator) log() *slog.Logger {
	if i.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return i.Log
}

func (i *Initiator) path(parts ...string) string {
	root := i.Root
	if root == "" {
		root = "/"
	}
	return filepath.Join(append([]string{root}, parts...)...)
}

// Login makes sure that there is a session with the target which works, and that its units have been looked for. It returns once their disks
// are there. What it waits for is bounded by ctx and by about 40 s. Errors: ErrUnreachable, ErrRefused, ErrDown, ErrNoLink, ErrPending; a later
// call may succeed.
func (i *Initiator) Login(ctx context.Context, t Target) error {
	err := i.flights.do(ctx, t.lane(), "login "+t.String(), loginTime, func(ctx context.Context) error {
		switch t.Transport {
		case fabric.SRP:
			return i.loginSRP(ctx, t)
		case fabric.ISCSI:
			return i.loginISCSI(ctx, t)
		}
		return fmt.Errorf("transport %q is not known", t.Transport)
	})
	if err != nil {
		return fmt.Errorf("log in to %s: %w", t, err)
	}
	return nil
}

// Logout ends all sessions with the target's machine over its transport, at whatever address, and returns when their disks are gone. It is no
// error if there are none. Nobody may use the disks any more: what is under way on them fails.
func (i *Initiator) Logout(ctx context.Context, t Target) error {
	err := i.flights.do(ctx, t.lane(), "logout "+t.String(), logoutTime, func(ctx context.Context) error {
		switch t.Transport {
		case fabric.SRP:
			return i.logoutSRP(ctx, t)
		case fabric.ISCSI:
			return i.logoutISCSI(ctx, t)
		}
		return fmt.Errorf("transport %q is not known", t.Transport)
	})
	if err != nil {
		return fmt.Errorf("log out of %s: %w", t, err)
	}
	return nil
}

// Wait waits for what still goes on in the background after calls whose context has ended. No call may begin any more.
func (i *Initiator) Wait() { i.flights.wait() }

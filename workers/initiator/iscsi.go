package initiator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"cloudengine/events"
)

// What iscsiadm ends with (iscsiadm(8), "EXIT STATUS").
const (
	exitNoSession    = 2
	exitTransport    = 4
	exitLogin        = 5
	exitTimeout      = 8
	exitInternal     = 9
	exitPDUTimeout   = 11
	exitExists       = 15
	exitFatalLogin   = 19
	exitNoObjects    = 21
	exitAuth         = 24
	exitNotConnected = 32
	exitReqTimedOut  = 33
)

// toolTime bounds one call of iscsiadm: what it can wait for itself is bounded by iscsid.conf, and is less.
const toolTime = 35 * time.Second

// loginISCSI logs in through iscsid. There is no discovery: the target's name follows from its machine.
func (i *Initiator) loginISCSI(ctx context.Context, t Target) error {
	if err := i.Ensure(ctx); err != nil {
		return err
	}
	sessions, err := i.with(t)
	if err != nil {
		return err
	}
	if len(sessions) > 0 && sessions[0].Target.Address == t.Address {
		if err := i.alive(ctx, t); err != nil { // iscsid tries again every few seconds
			return err
		}
		return i.looked(ctx, t, false)
	}
	if len(sessions) > 0 {
		if err := i.logoutISCSI(ctx, t); err != nil {
			return err
		}
	}
	if err := i.admin(ctx, t, "-o", "new"); err != nil {
		return err
	}
	if err := i.admin(ctx, t, "--login"); err != nil {
		return err
	}
	if err := i.alive(ctx, t); err != nil {
		return err
	}
	return i.looked(ctx, t, true)
}

func (i *Initiator) logoutISCSI(ctx context.Context, t Target) error {
	sessions, err := i.with(t)
	if err != nil {
		return err
	}
	if len(sessions) > 0 {
		if err := i.Ensure(ctx); err != nil {
			return err
		}
	}
	for _, s := range sessions {
		at := t
		if s.Target.Address != "" {
			at.Address = s.Target.Address
		}
		if err := i.leave(ctx, at); err != nil {
			return err
		}
	}
	return i.gone(ctx, sessions)
}

// leave ends a session, again while iscsid is not ready to: just started, it takes up the sessions that are there first.
func (i *Initiator) leave(ctx context.Context, t Target) error {
	tick := time.NewTicker(i.pause())
	defer tick.Stop()
	for {
		err := i.admin(ctx, t, "--logout")
		if !errors.Is(err, errNotNow) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}

// admin calls iscsiadm about one node, and tells its errors apart.
func (i *Initiator) admin(ctx context.Context, t Target, args ...string) error {
	run := i.edges.iscsiadm
	if run == nil {
		run = i.iscsiadm
	}
	args = append([]string{"-m", "node", "-T", events.TargetIQN(t.Machine), "-p", t.Address}, args...)
	exit, said, err := run(ctx, args...)
	what := strings.Join(args[6:], " ")
	switch {
	case err != nil:
		return fmt.Errorf("run iscsiadm %s: %w", what, err)
	case exit == 0, exit == exitExists && what == "--login", (exit == exitNoObjects || exit == exitNoSession) && what == "--logout":
		return nil
	case exit == exitInternal, exit == exitNotConnected:
		err = errNotNow
	case exit == exitTransport, exit == exitTimeout, exit == exitPDUTimeout, exit == exitReqTimedOut:
		err = ErrUnreachable
	case exit == exitLogin, exit == exitFatalLogin, exit == exitAuth:
		err = ErrRefused
	default:
		err = errTool
	}
	return fmt.Errorf("run iscsiadm %s: %w (exit status %d): %s", what, err, exit, said)
}

var (
	errTool   = errors.New("iscsiadm failed")
	errNotNow = errors.New("iscsid is not ready for this")
)

// iscsiadm runs the program to its end. What it says on standard error is returned, the last of it.
func (i *Initiator) iscsiadm(ctx context.Context, args ...string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, i.program("iscsiadm"), args...)
	cmd.Stderr = &errs
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	said := strings.Join(strings.Fields(errs.String()), " ")
	said = said[max(0, len(said)-500):]
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), said, nil
	}
	if err != nil {
		return 0, said, fmt.Errorf("%w: %s", err, said)
	}
	return 0, said, nil
}

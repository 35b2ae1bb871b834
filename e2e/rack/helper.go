package rack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	helperWord    = "rack-helper"
	helperChassis = "chassis"
	helperForward = "forward"
)

// RunHelper acts if the program was started as one of the rack's own helpers, and tells so. Every
// program that calls Up must begin with it:
//
//	if code, is := rack.RunHelper(os.Args); is {
//		os.Exit(code)
//	}
//
// The helpers are the controller's chassis control, its serial port and the forwards.
func RunHelper(args []string) (code int, is bool) {
	if len(args) < 3 || args[1] != helperWord {
		return 0, false
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer cancel()
	var err error
	switch {
	case args[2] == helperChassis && len(args) >= 7:
		err = chassis(ctx, os.Stdout, args[3], args[4], args[5:])
	case args[2] == helperSerial && len(args) == 6:
		err = serveSerial(ctx, args[3], args[4], args[5])
	case args[2] == helperForward && len(args) == 6:
		err = forward(ctx, args[3], args[4], args[5])
	default:
		err = fmt.Errorf("unknown helper %q", args[2:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return 0, true
}

// chassis answers the simulator's chassis control (ipmi_sim(1)): "get power" prints power:0 or
// power:1; "set power 0|1", "set reset 1"; "set boot none|default|pxe" is taken as said, since these
// machines can boot from nothing but the network. Several words may come in one call, each with its
// value where "set" asks for one.
func chassis(ctx context.Context, out io.Writer, dir, name string, words []string) error {
	// The simulator leaks its sockets to its children; the emulator must not keep them.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited files: %w", err)
	}
	r, err := Open(dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	switch words[0] {
	case "get":
		return r.chassisGet(out, name, words[1:])
	case "set":
		return r.chassisSet(ctx, name, words[1:])
	case "check":
		return nil
	}
	return fmt.Errorf("chassis control: unknown request %q", words)
}

func (r *Rack) chassisGet(out io.Writer, name string, words []string) error {
	for _, word := range words {
		switch word {
		case "power":
			on, err := r.IsOn(name)
			if err != nil {
				return err
			}
			value := 0
			if on {
				value = 1
			}
			fmt.Fprintf(out, "power:%d\n", value)
		case "boot":
			fmt.Fprintln(out, "boot:pxe")
		default:
			return fmt.Errorf("chassis control: cannot get %q", word)
		}
	}
	return nil
}

func (r *Rack) chassisSet(ctx context.Context, name string, words []string) error {
	if len(words)%2 != 0 {
		return fmt.Errorf("chassis control: odd number of words in %q", words)
	}
	for pair := range slices.Chunk(words, 2) {
		var err error
		switch {
		case pair[0] == "power" && pair[1] == "1":
			err = r.PowerOn(name)
		case pair[0] == "power" && pair[1] == "0":
			err = r.Kill(ctx, name)
		case pair[0] == "reset":
			err = r.resetIfOn(ctx, name)
		case pair[0] == "boot", pair[0] == "identify", pair[0] == "shutdown":
		default:
			err = errors.New("not known")
		}
		if err != nil {
			return fmt.Errorf("chassis control: set %s %s: %w", pair[0], pair[1], err)
		}
	}
	return nil
}

// resetIfOn: a reset does not switch a machine on (IPMI 2.0, 28.3).
func (r *Rack) resetIfOn(ctx context.Context, name string) error {
	if on, err := r.IsOn(name); err != nil || !on {
		return err
	}
	return r.Reset(ctx, name)
}

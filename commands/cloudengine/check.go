package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// States of a finding.
const (
	stateFine    = "ok"
	stateDoubt   = "warning" // a server runs, but not as well or as safely as it could
	stateMissing = "missing" // a server cannot run
)

// finding is what one check says.
type finding struct {
	Check   string `json:"check"`
	State   string `json:"state"`
	Message string `json:"message"`
	Mend    string `json:"mend,omitempty"`
}

// check is one thing that a server needs. Those atStart are quick, and serve makes them too.
type check struct {
	name    string
	atStart bool
	look    func(context.Context, serveOptions) []finding
}

var checks = []check{
	{"data directory", true, checkData},
	{"file permissions", true, checkPermissions},
	{"disk space", true, checkSpace},
	{"disk speed", false, checkFsync},
	{"database", true, checkDatabase},
	{"addresses", false, checkAddresses},
	{"netboot interface", true, checkInterface},
	{"boot image", true, checkImage},
	{"boot programs", true, checkBootPrograms},
	{"time", false, checkTime},
	{"memory", false, checkMemory},
	{"open files", false, checkFiles},
	{"alerts", true, checkAlerts},
}

func fine(format string, a ...any) []finding {
	return []finding{{State: stateFine, Message: fmt.Sprintf(format, a...)}}
}

func doubt(mend, format string, a ...any) []finding {
	return []finding{{State: stateDoubt, Message: fmt.Sprintf(format, a...), Mend: mend}}
}

func lack(mend, format string, a ...any) []finding {
	return []finding{{State: stateMissing, Message: fmt.Sprintf(format, a...), Mend: mend}}
}

func (a *app) checkCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use: "check", Short: "Say what this machine lacks to run a server, and how to mend it", Args: cobra.NoArgs,
		Annotations: map[string]string{readsSection: "serve"},
		Long: `Check what "cloudengine serve" with the same flags needs of this machine: directories and their permissions, disk space and the speed of
fsync, MariaDB, free addresses, the network interface and capabilities that machines boot by, the boot image, time, memory. It changes
nothing, but writes and removes a small file in the data directory to measure. What is missing makes the exit code 1; a warning does
not. serve makes the quick ones of these checks itself when it starts.`,
		Example: "  cloudengine check\n  cloudengine check --config /etc/cloudengine/config.yaml\n  cloudengine check --data /var/lib/cloudengine --netboot-interface eth1 --image /srv/image -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(false); err != nil {
				return err
			}
			return a.tellFindings(examine(cmd.Context(), o, false))
		},
	}
	o.flags(cmd.Flags())
	return cmd
}

// examine makes the checks.
func examine(ctx context.Context, o serveOptions, atStart bool) []finding {
	var out []finding
	for _, c := range checks {
		if atStart && !c.atStart {
			continue
		}
		for _, f := range c.look(ctx, o) {
			f.Check = c.name
			out = append(out, f)
		}
	}
	return out
}

func (a *app) tellFindings(list []finding) error {
	bad := 0
	rows := make([]row, len(list))
	for i, f := range list {
		rows[i] = row{"name": f.Check, "check": f.Check, "state": f.State, "message": f.Message}
		if f.Mend != "" {
			rows[i]["mend"] = f.Mend
		}
		if f.State == stateMissing {
			bad++
		}
	}
	if err := a.list([]column{field("CHECK", "check"), field("STATE", "state"), field("FOUND", "message")}, rows); err != nil {
		return err
	}
	for _, f := range list {
		if f.Mend != "" {
			a.talk("%s: %s", f.Check, f.Mend)
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d things are missing that a server needs", bad)
	}
	return nil
}

// preflight is what serve checks at its start. What is only a warning is logged by the caller.
func preflight(ctx context.Context, o serveOptions) (warnings []finding, err error) {
	var failed []error
	for _, f := range examine(ctx, o, true) {
		switch f.State {
		case stateMissing:
			failed = append(failed, fmt.Errorf("%s: %s (%s)", f.Check, f.Message, f.Mend))
		case stateDoubt:
			warnings = append(warnings, f)
		}
	}
	return warnings, errors.Join(failed...)
}

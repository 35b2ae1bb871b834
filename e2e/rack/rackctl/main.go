// Command rackctl holds a virtual rack without a control plane, for work on machines, boot images
// and controllers: up, down, list, on, off, reset, cut, restore, serial, shell, ipmi, exec, and netboot, which
// serves a boot image to the rack's machines until it is interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"

	"cloudengine/e2e/rack"

	"golang.org/x/sys/unix"
)

func main() {
	if code, is := rack.RunHelper(os.Args); is {
		os.Exit(code)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "rackctl:", err)
		os.Exit(1)
	}
}

const usage = `usage: rackctl [flags] up|down|list
       rackctl [flags] on|off|reset|freeze|thaw|cut|restore|serial MACHINE
       rackctl [flags] shell MACHINE COMMAND (on its console; needs ce.shell)
       rackctl [flags] ipmi MACHINE WORD…   (ipmitool to its controller)
       rackctl [flags] exec COMMAND…        (inside the rack's namespace)
       rackctl [flags] netboot IMAGE-DIRECTORY`

func run(ctx context.Context, args []string, out io.Writer) error {
	cfg := rack.Config{Progress: func(line string) { fmt.Fprintln(os.Stderr, line) }}
	flags := flag.NewFlagSet("rackctl", flag.ContinueOnError)
	flags.StringVar(&cfg.Dir, "dir", "bin/rack", "state directory")
	flags.StringVar(&cfg.Namespace, "namespace", "cerack", "network namespace (up)")
	flags.IntVar(&cfg.Hosts, "hosts", 2, "number of machines (up)")
	flags.IntVar(&cfg.MemoryMiB, "memory", 2048, "RAM of a machine in MiB (up)")
	dom0 := flags.String("dom0", "", "arguments of the control domain's kernel (netboot)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	words := flags.Args()
	if len(words) == 0 {
		return errors.New(usage)
	}
	if words[0] == "up" {
		r, err := rack.New(cfg)
		if err != nil {
			return err
		}
		return r.Up(ctx)
	}
	r, err := rack.Open(cfg.Dir)
	if words[0] == "down" && errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r.OnProgress(cfg.Progress)
	return command(ctx, r, words, *dom0, out)
}

func command(ctx context.Context, r *rack.Rack, words []string, dom0 string, out io.Writer) error {
	switch {
	case words[0] == "down":
		return r.Down(ctx)
	case words[0] == "list":
		return list(r, out)
	case words[0] == "shell" && len(words) == 3:
		said, err := r.Shell(ctx, words[1], words[2])
		fmt.Fprintln(out, said)
		return err
	case words[0] == "exec" && len(words) > 1:
		return inside(r, words[1:])
	case words[0] == "netboot" && len(words) == 2:
		self, err := os.Executable()
		if err != nil {
			return err
		}
		return inside(r, []string{self, "-dir", r.Config().Dir, "-dom0", dom0, netbootInside, words[1]})
	case words[0] == netbootInside && len(words) == 2:
		return serveBoot(ctx, r, words[1], dom0)
	case words[0] == "ipmi" && len(words) > 2:
		m, err := r.Machine(words[1])
		if err != nil {
			return err
		}
		return inside(r, append([]string{"ipmitool", "-I", "lanplus", "-C", "3", "-H", m.BMC.String(),
			"-U", m.BMCUser, "-f", m.BMCPasswordFile}, words[2:]...))
	case len(words) == 2:
		return machineCommand(ctx, r, words[0], words[1], out)
	}
	return errors.New(usage)
}

func machineCommand(ctx context.Context, r *rack.Rack, verb, name string, out io.Writer) error {
	switch verb {
	case "on":
		return r.PowerOn(name)
	case "off":
		return r.Kill(ctx, name)
	case "reset":
		return r.Reset(ctx, name)
	case "freeze":
		return r.Freeze(name)
	case "thaw":
		return r.Thaw(name)
	case "cut":
		return r.CutBus(name)
	case "restore":
		return r.Restore(name)
	case "serial":
		lines, err := r.SerialTail(name, 40)
		for _, line := range lines {
			fmt.Fprintln(out, line)
		}
		return err
	}
	return errors.New(usage)
}

func list(r *rack.Rack, out io.Writer) error {
	for _, m := range r.Machines() {
		on, err := r.IsOn(m.Name)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s on=%t mac=%s address=%s bmc=%s user=%s passwordfile=%s uuid=%s serial=%s\n",
			m.Name, on, m.MAC, m.Address, m.BMC, m.BMCUser, m.BMCPasswordFile, m.UUID, m.Serial)
	}
	return nil
}

func inside(r *rack.Rack, words []string) error {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := r.Start(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

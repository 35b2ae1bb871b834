// Command noded is the agent on every machine: it brings the machine up, enrols it, and then keeps it as the documents of DESIRED
// say, whether the control plane answers or not.
//
// It may be killed at any time. What it must know again it finds in the hypervisor, in xenstore, and in a directory in memory
// (--run): the key of this boot, the newest documents, the counter of its reports. It listens on no port, and its domains do not
// notice its death. Under the name ce-hotplug it is Xen's script for block devices and network interfaces.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"cloudengine/workers/boot"
)

// options are the flags of the agent.
type options struct {
	config  string
	run     string
	runner  string
	bootID  string
	state   string
	record  string
	memory  int
	tsc     string
	tick    time.Duration
	verbose bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// Inherited by device models: one whose log is full (libxl limits its files) loses what it would write, and does not die of it.
	signal.Ignore(syscall.SIGXFSZ)
	err := run(ctx, os.Args, os.Stdout)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "noded:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if filepath.Base(args[0]) == "ce-hotplug" {
		return hotplug(ctx, args[1:])
	}
	if len(args) > 1 && args[1] == "selftest" {
		return selftest(ctx, args[2:], stdout)
	}
	if len(args) > 1 && args[1] == notifyCall {
		return gatewayNotify(ctx, args[2:])
	}
	o, err := parseFlags(args[1:])
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	c, err := bringUp(ctx, o, log)
	if err != nil && !errors.Is(err, boot.ErrXenstoreLost) {
		return err
	}
	if err != nil {
		log.Error("domains cannot be managed in this boot any more: the machine must be rebooted", "err", err)
	}
	if c.Holding != "" {
		return hold(ctx, c, log)
	}
	a, err := newAgent(ctx, o, c, log)
	if err != nil {
		return err
	}
	return a.run(ctx)
}

// fromKernel is the value of a flag that the machine's kernel command line decides: a fact of the machine, told by who boots it. On real
// processors Xen's own choice is right: it lets domains read the TSC where that is reliable. Emulated processors look unreliable, so that
// each read would be emulated a second time, by Xen; and some let Xen's emulation fail (RDTSCP under QEMU's SVM).
const fromKernel = "kernel"

// kernelWord gives the value of key=value on a kernel command line.
func kernelWord(file, key string) string {
	line, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for _, word := range strings.Fields(string(line)) {
		if v, ok := strings.CutPrefix(word, key+"="); ok {
			return v
		}
	}
	return ""
}

func parseFlags(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("noded", flag.ContinueOnError)
	f.StringVar(&o.config, "config", "", "`file` with the boot configuration; without it the machine is brought up as the boot image's agent")
	f.StringVar(&o.run, "run", boot.RunDir, "`directory` in memory, for this boot")
	f.StringVar(&o.runner, "runner", "xl", "xl, or recording: a model of a host instead of Xen")
	f.StringVar(&o.bootID, "boot-id", "", "recording: the boot `id`; the kernel's by default")
	f.StringVar(&o.state, "state", "", "recording: `file` that keeps the model over restarts of the agent")
	f.StringVar(&o.record, "record", "", "append a line of JSON to `file` for each call of the toolstack")
	f.IntVar(&o.memory, "memory", 65536, "recording: `MiB` of the model")
	f.StringVar(&o.tsc, "tsc-mode", fromKernel, "tsc_mode of PVH and HVM domains; empty leaves it to Xen; "+fromKernel+": the word ce.tsc_mode of the kernel's command line says it")
	f.DurationVar(&o.tick, "interval", 15*time.Second, "longest time between two looks at the machine")
	f.BoolVar(&o.verbose, "v", false, "log more")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.tsc == fromKernel {
		o.tsc = kernelWord("/proc/cmdline", "ce.tsc_mode")
	}
	if o.runner != "xl" && o.runner != "recording" {
		return o, fmt.Errorf("flag --runner: %q is neither xl nor recording", o.runner)
	}
	return o, nil
}

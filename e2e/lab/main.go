// Command lab runs the tests of one package inside a machine with the boot image's kernel, modules and programs:
//
//	go run ./e2e/lab [-disks N] [-nets N] ./workers/md -test.run TestReal -test.v
//
// Files with such tests carry the build tag "lab" and are named *_lab_test.go. They run as root on an emulated machine without Xen that
// nobody else has, with blank disks (/dev/vda, …, serial numbers labdisk0, …) and network cards that are joined to each other and to
// nothing else. What a test leaves behind ends with the machine.
//
// It promises: the kernel of this computer is not touched, nothing is written but temporary files that are removed, the machine
// ends with this program or at the time limit, and the exit code is the tests' (125: they could not be run). It builds no image:
// "go tool task image" does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// codeFailed is the exit code when the tests could not be run to their end.
const codeFailed = 125

// imageVar names the environment variable with the default of -image.
const imageVar = "CE_LAB_IMAGE"

// options say what the machine is made of.
type options struct {
	image    string
	disks    int
	diskMiB  int
	nets     int
	memory   int
	cpus     int
	logLevel int
	limit    time.Duration
	pkg      string
	args     []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, console io.Writer) (int, error) {
	o, err := parseFlags(args, console)
	if err != nil {
		return codeFailed, err
	}
	dir, err := os.MkdirTemp("", "lab-")
	if err != nil {
		return codeFailed, fmt.Errorf("make temporary directory: %w", err)
	}
	defer os.RemoveAll(dir)
	m := machine{options: o, dir: dir}
	if err := m.prepare(ctx); err != nil {
		return codeFailed, err
	}
	limited, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	code, err := m.run(limited, out, console)
	if err != nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("the machine was stopped after %s (-limit): %w", o.limit, err)
	}
	return code, err
}

func parseFlags(args []string, console io.Writer) (options, error) {
	f := flag.NewFlagSet("lab", flag.ContinueOnError)
	f.SetOutput(console)
	image := os.Getenv(imageVar)
	if image == "" {
		image = filepath.Join("bin", "image", "current")
	}
	var o options
	f.StringVar(&o.image, "image", image, "directory of the boot image; the default can be set by "+imageVar)
	f.IntVar(&o.disks, "disks", 0, "blank virtio disks, with the serial numbers labdisk0, labdisk1, …")
	f.IntVar(&o.diskMiB, "disk-mib", 64, "size of each disk")
	f.IntVar(&o.nets, "nets", 0, "virtio network cards eth0, eth1, …, joined to each other; they take an MTU up to 4200")
	f.IntVar(&o.memory, "m", 512, "memory in MiB")
	f.IntVar(&o.cpus, "smp", 1, "processors")
	f.IntVar(&o.logLevel, "kernel", 5, "kernel messages more urgent than this level are shown (8: all)")
	f.DurationVar(&o.limit, "limit", 5*time.Minute, "the machine is stopped after this time")
	f.Usage = func() {
		fmt.Fprintln(console, "usage: lab [flags] PACKAGE [arguments of the test binary, as -test.run NAME -test.v]")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() == 0 {
		f.Usage()
		return o, errors.New("which package is to be tested?")
	}
	o.pkg, o.args = f.Arg(0), withTimeout(f.Args()[1:], o.limit)
	return o, nil
}

// withTimeout gives the tests a time limit of their own, unless they have one: it ends before the machine's, and then they say where
// they were.
func withTimeout(args []string, limit time.Duration) []string {
	for _, a := range args {
		if strings.HasPrefix(strings.TrimLeft(a, "-"), "test.timeout") {
			return args
		}
	}
	const boot = 30 * time.Second
	own := max(limit-max(limit/4, boot), limit/4)
	return append(append([]string{}, args...), "-test.timeout="+own.String())
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"cloudengine/e2e/lab/job"
	"cloudengine/e2e/rack"
)

// machine is one run of the lab. Its files are in dir.
type machine struct {
	options
	dir string
}

func (m *machine) file(name string) string { return filepath.Join(m.dir, name) }

// args are those of QEMU: no firmware (the kernel is started by PVH), the kernel's messages on standard error, what the program says on
// standard output, and no network but the cards' hub.
func (m *machine) args() []string {
	args := []string{
		"-name", "guest=" + filepath.Base(m.dir),
		"-machine", "q35", "-accel", "tcg,thread=multi,tb-size=128", "-cpu", rack.CPU,
		"-smp", strconv.Itoa(m.cpus), "-m", strconv.Itoa(m.memory),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none", "-rtc", "base=utc",
		"-kernel", m.file("vmlinux"), "-initrd", m.file("initrd.img"), "-append", job.KernelArgs(rack.ClockArgs()),
		"-chardev", "file,id=kernel,path=/dev/stderr", "-serial", "chardev:kernel",
		"-chardev", "stdio,id=program,signal=off", "-serial", "chardev:program",
		"-device", "virtio-rng-pci",
	}
	for i := range m.disks {
		id := "disk" + strconv.Itoa(i)
		args = append(args, "-drive", "if=none,format=raw,cache=unsafe,id="+id+",file="+m.file(id),
			"-device", "virtio-blk-pci,drive="+id+",serial=lab"+id)
	}
	for i := range m.nets {
		id := "net" + strconv.Itoa(i)
		args = append(args, "-netdev", "hubport,hubid=0,id="+id,
			"-device", fmt.Sprintf("virtio-net-pci,romfile=,netdev=%s,host_mtu=4200,mac=52:54:00:1a:b0:%02x", id, i+1))
	}
	return args
}

// run starts the machine, and returns the code that its program ended with.
func (m *machine) run(ctx context.Context, out, console io.Writer) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", m.args()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us; we stop it
	cmd.WaitDelay = 10 * time.Second
	lines := &listener{out: out, console: console, ended: cancel}
	program, kernel := lineWriter{f: lines.program}, lineWriter{f: lines.kernel}
	cmd.Stdout, cmd.Stderr = &program, &kernel
	err := cmd.Run()
	program.flush()
	kernel.flush()
	if code, ok := lines.code(); ok {
		return code, nil
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	lines.complain()
	return codeFailed, fmt.Errorf("run machine: %w", err)
}

// listener sorts what comes from the machine's two ports. Safe for concurrent use.
type listener struct {
	out, console io.Writer
	ended        func() // called when the program's end was told

	mu      sync.Mutex
	begun   bool
	result  int
	done    bool
	earlier []string // kernel messages before the program began, the newest
}

const keptLines = 40

// program takes a line of the second port.
func (l *listener) program(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	code, isEnd := job.ParseEnd(line)
	switch {
	case isEnd:
		l.result, l.done = code, true
		l.ended()
	case line == job.Begin:
		l.begun = true
	default:
		fmt.Fprintln(l.out, line)
	}
}

// kernel takes a line of the first port.
func (l *listener) kernel(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return // the machine goes down
	}
	if l.begun {
		fmt.Fprintln(l.console, "kernel:", line)
		return
	}
	l.earlier = append(l.earlier, line)
	l.earlier = l.earlier[max(0, len(l.earlier)-keptLines):]
}

func (l *listener) code() (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.result, l.done
}

// complain shows how the boot ended, if the program never began.
func (l *listener) complain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun {
		return
	}
	for _, line := range l.earlier {
		fmt.Fprintln(l.console, "boot:", line)
	}
}

// lineWriter calls f for each line that is written to it, without carriage returns. Not safe for concurrent use.
type lineWriter struct {
	f    func(line string)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		w.f(strings.TrimRight(string(w.rest[:i]), "\r"))
		w.rest = w.rest[i+1:]
	}
}

// flush takes an unfinished line for a whole one.
func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.f(strings.TrimRight(string(w.rest), "\r"))
	}
	w.rest = nil
}

// makeDisks makes blank disks that take no space until they are written.
func (m *machine) makeDisks() error {
	for i := range m.disks {
		f, err := os.Create(m.file("disk" + strconv.Itoa(i)))
		if err != nil {
			return fmt.Errorf("make disk: %w", err)
		}
		err = f.Truncate(int64(m.diskMiB) << 20)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("make disk: %w", err)
		}
	}
	return nil
}

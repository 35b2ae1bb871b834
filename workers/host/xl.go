package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// XL drives Xen by the program xl (xl(1), Xen 4.17).
type XL struct {
	Path string   // of the binary; Debian's /usr/sbin/xl is a shell wrapper
	Dir  string   // for the files that `xl create` reads
	Lock *os.File // inherited by every xl: as long as one runs, the next agent cannot take this lock. May be nil
	// Logs is the directory of xl's own logs; /var/log/xen.
	Logs string
	// ReadTime bounds a call that changes nothing; 30 s.
	ReadTime time.Duration
	// Called is told of every call, just before it; may be nil.
	Called func(args []string)
}

var _ Toolstack = (*XL)(nil)

// ErrTool says that xl ended with an error; its text is in the message.
var ErrTool = errors.New("xl failed")

// readTime bounds a call that changes nothing.
const readTime = 30 * time.Second

// read runs a call that changes nothing. If xl dies of a signal, or hangs, it is called again: under software emulation a program's start
// crashes now and then, or waits for itself (seen: ld.so reads its thread pointer as 0; a futex that nobody holds).
func (x *XL) read(ctx context.Context, args ...string) (out []byte, err error) {
	limit := x.ReadTime
	if limit == 0 {
		limit = readTime
	}
	for range 4 {
		try, cancel := context.WithTimeout(ctx, limit)
		out, err = x.run(try, args...)
		cancel()
		var exit *exec.ExitError
		if err == nil || ctx.Err() != nil || !errors.As(err, &exit) || exit.Exited() {
			return out, err
		}
	}
	return out, err
}

func (x *XL) run(ctx context.Context, args ...string) ([]byte, error) {
	if x.Called != nil {
		x.Called(args)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, x.Path, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 5 * time.Second
	if x.Lock != nil {
		cmd.ExtraFiles = []*os.File{x.Lock}
	}
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(errs.String())
		return nil, fmt.Errorf("run xl %s: %w (%w): %s", args[0], ErrTool, err, text[max(0, len(text)-600):])
	}
	return out.Bytes(), nil
}

// Info asks the hypervisor.
func (x *XL) Info(ctx context.Context) (Info, error) {
	out, err := x.read(ctx, "info")
	if err != nil {
		return Info{}, err
	}
	info, err := ParseInfo(out)
	if err != nil {
		return Info{}, err
	}
	_, err = os.Stat(DeviceModel)
	info.DeviceModel = err == nil
	info.Dom0MiB, err = availableMiB("/proc/meminfo")
	return info, err
}

// availableMiB reads how much of this system's memory could still be used.
func availableMiB(path string) (int, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read memory of the control domain: %w", err)
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemAvailable:" {
			kib, err := strconv.ParseUint(f[1], 10, 40)
			return int(kib >> 10), err
		}
	}
	return 0, fmt.Errorf("read memory of the control domain: no MemAvailable: %w", errShape)
}

// List gives all domains with their weights. A weight that cannot be read is 0; a domain that cannot be read is an error.
func (x *XL) List(ctx context.Context) ([]Domain, error) {
	type answer struct {
		weights map[int]int
		err     error
	}
	ch := make(chan answer, 1)
	go func() {
		out, err := x.read(ctx, "sched-credit")
		if err != nil {
			ch <- answer{nil, err}
			return
		}
		w, err := ParseWeights(out)
		ch <- answer{w, err}
	}()
	out, err := x.read(ctx, "list", "-v")
	weights := <-ch
	if err != nil {
		return nil, err
	}
	all, err := ParseList(out)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Weight = weights.weights[all[i].DomID]
	}
	return all, nil
}

// Create writes the configuration and makes the domain, paused (-p), without a process that waits for its end (-e).
func (x *XL) Create(ctx context.Context, c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(x.Dir, 0o700); err != nil {
		return fmt.Errorf("make directory for configurations: %w", err)
	}
	file := filepath.Join(x.Dir, c.Name+".cfg")
	if err := os.WriteFile(file, []byte(c.Text()), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	_, err := x.run(ctx, "create", "-p", "-e", file)
	return err
}

// Act does one thing to a domain.
func (x *XL) Act(ctx context.Context, a Action, domid int) error {
	args := []string{string(a), strconv.Itoa(domid)}
	if a == ActShutdown { // an HVM guest without Xen's drivers gets its power button pressed
		args = []string{string(a), "-F", strconv.Itoa(domid)}
	}
	_, err := x.run(ctx, args...)
	if a == ActDestroy {
		_ = os.Remove(modelRoot(domid)) // an empty directory, if there is one
	}
	if err == nil || a != ActDestroy {
		return err
	}
	all, listErr := x.List(ctx)
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	for _, d := range all {
		if d.DomID == domid {
			return err
		}
	}
	return nil // it is gone, which is what was asked for
}

// SetMemory sets the balloon's target and the limit.
func (x *XL) SetMemory(ctx context.Context, domid, mib int) error {
	_, err := x.run(ctx, "mem-set", strconv.Itoa(domid), strconv.Itoa(mib)+"m")
	return err
}

// SetVCPUs tells the guest by xenstore, and an HVM domain's device model too.
func (x *XL) SetVCPUs(ctx context.Context, domid, vcpus int) error {
	_, err := x.run(ctx, "vcpu-set", strconv.Itoa(domid), strconv.Itoa(vcpus))
	return err
}

// SetWeight sets the weight of the credit scheduler, 1 to 65535.
func (x *XL) SetWeight(ctx context.Context, domid, weight int) error {
	_, err := x.run(ctx, "sched-credit", "-d", strconv.Itoa(domid), "-w", strconv.Itoa(weight))
	return err
}

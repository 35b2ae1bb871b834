package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/sysfs"
)

// DeviceModel is the program that emulates the machine of an HVM domain, where libxl looks for it. A host without it runs none.
const DeviceModel = "/usr/libexec/xen-qemu-system-i386"

// deviceModelName is its name as the kernel keeps it, cut to 15 bytes.
const deviceModelName = "xen-qemu-system"

// machine writes what an HVM domain has besides what all have. Its emulated devices are those that QEMU's machine cannot do without, and a
// serial port: no graphics, no network card, no USB. A guest with Xen's drivers sees Xen's devices beside them.
//
// dm_restrict runs the device model as a user of its own, without capabilities, in an empty root directory and namespaces for mounts and
// IPC of its own; the hypervisor lets its handles touch this one domain; no file that it writes grows beyond 256 KiB. Its system calls
// are not filtered (Debian's QEMU has no seccomp), its processor time is not bounded, and it shares dom0's network namespace, which as
// that user it cannot configure.
func (c Config) machine(b *strings.Builder) {
	if c.Kernel == "" {
		b.WriteString("boot = \"c\"\n")
	}
	b.WriteString("dm_restrict = 1\nvga = \"none\"\nvnc = 0\nsdl = 0\nvkb_device = 0\n")
	if c.Console == "" {
		return
	}
	file := strings.ReplaceAll(c.Console, ",", ",,")
	fmt.Fprintf(b, "serial = \"chardev:ce-console\"\ndevice_model_args_hvm = [ \"-chardev\", \"file,id=ce-console,append=on,path=%s\" ]\n", quote(file))
}

// seenMiB is the RAM of a domain as it was made with. Of an HVM domain's the hypervisor counts 128 KiB less: the hole below 1 MiB where a
// machine has its graphics memory.
func (d Domain) seenMiB(s Stamp) int {
	if s.Type == events.TypeHVM && d.MemoryMiB > 0 {
		return d.MemoryMiB + 1
	}
	return d.MemoryMiB
}

// lostModel says whether a domain's device model is gone, without which its guest hangs at the next access to a device.
func (o Observed) lostModel(d Domain, s Stamp) bool {
	return s.Type == events.TypeHVM && (d.State == events.DomainRunning || d.State == events.DomainPaused) && !slices.Contains(o.Models, d.DomID)
}

// leftModels lists the domains that are gone and whose device models are not: until they are, nothing is said of those domains' ends.
func (o Observed) leftModels() []int {
	var out []int
	for _, id := range o.Models {
		if !slices.ContainsFunc(o.Domains, func(d Domain) bool { return d.DomID == id }) {
			out = append(out, id)
		}
	}
	return out
}

// DeviceModels lists the domains that have a device model, by what the processes themselves were started with.
func (x *XL) DeviceModels(context.Context) ([]int, error) {
	var out []int
	err := eachModel(func(_, domid int) error {
		out = append(out, domid)
		return nil
	})
	slices.Sort(out)
	return slices.Compact(out), err
}

// EndModel kills the device models of a domain that is gone.
func (x *XL) EndModel(_ context.Context, domid int) error {
	return eachModel(func(pid, of int) error {
		if of != domid {
			return nil
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return nil // it has ended
		}
		defer unix.Close(fd)
		if again, ok := modelOf(pid); !ok || again != domid {
			return nil // the number is another program's by now
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end the device model of domain %d: %w", domid, err)
		}
		return nil
	})
}

func eachModel(do func(pid, domid int) error) error {
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	var errs []error
	for _, dir := range all {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if domid, ok := modelOf(pid); ok {
			errs = append(errs, do(pid, domid))
		}
	}
	return errors.Join(errs...)
}

// IsDeviceModel says whether a process is one, of whichever domain.
func IsDeviceModel(pid int) bool {
	_, ok := modelOf(pid)
	return ok
}

// modelOf says whose device model a process is. One that has ended and is not reaped yet has no arguments any more.
func modelOf(pid int) (domid int, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	name, err := sysfs.ReadFile(dir + "/comm")
	if err != nil || strings.TrimSpace(string(name)) != deviceModelName {
		return 0, false
	}
	raw, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return 0, false
	}
	args := bytes.Split(raw, []byte{0})
	for i := 0; i+1 < len(args); i++ {
		if string(args[i]) == "-xen-domid" {
			domid, err = strconv.Atoi(string(args[i+1]))
			return domid, err == nil
		}
	}
	return 0, false
}

// modelRoot is the empty directory that libxl makes for a device model and leaves behind.
func modelRoot(domid int) string { return "/run/xen/qemu-root-" + strconv.Itoa(domid) }

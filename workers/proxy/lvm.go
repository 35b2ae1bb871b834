package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/lvm2"
)

// LVM is Records in LVM's metadata, written by the program lvm (lvm(8)) and read without it. Each call sees one device only, activates nothing, and
// never speaks with device-mapper.
type LVM struct{}

// lvmConfig (lvm.conf(5)): no daemon, no udev, no backup files, nothing activated.
const lvmConfig = `global{activation=0 use_lvmlockd=0 use_lvmpolld=0 event_activation=0 locking_dir="/run/lock/lvm" system_id_source="none"}` +
	` devices{use_devicesfile=0 obtain_device_list_from_udev=0 external_device_info_source="none" scan_lvs=0 hints="none"}` +
	` activation{udev_sync=0 udev_rules=0 monitoring=0} backup{backup=0 archive=0} log{syslog=0}`

func groupName(id events.ArrayID) string { return "ce-" + strings.ReplaceAll(string(id), "-", "") }

// lvm runs one command of lvm on one device.
func lvm(ctx context.Context, device, command string, args ...string) ([]byte, error) {
	for _, dir := range []string{"/run/lock/lvm", "/run/lvm"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make folder of lvm: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, "lvm", append([]string{command, "--config", lvmConfig, "--devices", device}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1")
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := withUs(cmd); err != nil {
		return nil, fmt.Errorf("lvm %s: %w: %s", command, err, bytes.TrimSpace(problems.Bytes()))
	}
	return out.Bytes(), nil
}

// withUs runs a program that ends with this one: the next agent must not find one of its predecessor's still writing.
func withUs(cmd *exec.Cmd) error {
	runtime.LockOSThread() // the signal comes when the thread that started it ends
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}

// Read gives the records on a device, past all caches and without the program. A device without any is no error; one with those of another array
// is.
func (LVM) Read(_ context.Context, array events.ArrayID, device string) (Record, error) {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return Record{}, fmt.Errorf("read records: %w", err)
	}
	defer f.Close()
	g, err := lvm2.Read(past{f})
	if err != nil {
		return Record{}, fmt.Errorf("read records on %s: %w", device, err)
	}
	return recordOf(g, groupName(array))
}

// past reads a file into memory that is aligned as direct access needs it.
type past struct{ f *os.File }

func (p past) ReadAt(b []byte, at int64) (int, error) {
	const align = 4096
	whole := make([]byte, len(b)+align)
	skip := (align - int(uintptr(unsafe.Pointer(&whole[0]))%align)) % align
	n, err := p.f.ReadAt(whole[skip:skip+len(b)], at)
	return copy(b, whole[skip:skip+n]), err
}

var errGroup = errors.New("it is not the array's group")

// recordOf makes a record of a group; nil: there is none.
func recordOf(g *lvm2.Group, group string) (Record, error) {
	const sectorsInMiB = 2048
	switch {
	case g == nil:
		return Record{}, nil
	case g.Name != group:
		return Record{}, fmt.Errorf("read records of %s: there are those of %q: %w", group, g.Name, errGroup)
	case g.ExtentSectors%sectorsInMiB != 0 || g.StartSectors%sectorsInMiB != 0:
		return Record{}, fmt.Errorf("read records of %s: extents of %d sectors from %d: %w", group, g.ExtentSectors, g.StartSectors, lvm2.ErrDamaged)
	}
	r := Record{Found: true, ExtentMiB: int(g.ExtentSectors / sectorsInMiB), StartMiB: int(g.StartSectors / sectorsInMiB), Extents: int(g.Extents),
		Volumes: map[events.VolumeID][]events.Segment{}}
	for id, all := range g.Volumes {
		for _, s := range all {
			r.Volumes[events.VolumeID(id)] = append(r.Volumes[events.VolumeID(id)], events.Segment{Start: int(s.Start), Count: int(s.Count)})
		}
	}
	return r, nil
}

// Init makes the volume group. pvcreate refuses a device that others have open, or on which there is a volume group.
func (LVM) Init(ctx context.Context, array events.ArrayID, device string, startMiB, extentMiB int) error {
	if _, err := lvm(ctx, device, "pvcreate", "--yes", "--zero", "y", "--dataalignment", fmt.Sprintf("%dm", startMiB), device); err != nil {
		return err
	}
	_, err := lvm(ctx, device, "vgcreate", "--yes", "--physicalextentsize", fmt.Sprintf("%dm", extentMiB), groupName(array), device)
	return err
}

// Extend adds extents to a volume, segment by segment: with several at once LVM chooses their order itself. Extents that are taken are an
// error, so that it cannot be done twice.
func (LVM) Extend(ctx context.Context, array events.ArrayID, device string, v events.VolumeID, have int, more []events.Segment) error {
	for _, s := range join(more) {
		count, where := strconv.Itoa(s.Count), fmt.Sprintf("%s:%d-%d", device, s.Start, s.Start+s.Count-1)
		var err error
		if have > 0 {
			_, err = lvm(ctx, device, "lvextend", "--yes", "--alloc", "anywhere", "--extents", "+"+count, groupName(array)+"/"+string(v), where)
		} else {
			_, err = lvm(ctx, device, "lvcreate", "--yes", "--activate", "n", "--zero", "n", "--wipesignatures", "n", "--alloc", "anywhere",
				"--extents", count, "--name", string(v), groupName(array), where)
		}
		if err != nil {
			return err
		}
		have += s.Count
	}
	return nil
}

// Remove removes a volume's record; one that is not there is no error.
func (l LVM) Remove(ctx context.Context, array events.ArrayID, device string, v events.VolumeID) error {
	_, err := lvm(ctx, device, "lvremove", "--yes", "--force", groupName(array)+"/"+string(v))
	if err == nil {
		return nil
	}
	r, problem := l.Read(ctx, array, device)
	if _, there := r.Volumes[v]; problem == nil && r.Found && !there {
		return nil
	}
	return errors.Join(err, problem)
}

package throttle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/sysfs"
)

// Dir is where the throttle's control files are on a machine of ours.
const Dir = "/run/cloudengine/blkio"

// files are the control files, each with the field of the limits that it holds.
var files = []struct {
	name  string
	field func(*events.DiskLimits) *int64
}{
	{"blkio.throttle.read_bps_device", func(l *events.DiskLimits) *int64 { return &l.ReadBPS }},
	{"blkio.throttle.write_bps_device", func(l *events.DiskLimits) *int64 { return &l.WriteBPS }},
	{"blkio.throttle.read_iops_device", func(l *events.DiskLimits) *int64 { return &l.ReadIOPS }},
	{"blkio.throttle.write_iops_device", func(l *events.DiskLimits) *int64 { return &l.WriteIOPS }},
}

var (
	numberPattern = regexp.MustCompile(`^\d+:\d+$`)
	errShape      = errors.New("it has not the expected shape")
)

// Kernel is the throttle of this machine.
type Kernel struct{ dir string }

// Open mounts the throttle's control files at dir, unless they are there.
func Open(dir string) (*Kernel, error) {
	k := &Kernel{dir}
	_, err := os.Stat(filepath.Join(dir, files[0].name))
	if err == nil {
		return k, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for the block throttle: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("mount the block throttle: %w", err)
	}
	if err := unix.Mount("cgroup", dir, "cgroup", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "blkio"); err != nil {
		return nil, fmt.Errorf("mount the block throttle on %s: %w", dir, err)
	}
	if _, err := os.Stat(filepath.Join(dir, files[0].name)); err != nil {
		return nil, fmt.Errorf("look for the block throttle: %w", err)
	}
	return k, nil
}

// Limits gives the limits in force, by the number of the device (253:4). A device that is not among them has none.
func (k *Kernel) Limits(context.Context) (map[string]events.DiskLimits, error) {
	all := map[string]events.DiskLimits{}
	for _, f := range files {
		text, err := sysfs.ReadFile(filepath.Join(k.dir, f.name))
		if err != nil {
			return nil, fmt.Errorf("read limits: %w", err)
		}
		if err := parse(string(text), func(device string, n int64) {
			l := all[device]
			*f.field(&l) = n
			all[device] = l
		}); err != nil {
			return nil, fmt.Errorf("read %s: %w", f.name, err)
		}
	}
	return all, nil
}

// parse reads the lines of a control file: 253:4 1048576. What has no limit has no line.
func parse(text string, each func(device string, n int64)) error {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 2 || !numberPattern.MatchString(f[0]) {
			return fmt.Errorf("line %.80q: %w", line, errShape)
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || n < 1 {
			return fmt.Errorf("line %.80q: %w", line, errShape)
		}
		each(f[0], n)
	}
	return nil
}

// Set gives a device these limits, and no others. It can be done again; what waits in the throttle goes on under the new limits.
func (k *Kernel) Set(_ context.Context, device string, want events.DiskLimits) error {
	if !numberPattern.MatchString(device) {
		return fmt.Errorf("limit device %.40q: %w", device, errShape)
	}
	for _, f := range files {
		line := device + " " + strconv.FormatInt(*f.field(&want), 10) // 0 takes a limit away
		if err := os.WriteFile(filepath.Join(k.dir, f.name), []byte(line), 0); err != nil {
			return fmt.Errorf("limit device %s: %w", device, err)
		}
	}
	return nil
}

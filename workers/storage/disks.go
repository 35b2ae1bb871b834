package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"cloudengine/events"
	"cloudengine/workers/sysfs"
)

// Disk is a disk of this machine that may be given away.
type Disk struct {
	Name      string // vda
	DevNo     string // major:minor
	Serial    string
	Bytes     int64 // size
	Model     string
	Health    string // events.DiskHealthy …
	Signature Signature
}

// lioWWID begins the name of what another machine of ours exports: it is not this machine's disk.
var lioWWID = "naa." + events.NAA("")

// disks finds the disks in sysfs (Documentation/ABI/testing/sysfs-block, Documentation/admin-guide/abi). No disk are: what has no device
// behind it (loop, ram, dm, md), what can be taken out, what is hidden or of another machine, what is mounted, and what says no serial
// number, as it could not be told from another one; nor are two that say the same.
func disks(root string) ([]Disk, error) {
	block := filepath.Join("/", root, "sys/block")
	entries, err := os.ReadDir(block)
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	used, err := mounted(root)
	if err != nil {
		return nil, err
	}
	var out []Disk
	count := map[string]int{}
	for _, e := range entries {
		d, ok := disk(filepath.Join(block, e.Name()))
		if ok && !inUse(filepath.Join(block, e.Name()), d, used) {
			out = append(out, d)
			count[d.Serial]++
		}
	}
	return slices.DeleteFunc(out, func(d Disk) bool { return count[d.Serial] > 1 }), nil
}

// disk reads one directory of /sys/block.
func disk(dir string) (Disk, bool) {
	if _, err := os.Stat(filepath.Join(dir, "device")); err != nil {
		return Disk{}, false
	}
	if attr(dir, "hidden") == "1" || attr(dir, "removable") == "1" || strings.HasPrefix(attr(dir, "device/wwid"), lioWWID) {
		return Disk{}, false
	}
	sectors, err := strconv.ParseInt(attr(dir, "size"), 10, 64) // of 512 bytes, whatever the disk's are
	d := Disk{
		Name: filepath.Base(dir), DevNo: attr(dir, "dev"), Serial: serialOf(dir), Bytes: 512 * sectors,
		Model: attr(dir, "device/model"), Health: healthOf(dir),
	}
	if err != nil || sectors <= 0 || d.DevNo == "" || d.Serial == "" {
		return Disk{}, false
	}
	return d, true
}

// attr reads an attribute; one that is not there is empty.
func attr(dir, name string) string {
	text, err := sysfs.Read(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return clean(text)
}

const maxText = 64 // bytes of a serial number or a model in a report

// clean leaves text that can be shown and compared; what has other characters or is too long is none.
func clean(s string) string {
	s = strings.Trim(s, " \t\r\n\x00")
	for _, r := range s {
		if r < ' ' || r > '~' {
			return ""
		}
	}
	if len(s) > maxText {
		return ""
	}
	return s
}

// serialOf looks where virtio, NVMe and SCSI have it; SCSI's is page 0x80 of the vital product data: four bytes, then the number.
func serialOf(dir string) string {
	for _, name := range []string{"serial", "device/serial"} {
		if s := attr(dir, name); s != "" {
			return s
		}
	}
	b, err := sysfs.ReadFile(filepath.Join(dir, "device/vpd_pg80"))
	if err != nil || len(b) < 4 || b[1] != 0x80 {
		return ""
	}
	return clean(string(b[4:]))
}

// healthOf says what the kernel itself knows: that a disk is offline. A disk's own opinion (SMART) is not asked for.
func healthOf(dir string) string {
	switch attr(dir, "device/state") {
	case "offline", "transport-offline", "dead":
		return events.DiskFailing
	}
	return events.DiskUnknown
}

// mounted lists the numbers of devices with file systems that are in use (proc(5), mountinfo).
func mounted(root string) (map[string]bool, error) {
	b, err := os.ReadFile(filepath.Join("/", root, "proc/self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	out := map[string]bool{}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 2 {
			out[f[2]] = true
		}
	}
	return out, nil
}

// inUse says whether a disk or one of its partitions is mounted: the machine lives on it.
func inUse(dir string, d Disk, used map[string]bool) bool {
	if used[d.DevNo] {
		return true
	}
	parts, err := filepath.Glob(filepath.Join(dir, d.Name+"*", "dev"))
	if err != nil && !errors.Is(err, filepath.ErrBadPattern) {
		return true
	}
	for _, p := range parts {
		if used[attr(filepath.Dir(p), "dev")] {
			return true
		}
	}
	return false
}

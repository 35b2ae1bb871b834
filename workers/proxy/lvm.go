package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"

	"cloudengine/events"
)

// LVM is Records by the program lvm (lvm(8)). Each call sees one device only, activates nothing, and never speaks with device-mapper.
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
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("lvm %s: %w: %s", command, err, bytes.TrimSpace(problems.Bytes()))
	}
	return out.Bytes(), nil
}

// rows reads a report in JSON form (lvmreport(7)): one list of rows of texts.
func rows(out []byte) ([]map[string]string, error) {
	var r struct {
		Report []map[string][]map[string]string `json:"report"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, fmt.Errorf("read report of lvm: %w", err)
	}
	var all []map[string]string
	for _, part := range r.Report {
		for _, list := range part {
			all = append(all, list...)
		}
	}
	return all, nil
}

var errReport = errors.New("the report of lvm is not understood")

// Read gives the records on a device. A device without any is no error; one with those of another array is.
func (LVM) Read(ctx context.Context, array events.ArrayID, device string) (Record, error) {
	out, err := lvm(ctx, device, "pvs", "--all", "--reportformat", "json", "--units", "b", "--nosuffix",
		"-o", "pv_name,vg_name,pe_start,vg_extent_size,pv_pe_count")
	if err != nil {
		return Record{}, err
	}
	all, err := rows(out)
	if err != nil {
		return Record{}, err
	}
	if len(all) != 1 || all[0]["pv_name"] != device {
		return Record{}, fmt.Errorf("find %s: %w: %s", device, errReport, out)
	}
	pv := all[0]
	if pv["vg_name"] == "" {
		return Record{}, nil
	}
	if pv["vg_name"] != groupName(array) {
		return Record{}, fmt.Errorf("read records of array %s: there are those of group %s", array, pv["vg_name"])
	}
	r := Record{Found: true, Volumes: map[events.VolumeID][]events.Segment{}}
	for _, x := range []struct {
		name string
		to   *int
		unit int
	}{{"pe_start", &r.StartMiB, 1 << 20}, {"vg_extent_size", &r.ExtentMiB, 1 << 20}, {"pv_pe_count", &r.Extents, 1}} {
		n, err := strconv.Atoi(pv[x.name])
		if err != nil || n%x.unit != 0 {
			return Record{}, fmt.Errorf("read %s: %w: %q", x.name, errReport, pv[x.name])
		}
		*x.to = n / x.unit
	}
	out, err = lvm(ctx, device, "lvs", "--all", "--segments", "--reportformat", "json", "-o", "lv_name,seg_start_pe,seg_pe_ranges", groupName(array))
	if err != nil {
		return Record{}, err
	}
	return r, r.read(out)
}

// read adds the segments of a report of lvs.
func (r *Record) read(out []byte) error {
	all, err := rows(out)
	if err != nil {
		return err
	}
	at := func(row map[string]string) int {
		n, err := strconv.Atoi(row["seg_start_pe"])
		if err != nil {
			return -1
		}
		return n
	}
	sort.SliceStable(all, func(i, j int) bool { return at(all[i]) < at(all[j]) })
	for _, row := range all {
		_, ranges, ok := strings.Cut(row["seg_pe_ranges"], ":")
		var first, last int
		if n, err := fmt.Sscanf(ranges, "%d-%d", &first, &last); !ok || err != nil || n != 2 || last < first || at(row) < 0 {
			return fmt.Errorf("read segments of %s: %w: %q", row["lv_name"], errReport, row["seg_pe_ranges"])
		}
		id := events.VolumeID(row["lv_name"])
		if at(row) != total(r.Volumes[id]) {
			return fmt.Errorf("read segments of %s: %w: there is a hole", id, errReport)
		}
		r.Volumes[id] = append(r.Volumes[id], events.Segment{Start: first, Count: last - first + 1})
	}
	return nil
}

// Init makes the volume group. pvcreate refuses a device that others have open, or on which there is a volume group.
func (LVM) Init(ctx context.Context, array events.ArrayID, device string, startMiB, extentMiB int) error {
	if _, err := lvm(ctx, device, "pvcreate", "--yes", "--zero", "y", "--dataalignment", fmt.Sprintf("%dm", startMiB), device); err != nil {
		return err
	}
	_, err := lvm(ctx, device, "vgcreate", "--yes", "--physicalextentsize", fmt.Sprintf("%dm", extentMiB), groupName(array), device)
	return err
}

// Extend adds extents to a volume, segment by segment: with several at once LVM chooses their order itself.
func (l LVM) Extend(ctx context.Context, array events.ArrayID, device string, v events.VolumeID, have int, more []events.Segment) error {
	r, err := l.Read(ctx, array, device)
	if err != nil {
		return err
	}
	if n := total(r.Volumes[v]); n != have {
		return fmt.Errorf("extend record of volume %s: %w: it has %d extents, not %d", v, errChanged, n, have)
	}
	there := have > 0
	for _, s := range join(more) {
		count, where := strconv.Itoa(s.Count), fmt.Sprintf("%s:%d-%d", device, s.Start, s.Start+s.Count-1)
		if there {
			_, err = lvm(ctx, device, "lvextend", "--yes", "--alloc", "anywhere", "--extents", "+"+count, groupName(array)+"/"+string(v), where)
		} else {
			_, err = lvm(ctx, device, "lvcreate", "--yes", "--activate", "n", "--zero", "n", "--wipesignatures", "n", "--alloc", "anywhere",
				"--extents", count, "--name", string(v), groupName(array), where)
		}
		if err != nil {
			return err
		}
		there = true
	}
	return nil
}

// Remove removes a volume's record; one that is not there is no error.
func (l LVM) Remove(ctx context.Context, array events.ArrayID, device string, v events.VolumeID) error {
	r, err := l.Read(ctx, array, device)
	if err != nil {
		return err
	}
	if _, there := r.Volumes[v]; !there {
		return nil
	}
	_, err = lvm(ctx, device, "lvremove", "--yes", "--force", groupName(array)+"/"+string(v))
	return err
}

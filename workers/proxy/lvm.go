package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"

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

// fields of pvs (pvs(8)): one row for each run of extents, free ones too.
const fields = "pv_name,vg_name,pe_start,vg_extent_size,pv_pe_count,lv_name,seg_start_pe,pvseg_start,pvseg_size"

// Read gives the records on a device. A device without any is no error; one with those of another array is.
func (LVM) Read(ctx context.Context, array events.ArrayID, device string) (Record, error) {
	out, err := lvm(ctx, device, "pvs", "--segments", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", fields)
	if err != nil {
		return Record{}, err
	}
	all, err := rows(out)
	if err != nil {
		return Record{}, err
	}
	if len(all) == 0 || all[0]["vg_name"] == "" {
		return Record{}, empty(ctx, device)
	}
	return parseRecord(all, device, groupName(array))
}

// empty makes sure that LVM sees a device, and no volume group on it.
func empty(ctx context.Context, device string) error {
	out, err := lvm(ctx, device, "pvs", "--all", "--reportformat", "json", "-o", "pv_name,vg_name")
	if err != nil {
		return err
	}
	all, err := rows(out)
	if err != nil {
		return err
	}
	if len(all) != 1 || all[0]["pv_name"] != device || all[0]["vg_name"] != "" {
		return fmt.Errorf("find %s: %w: %s", device, errReport, out)
	}
	return nil
}

// parseRecord reads rows of fields.
func parseRecord(all []map[string]string, device, group string) (Record, error) {
	r := Record{Found: true, Volumes: map[events.VolumeID][]events.Segment{}}
	number := func(row map[string]string, name string) int {
		n, err := strconv.Atoi(row[name])
		if err != nil {
			return -1
		}
		return n
	}
	sort.SliceStable(all, func(i, j int) bool { return number(all[i], "seg_start_pe") < number(all[j], "seg_start_pe") })
	for _, row := range all {
		if row["pv_name"] != device || row["vg_name"] != group {
			return Record{}, fmt.Errorf("read records of %s: there are those of %q on %q", group, row["vg_name"], row["pv_name"])
		}
		start, size, extents := number(row, "pe_start"), number(row, "vg_extent_size"), number(row, "pv_pe_count")
		if start < 0 || size <= 0 || extents < 0 || start%(1<<20) != 0 || size%(1<<20) != 0 {
			return Record{}, fmt.Errorf("read records of %s: %w: %v", group, errReport, row)
		}
		r.StartMiB, r.ExtentMiB, r.Extents = start>>20, size>>20, extents
		id := events.VolumeID(row["lv_name"])
		if id == "" {
			continue // nobody's
		}
		s := events.Segment{Start: number(row, "pvseg_start"), Count: number(row, "pvseg_size")}
		if s.Start < 0 || s.Count <= 0 || number(row, "seg_start_pe") != total(r.Volumes[id]) {
			return Record{}, fmt.Errorf("read segments of %s: %w: %v", id, errReport, row)
		}
		r.Volumes[id] = append(r.Volumes[id], s)
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

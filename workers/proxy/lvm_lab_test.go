//go:build lab

package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"

	"cloudengine/events"
)

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

// ReadByProgram gives the records on a device as the program lvm tells them.
func ReadByProgram(ctx context.Context, array events.ArrayID, device string) (Record, error) {
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

// SameRecord compares records; runs of extents that follow each other are one.
func SameRecord(a, b Record) bool {
	if a.Found != b.Found || a.StartMiB != b.StartMiB || a.ExtentMiB != b.ExtentMiB || a.Extents != b.Extents || len(a.Volumes) != len(b.Volumes) {
		return false
	}
	for id, all := range a.Volumes {
		if !equal(all, b.Volumes[id]) {
			return false
		}
	}
	return true
}

package proxy

import (
	"strings"
	"testing"

	"cloudengine/events"
)

const report = `{"report":[{"pvseg":[
{"pv_name":"/dev/mapper/x","vg_name":"ce-0011","pe_start":"4194304","vg_extent_size":"4194304","pv_pe_count":"15","lv_name":"v2","seg_start_pe":"2","pvseg_start":"0","pvseg_size":"1"},
{"pv_name":"/dev/mapper/x","vg_name":"ce-0011","pe_start":"4194304","vg_extent_size":"4194304","pv_pe_count":"15","lv_name":"v1","seg_start_pe":"0","pvseg_start":"1","pvseg_size":"4"},
{"pv_name":"/dev/mapper/x","vg_name":"ce-0011","pe_start":"4194304","vg_extent_size":"4194304","pv_pe_count":"15","lv_name":"","seg_start_pe":"0","pvseg_start":"5","pvseg_size":"4"},
{"pv_name":"/dev/mapper/x","vg_name":"ce-0011","pe_start":"4194304","vg_extent_size":"4194304","pv_pe_count":"15","lv_name":"v2","seg_start_pe":"0","pvseg_start":"9","pvseg_size":"2"}]}]}`

func TestReportOfLVM(t *testing.T) {
	all, err := rows([]byte(report))
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseRecord(all, "/dev/mapper/x", "ce-0011")
	if err != nil || !r.Found || r.StartMiB != 4 || r.ExtentMiB != 4 || r.Extents != 15 || len(r.Volumes) != 2 {
		t.Fatalf("got %+v, %v", r, err)
	}
	if !equal(r.Volumes["v2"], []events.Segment{{Start: 9, Count: 2}, {Start: 0, Count: 1}}) || !equal(r.Volumes["v1"], []events.Segment{{Start: 1, Count: 4}}) {
		t.Errorf("got %+v", r.Volumes)
	}
	for _, bad := range []string{
		strings.Replace(report, `"seg_start_pe":"2"`, `"seg_start_pe":"3"`, 1), // a hole
		strings.Replace(report, `"pe_start":"4194304"`, `"pe_start":"1000"`, 1),
		strings.Replace(report, `"vg_name":"ce-0011"`, `"vg_name":"other"`, 1),
		strings.Replace(report, `"pvseg_size":"4"`, `"pvseg_size":""`, 1),
	} {
		all, err := rows([]byte(bad))
		if err != nil {
			t.Fatal(err)
		}
		if r, err := parseRecord(all, "/dev/mapper/x", "ce-0011"); err == nil {
			t.Errorf("taken: %+v", r)
		}
	}
	if _, err := rows([]byte("WARNING")); err == nil {
		t.Error("what is no report is taken")
	}
}

func TestSegments(t *testing.T) {
	all := []events.Segment{{Start: 5, Count: 3}, {Start: 8, Count: 2}, {Start: 0, Count: 1}}
	if !equal(all, []events.Segment{{Start: 5, Count: 5}, {Start: 0, Count: 1}}) || equal(all, all[:2]) || total(all) != 6 {
		t.Error("joined wrongly")
	}
	for n := range 8 {
		if got := append(first(all, n), after(all, n)...); !equal(got, all) || total(first(all, n)) != min(n, 6) {
			t.Errorf("cut at %d: %v", n, got)
		}
	}
	if !meets(all, []events.Segment{{Start: 9, Count: 1}}) || meets(all, []events.Segment{{Start: 1, Count: 4}, {Start: 10, Count: 9}}) {
		t.Error("meets is wrong")
	}
}

package path

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cloudengine/events"
	"cloudengine/workers/dm"
)

func TestTableOfAMap(t *testing.T) {
	got := printTable(multipathTable(64*mib, []string{"8:0", "8:16"}))
	want := "0 131072 multipath 3 queue_if_no_path pg_init_retries 50 1 alua 2 1 service-time 0 1 2 8:0 1 1 service-time 0 1 2 8:16 1 1"
	if got != want {
		t.Errorf("got %s", got)
	}
}

func TestStatusOfAMap(t *testing.T) {
	for status, want := range map[string][]Path{
		"2 0 0 0 2 1 E 0 1 2 8:0 A 0 0 1 E 0 1 2 8:16 F 3 0 1": {{"8:0", true}, {"8:16", false}},
		"2 1 0 1 alua 1 1 A 0 2 0 8:0 F 1 8:16 A 0":            {{"8:0", false}, {"8:16", true}},
		"2 0 0 0 0 1": nil,
	} {
		got, err := parsePaths(status)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", status, got, err)
		}
	}
	for _, bad := range []string{"", "2 0", "x", "2 0 0 0 2 1 E 0 1 2 8:0 A 0 0 1",
		"2 0 0 0 1 1 E 0 1 -2 8:0 A 0", "2 0 0 0 999 1 E 0 1 2 8:0 A 0 0 1",
	} {
		if _, err := parsePaths(bad); !errors.Is(err, errTable) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestTablesOfVolumes: every sector of a disk lies where its segments say, in their order, and a table that was written is read again.
func TestTablesOfVolumes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := disk(vol1, arrayA)
		var where []uint64 // of each extent
		for range rapid.IntRange(1, 5).Draw(t, "segments") {
			s := events.Segment{Start: rapid.IntRange(0, 20).Draw(t, "start"), Count: rapid.IntRange(1, 3).Draw(t, "count")}
			d.Segments = append(d.Segments, s)
			for i := range s.Count {
				where = append(where, 2048*uint64(1+4*(s.Start+i)))
			}
		}
		table, needs, err := volumeTable(d, "253:0")
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range where {
			sector := uint64(i) * 4 * 2048
			k := slices.IndexFunc(table, func(l Line) bool { return l.Start <= sector && sector < l.Start+l.Length })
			_, from, ok := linear(table[k])
			if got := from + sector - table[k].Start; !ok || got != want {
				t.Fatalf("extent %d lies at %d, want %d: %s", i, got, want, printTable(table))
			}
			if end := int64(want+4*2048) * 512; end > needs {
				t.Fatalf("needs %d, ends at %d", needs, end)
			}
		}
		if diskBytes(d) != int64(len(where))*4*mib {
			t.Fatalf("%d bytes", diskBytes(d))
		}
		again, err := parseTable(printTable(table))
		if err != nil || !slices.Equal(again, table) {
			t.Fatalf("read again: %v, %v", again, err)
		}
		more := d
		more.Segments = append(slices.Clone(d.Segments), events.Segment{Start: rapid.IntRange(0, 30).Draw(t, "more"), Count: 1})
		if larger, _, _ := volumeTable(more, "253:0"); !grows(table, larger) || grows(larger, table) {
			t.Fatalf("%s does not grow to %s", printTable(table), printTable(larger))
		}
	})
}

func TestNames(t *testing.T) {
	if v, ok := VolumeOfPath(VolumePath(vol1)); !ok || v != vol1 {
		t.Errorf("%s, %t", v, ok)
	}
	for _, bad := range []string{"/dev/vda", "/dev/mapper/ce-", "/dev/mapper/ce-mp-x", "/dev/mapper/ce-a/b", "/dev/mapper/x"} {
		if _, ok := VolumeOfPath(bad); ok {
			t.Errorf("%s is taken for a volume's", bad)
		}
	}
}

func TestMappedTellsWhatDevicesAreMadeOf(t *testing.T) {
	seen := Observed{Devices: []Device{
		{UUID: MapUUID("a1"), DevNo: "253:0"},
		{UUID: VolumeUUID("v2"), DevNo: "253:2", Unsettled: true},
		{UUID: VolumeUUID("v1"), DevNo: "253:1", Open: 2, Table: []Line{dm.Linear(0, 8, "253:0", 16), dm.Linear(8, 8, "9:9", 32)}},
	}}
	want := []events.MappedReport{
		{Volume: "v1", Open: 2, Lines: []events.MappedLine{{Array: "a1", From: 16, Sectors: 8}, {From: 32, Sectors: 8}}},
		{Volume: "v2", Unsettled: true, Lines: []events.MappedLine{}},
	}
	if got := mapped(seen); !reflect.DeepEqual(got, want) {
		t.Errorf("told is %+v, want %+v", got, want)
	}
	if got := mapped(Observed{}); got == nil {
		t.Error("a host without volumes tells nothing, as an agent that does not know the question")
	}
}

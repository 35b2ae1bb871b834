package verify_test

import (
	"slices"
	"testing"

	"cloudengine/events"
	"cloudengine/projections/verify"
)

const (
	data  = "00000000-0000-4000-8000-0000000000a2"
	left  = "00000000-0000-4000-8000-0000000000a3"
	other = events.VolumeID("00000000-0000-4000-8000-0000000000a4")
)

// mappedWorld is the storage world, whose host is on the fabric and runs a VM with a volume; beside it is a volume that nobody uses.
func mappedWorld(t *testing.T) (*world, map[events.MachineID]verify.LiveStorage) {
	w, live := storageWorld(t)
	w.on(events.KindFabric, "f", events.FabricJoined{Machine: host, MAC: "m", Address: "10.0.0.9"})
	for id, segments := range map[string][]events.Segment{data: {{Start: 0, Count: 2}, {Start: 2, Count: 1}, {Start: 5, Count: 1}}, left: {{Start: 3, Count: 1}}} {
		w.on(events.KindVolume, id, events.VolumeCreated{Name: id, Account: account, Pool: "p", Array: gold1, Segments: segments})
		w.on(events.KindVolume, id, events.VolumeReady{})
	}
	w.on(events.KindVolume, data, events.VolumeAttached{VM: web, Slot: "xvda"})
	proxy := live[proxy1]
	proxy.Seen.Arrays[0].Ready = []events.VolumeID{data, left}
	live[host] = verify.LiveStorage{Boot: boot,
		Seen: events.StorageReport{Paths: []events.PathReport{{Array: gold1, Paths: 2, Usable: 1}}},
		Maps: []events.MappedReport{{Volume: data, Open: 1, Lines: []events.MappedLine{{Array: gold1, From: 0, Sectors: 3 * 8192}, {Array: gold1, From: 5 * 8192, Sectors: 8192}}}}}
	return w, live
}

func TestMapsAsTheLogSays(t *testing.T) {
	w, live := mappedWorld(t)
	if ids := w.c.StorageMachines(); !slices.Contains(ids, host) {
		t.Errorf("asked are %v", ids)
	}
	if found := w.c.LiveStorage(live); len(found) > 0 {
		t.Errorf("found %+v", found)
	}
}

func TestFaultsOfMapsAreFound(t *testing.T) {
	for _, c := range []struct {
		check    string
		severity verify.Severity
		plant    func(h *verify.LiveStorage, proxy *events.ArrayReport)
	}{
		{"maps_unknown", verify.Unknown, func(h *verify.LiveStorage, _ *events.ArrayReport) { h.Maps = nil }},
		{"map_unknown", verify.Wrong, func(h *verify.LiveStorage, _ *events.ArrayReport) {
			h.Maps = append(h.Maps, events.MappedReport{Volume: other})
		}},
		{"map_short", verify.Wrong, func(h *verify.LiveStorage, _ *events.ArrayReport) { h.Maps[0].Lines = h.Maps[0].Lines[:1] }},
		{"map_other", verify.Critical, func(h *verify.LiveStorage, _ *events.ArrayReport) { h.Maps[0].Lines[1].From = 3 * 8192 }},
		{"map_other", verify.Critical, func(h *verify.LiveStorage, _ *events.ArrayReport) { h.Maps[0].Lines[1].Array = "" }},
		{"map_other", verify.Critical, func(h *verify.LiveStorage, _ *events.ArrayReport) { h.Maps[0].Lines[1].Sectors++ }},
		{"map_unsettled", verify.Wrong, func(h *verify.LiveStorage, _ *events.ArrayReport) { h.Maps[0].Unsettled = true }},
		{"map_open", verify.Critical, func(h *verify.LiveStorage, _ *events.ArrayReport) {
			h.Maps = append(h.Maps, events.MappedReport{Volume: left, Open: 1, Lines: []events.MappedLine{{Array: gold1, From: 3 * 8192, Sectors: 8192}}})
		}},
		{"map_left", verify.Wrong, func(h *verify.LiveStorage, _ *events.ArrayReport) {
			h.Maps = append(h.Maps, events.MappedReport{Volume: left, Lines: []events.MappedLine{{Array: gold1, From: 3 * 8192, Sectors: 8192}}})
		}},
		{"map_missing", verify.Wrong, func(h *verify.LiveStorage, _ *events.ArrayReport) { h.Maps = []events.MappedReport{} }},
		{"no_path", verify.Wrong, func(h *verify.LiveStorage, _ *events.ArrayReport) { h.Seen.Paths[0].Usable = 0 }},
		{"record_missing", verify.Wrong, func(_ *verify.LiveStorage, p *events.ArrayReport) { p.Ready = p.Ready[:1] }},
	} {
		w, live := mappedWorld(t)
		h := live[host]
		c.plant(&h, &live[proxy1].Seen.Arrays[0])
		live[host] = h
		found := w.c.LiveStorage(live)
		if len(found) != 1 || found[0].Check != c.check || found[0].Severity != c.severity || found[0].Next == "" {
			t.Errorf("%s alone is not found: %+v", c.check, found)
		}
	}
}

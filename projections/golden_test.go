package projections

import (
	"testing"

	"cloudengine/events"
)

// TestGoldenVolumesAreCounted: on their array and in their pool as any volume, and to no account. Why one failed is shown until it is tried again.
func TestGoldenVolumesAreCounted(t *testing.T) {
	x := given(t).on(events.KindMachine, "n", events.MachineAdded{Name: "node1"}).
		on(events.KindFabric, "f", events.FabricCreated{Name: "san"}).
		on(events.KindPool, "p", events.PoolCreated{Name: "gold", Fabric: "f", Redundancy: 2, ExtentMiB: 4}).
		on(events.KindDisk, "d", events.DiskFound{Node: "n", Serial: "s"}).
		on(events.KindArray, "a", events.ArrayCreated{Name: "gold1", Pool: "p", Legs: []events.Leg{{Disk: "d", Node: "n"}}, Extents: 10}).
		on(events.KindVolume, "g", events.GoldenCreated{Name: "debian@gold1", Pool: "p", Array: "a", Template: "t", SourceBytes: 512, Segments: []events.Segment{{Start: 2, Count: 3}}})
	row := func() *Volume { return x.rows[volumeTable]["g"].(*Volume) }
	free := func() [2]int64 {
		return [2]int64{x.rows[arrayTable]["a"].(*Array).FreeMiB, x.rows[poolTable]["p"].(*Pool).FreeMiB}
	}
	if v := row(); !v.Golden || v.Account != nil || v.State != VolumeMaking || v.SizeMiB != 12 || free() != [2]int64{28, 28} || x.rows[arrayTable]["a"].(*Array).Volumes != 1 {
		t.Fatalf("golden %+v, free %v", v, free())
	}
	x.on(events.KindVolume, "g", events.VolumeFillFailed{Message: "cut off"})
	if v := row(); v.State != VolumeFailed || v.Message == nil || *v.Message != "cut off" {
		t.Fatalf("it failed: %+v", v)
	}
	x.on(events.KindVolume, "g", events.VolumeFillRetried{})
	if v := row(); v.State != VolumeMaking || v.Message != nil {
		t.Fatalf("it is tried again: %+v", v)
	}
	x.on(events.KindVolume, "g", events.VolumeReady{}).on(events.KindVolume, "g", events.VolumeDeleted{})
	x.on(events.KindVolume, "g", events.VolumeWiped{})
	if free() != [2]int64{40, 40} || x.rows[arrayTable]["a"].(*Array).Volumes != 0 {
		t.Fatalf("free %v", free())
	}
}

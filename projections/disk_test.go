package projections

import (
	"testing"
	"time"

	"cloudengine/events"
)

func TestADiskIsWipingUntilItIsReleased(t *testing.T) {
	x := given(t).on(events.KindMachine, "n", events.MachineAdded{Name: "node1"}).
		on(events.KindFabric, "f", events.FabricCreated{Name: "san"}).
		on(events.KindPool, "p", events.PoolCreated{Name: "gold", Fabric: "f", Redundancy: 2, ExtentMiB: 4}).
		on(events.KindDisk, "d", events.DiskFound{Node: "n", Serial: "s"}).
		on(events.KindArray, "a", events.ArrayCreated{Name: "gold1", Pool: "p", Legs: []events.Leg{{Disk: "d", Node: "n"}}, Extents: 10})
	disk := func() *Disk { return x.rows[diskTable]["d"].(*Disk) }
	if d := disk(); d.Wiping != nil || d.ArrayName == nil {
		t.Fatalf("a leg is %+v", d)
	}
	x.on(events.KindArray, "a", events.ArrayDeleted{Wipe: true})
	if d := disk(); d.Wiping == nil || *d.Wiping != "gold1" || d.Array != nil {
		t.Fatalf("a leg of a deleted array is %+v", d)
	}
	x.on(events.KindDisk, "d", events.DiskReleased{Node: "n", Array: "a", Wiped: true})
	if d := disk(); d.Wiping != nil {
		t.Fatalf("a wiped disk is %+v", d)
	}
}

func TestAnArrayIsDegradedSinceItsFirstLegWasMissing(t *testing.T) {
	x := given(t).on(events.KindMachine, "n", events.MachineAdded{Name: "node1"}).
		on(events.KindFabric, "f", events.FabricCreated{Name: "san"}).
		on(events.KindPool, "p", events.PoolCreated{Name: "gold", Fabric: "f", Redundancy: 2, ExtentMiB: 4}).
		on(events.KindDisk, "d", events.DiskFound{Node: "n", Serial: "s"}).
		on(events.KindArray, "a", events.ArrayCreated{Name: "gold1", Pool: "p", Legs: []events.Leg{{Disk: "d", Node: "n"}}, Extents: 10})
	since := func(degraded int) *time.Time {
		x.on(events.KindArray, "a", events.ArrayObserved{State: events.ArrayActive, Degraded: degraded})
		return x.rows[arrayTable]["a"].(*Array).DegradedAt
	}
	if s := since(0); s != nil {
		t.Fatalf("a whole array is degraded since %s", s)
	}
	first := since(1)
	if first == nil {
		t.Fatal("a degraded array is degraded since never")
	}
	if s := since(2); s == nil || !s.Equal(*first) {
		t.Errorf("it is degraded since %v, not %s", s, first)
	}
	if s := since(0); s != nil {
		t.Errorf("whole again, it is degraded since %s", s)
	}
}

package projections

import (
	"testing"

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

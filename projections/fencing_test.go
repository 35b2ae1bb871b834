package projections

import (
	"testing"

	"cloudengine/events"
)

// TestFencingIsShown: which legs are not closed yet, and who may hold the array still.
func TestFencingIsShown(t *testing.T) {
	x := given(t).on(events.KindFabric, "f", events.FabricCreated{Name: "san"})
	one := epoch(1)
	x.on(events.KindPool, "p", events.PoolCreated{Name: "gold", Fabric: "f", Redundancy: 2, ExtentMiB: 4})
	x.on(events.KindArray, "a", events.ArrayCreated{Name: "gold1", Pool: "p", Extents: 10})
	x.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p1", Boot: "b", Epoch: one})
	fencing := func() string { return string(x.rows[arrayTable]["a"].(*Array).Fencing) }
	off := func() string { return string(x.rows[arrayTable]["a"].(*Array).FencedOff) }
	x.on(events.KindArray, "a", events.ArrayFencingBegan{Epoch: one, Legs: []events.FencingLeg{{Disk: "d1", Serial: "s1", Node: "n1", NodeName: "node1"}}})
	open, closed := `[{"serial":"s1","node":"node1","closed":false,"disk":"d1"}]`, `[{"serial":"s1","node":"node1","closed":true,"disk":"d1"}]`
	if fencing() != open {
		t.Fatal(fencing())
	}
	x.on(events.KindArray, "a", events.ArrayLegFenced{Epoch: one, Disk: "d1", Node: "n1"})
	if fencing() != closed {
		t.Fatal(fencing())
	}
	x.on(events.KindArray, "a", events.ArrayLegUnfenced{Epoch: one, Disk: "d1", Node: "n1"})
	if fencing() != open {
		t.Fatal(fencing())
	}
	x.on(events.KindArray, "a", events.ArrayOwnerEnded{Proxy: "p1", Boot: "b", Epoch: one, Proof: events.ProofFenced})
	if fencing() != "" || off() != `["p1"]` {
		t.Fatal(fencing(), off())
	}
	x.on(events.KindArray, "a", events.ArrayFencedOwnerGone{Proxy: "p1", Boot: "b", Epoch: one})
	if off() != "" {
		t.Fatal(off())
	}
}

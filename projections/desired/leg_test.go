package desired_test

import (
	"testing"

	"cloudengine/events"
	document "cloudengine/events/desired"
)

// TestI8AReplacementInDocuments: from its beginning on the owner, and nobody else, is given the new disk too; in the end the old one is given to
// nobody, and wiped.
func TestI8AReplacementInDocuments(t *testing.T) {
	c := newStorageCloud(t)
	c.on(events.KindDisk, "d3", events.DiskFound{Node: "n1", Serial: "s3"})
	c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p1", Boot: "p1-1", Epoch: events.Epoch{Term: 1, Counter: 1}})
	c.on(events.KindArray, "a", events.ArrayLegReplacing{Slot: 0, Old: "d1", New: "d3", Node: "n1"})
	a := c.want("p1", document.Active)
	if len(a.Legs) != 2 || a.Legs[0].Disk != "d1" || len(a.Replacements) != 1 || a.Replacements[0].Disk != "d3" || a.Replacements[0].Slot != 0 ||
		a.Replacements[0].Want != document.There || a.Replacements[0].At.Machine != "n1" || a.Replacements[0].NAA == "" {
		t.Fatalf("the owner is told %+v", a)
	}
	if a := c.want("p2", document.Standby); len(a.Legs)+len(a.Replacements) > 0 {
		t.Fatalf("a standby is told %+v", a)
	}
	c.exported("d1", "n1", "p1")
	c.exported("d3", "n1", "p1")
	c.on(events.KindArray, "a", events.ArrayOwnerEnded{Proxy: "p1", Boot: "p1-1", Epoch: events.Epoch{Term: 1, Counter: 1}, Proof: events.ProofPowerOff})
	c.exported("d3", "n1")
	c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p2", Boot: "p2-1", Epoch: events.Epoch{Term: 1, Counter: 2}})
	c.exported("d3", "n1", "p2")
	c.on(events.KindArray, "a", events.ArrayLegReplaced{Slot: 0, Old: "d1", New: "d3", Node: "n1"})
	if a := c.want("p2", document.Active); len(a.Replacements) > 0 || a.Legs[0].Disk != "d3" || a.Legs[0].Slot != 0 || a.Legs[1].Disk != "d2" {
		t.Fatalf("the owner is told %+v", a)
	}
	c.exported("d3", "n1", "p2")
	c.export(document.Wiped) // of d1
	c.on(events.KindDisk, "d1", events.DiskReleased{Node: "n1", Array: "a", Wiped: true})
	c.export(document.Absent)
}

// TestACancelledReplacementInDocuments: the owner is told to let go of the disk, and it is wiped when it has.
func TestACancelledReplacementInDocuments(t *testing.T) {
	c := newStorageCloud(t)
	c.on(events.KindDisk, "d3", events.DiskFound{Node: "n1", Serial: "s3"})
	c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p1", Boot: "p1-1", Epoch: events.Epoch{Term: 1, Counter: 1}})
	c.on(events.KindArray, "a", events.ArrayLegReplacing{Slot: 0, Old: "d1", New: "d3", Node: "n1"})
	c.on(events.KindArray, "a", events.ArrayLegReplacementCancelled{Slot: 0, New: "d3"})
	if a := c.want("p1", document.Active); len(a.Replacements) != 1 || a.Replacements[0].Want != document.Absent {
		t.Fatalf("the owner is told %+v", a)
	}
	c.exported("d3", "n1", "p1")
	c.on(events.KindArray, "a", events.ArrayLegReplacementEnded{Slot: 0, New: "d3"})
	if a := c.want("p1", document.Active); len(a.Replacements) > 0 || a.Legs[0].Disk != "d1" {
		t.Fatalf("the owner is told %+v", a)
	}
	d, _ := c.doc("n1", document.KindExport, "d3")
	if e := body[document.Export](t, d); e.Want != document.Wiped || len(e.To) > 0 {
		t.Fatalf("the new disk: %+v", e)
	}
	c.on(events.KindDisk, "d3", events.DiskReleased{Node: "n1", Array: "a", Wiped: true})
	c.on(events.KindArray, "a", events.ArrayLegReplacing{Slot: 0, Old: "d1", New: "d3", Node: "n1"})
	c.exported("d3", "n1", "p1")
	c.on(events.KindArray, "a", events.ArrayDeleted{Wipe: true})
	c.export(document.Wiped)
	if d, _ = c.doc("n1", document.KindExport, "d3"); body[document.Export](t, d).Want != document.Wiped {
		t.Fatalf("the new disk of a deleted array: %s", d.Body)
	}
}

package projections

import (
	"testing"

	"cloudengine/events"
)

// What is wanted from the next start on is in the VM's row; what its host counts follows the grant, and is given back as it was counted.
func TestResizedVM(t *testing.T) {
	x := withVM(t)
	g := grantHere(1)
	g.DeviceModel = 30
	x.on(events.KindVM, "v", g)
	used, free := x.host().UsedMiB, x.host().FreeMiB
	if x.host().ModelsUsedMiB != 30 {
		t.Fatalf("%d MiB for device models", x.host().ModelsUsedMiB)
	}
	x.on(events.KindVM, "v", events.VMResized{MemoryMiB: 64, VCPUs: 3, Weight: 1, MaxVCPUs: 4})
	if v := x.vm(); v.MemoryMiB != 64 || v.VCPUs != 3 || *v.MaxVCPUs != 4 || x.host().UsedMiB != used {
		t.Fatalf("%+v; used %d, were %d", *v, x.host().UsedMiB, used)
	}
	x.on(events.KindVM, "v", events.VMGrantResized{Host: "h", Epoch: epoch(1), MemoryMiB: 64, VCPUs: 3, Resizes: 1, Counted: g.MemoryMiB})
	if x.host().UsedMiB != used {
		t.Fatal("given back before its host has said so")
	}
	x.on(events.KindVM, "v", events.VMGrantResized{Host: "h", Epoch: epoch(1), MemoryMiB: 64, VCPUs: 3, Resizes: 1, Counted: 64})
	if h, back := x.host(), int64(g.MemoryMiB-64); h.UsedMiB != used-back || h.FreeMiB != free+back {
		t.Fatalf("used %d, free %d", h.UsedMiB, h.FreeMiB)
	}
	x.on(events.KindVM, "v", events.VMGrantEnded{Host: "h", Boot: "b1", Epoch: epoch(1), Proof: events.ProofCleanEnd, Console: events.Blob{SHA256: "ab", Size: 7}})
	if h := x.host(); h.UsedMiB != 0 || h.ModelsUsedMiB != 0 || h.FreeMiB != h.AllocatableMiB {
		t.Fatalf("after its end: %+v", *h)
	}
	if v := x.vm(); *v.ConsoleSHA256 != "ab" || *v.ConsoleSize != 7 || v.ConsoleAt == nil {
		t.Fatalf("its console: %+v", *v)
	}
}

package storage_test

import (
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/lio"
)

// TestFencingIsTold: a document that admits nobody is told by its generation, and with nobody only once it is so. A machine that has booted says
// so too, though it never exported the disk; without a document, or with one that has no opinion, no generation is told.
func TestFencingIsTold(t *testing.T) {
	root := machine(t, 1)
	r := newRig(root, t.TempDir(), lio.ISCSI)
	there := desired.Export{Epoch: epoch(1), Want: desired.There}
	want := func(what string, n uint64, to int) {
		t.Helper()
		x, ok := r.export(t, "d0")
		if g := (events.Generation{Term: 1, Number: n}); n == 0 && x.Generation != (events.Generation{}) || n > 0 && (!ok || x.Generation != g) || len(x.To) != to {
			t.Fatalf("%s: it reports %+v (%t)", what, x, ok)
		}
	}
	want("no document", 0, 0)
	r.say(1, "d0", there, p1)
	r.settle(t)
	want("given", 1, 1)
	r.say(7, "d0", there)
	want("told to close, and not done", 7, 1)
	busy := map[events.Ref]bool{{Kind: desired.KindExport, ID: string(events.DiskIDOf("d0"))}: true}
	if rep := r.worker.Report(r.docs, r.observe(t), busy); len(rep.Exports) > 0 {
		t.Fatalf("steps are under way, and it reports %+v", rep.Exports)
	}
	r.settle(t)
	want("closed", 7, 0)
	r.say(8, "d0", desired.Export{Epoch: epoch(1)})
	want("no opinion", 0, 0)

	docs := r.docs
	r = newRig(root, t.TempDir(), lio.ISCSI) // another boot: nothing is exported
	r.docs = docs
	want("no opinion, after a boot", 0, 0)
	r.say(9, "d0", there)
	want("closed, after a boot", 9, 0)
	r.settle(t)
	want("closed, after a boot and with its steps done", 9, 0)
	r.say(10, "d0", desired.Export{Epoch: epoch(0), Want: desired.There})
	want("a lower epoch", 0, 0)
}

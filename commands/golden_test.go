package commands

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cloudengine/events"
)

// copied makes a volume from the template debian.
func (w *world) copied(name string) *Volume {
	w.t.Helper()
	w.id(name, w.must(w.do("volume.create", CreateVolume{Account: events.AccountID(w.ids["demo"]), Name: name, Pool: w.pool(), Template: w.debian()})))
	return w.volume(name)
}

func (w *world) debian() events.TemplateID { return events.TemplateID(w.ids["debian"]) }

// golden is the golden volume of debian on the array a1, or nil.
func (w *world) golden() *Volume { return w.s.golden(w.arr(), w.debian()) }

func (w *world) readyNow(all ...*Volume) events.Decision {
	return w.reportArray(events.ArrayActive, func(r *events.ArrayReport) {
		for _, v := range all {
			r.Ready = append(r.Ready, v.ID)
		}
	})
}

func withGolden(t *testing.T) *world {
	w := withArray(t)
	w.diskTemplate("debian")
	return w
}

func TestGoldenIsMadeOnce(t *testing.T) {
	w := withGolden(t)
	one, two := w.copied("one"), w.copied("two")
	g := w.golden()
	if g == nil || one.Data.From != g.ID || two.Data.From != g.ID || g.copies != 2 || len(w.arr().used) != 3 {
		t.Fatalf("golden %+v, volumes %+v %+v", g, one.Data, two.Data)
	}
	if !g.Golden || g.Data.Account != "" || g.Data.Name != "debian@a1" || total(g.Segments) != 3 || g.Data.Source != testBlob {
		t.Fatalf("golden %+v", g.Data)
	}
	w.must(w.readyNow(g, one))
	if !g.Ready || g.copies != 1 {
		t.Fatalf("golden %+v", g)
	}
	w.must(w.do("volume.delete", VolumeRef{two.ID}))
	if g.copies != 0 {
		t.Fatalf("%d copies are under way", g.copies)
	}
	w.audit()
}

func TestGoldenIsNoDisk(t *testing.T) {
	w := withGolden(t)
	w.copied("one")
	g := w.golden()
	w.createVM("web", 128)
	w.says(w.do("volume.attach", AttachVolume{Volume: g.ID, VM: w.vm("web")}), "cannot be attached")
	w.says(w.do("volume.grow", GrowVolume{g.ID, 200}), "cannot be grown")
	w.says(w.do("volume.limit", LimitVolume{Volume: g.ID}), "cannot be limited")
	w.must(w.do("user.create", CreateUser{Name: "ann", Role: events.RoleOperate, Account: events.AccountID(w.ids["demo"]), Key: newTestKey()}))
	w.refused(w.as("ann", "volume.delete", VolumeRef{g.ID}), events.CodeNotFound, "")
	w.audit()
}

func TestImport(t *testing.T) {
	w := withGolden(t)
	a := ImportTemplate{w.debian(), w.arr().ID}
	d := w.must(w.do("template.import", a))
	g := w.golden()
	if g == nil || string(g.ID) != string(d.Intent) || w.s.ops[d.Intent] == nil {
		t.Fatalf("golden %+v", g)
	}
	waits := w.must(w.do("template.import", a)) // it waits with the first
	w.must(w.readyNow(g))
	if w.s.ops[d.Intent] != nil || w.s.ops[waits.Intent] != nil {
		t.Fatal("the operations do not end when it is ready")
	}
	if d := w.do("template.import", a); d.Outcome.Status != events.Nothing {
		t.Fatalf("a third time: %+v", d.Outcome)
	}
	if v := w.copied("one"); v.Data.From != g.ID {
		t.Fatalf("volume %+v", v.Data)
	}
	w.says(w.do("template.import", ImportTemplate{events.TemplateID(w.ids["tiny"]), w.arr().ID}), "is of type kernel")
	w.refused(w.do("template.import", ImportTemplate{w.debian(), events.ArrayID(w.ids["demo"])}), events.CodeNotFound, "")
	w.refused(w.do("template.import", ImportTemplate{events.TemplateID(w.ids["demo"]), w.arr().ID}), events.CodeNotFound, "")
	w.audit()
}

func (w *world) fails(v *Volume, why string, change ...func(*events.ArrayReport)) events.Decision {
	return w.reportArray(events.ArrayActive, append(change, func(r *events.ArrayReport) {
		r.Failed = []events.FillFailure{{Volume: v.ID, Message: why}}
	})...)
}

func TestGoldenThatFailed(t *testing.T) {
	w := withGolden(t)
	a := ImportTemplate{w.debian(), w.arr().ID}
	d := w.must(w.do("template.import", a))
	g := w.golden()
	w.must(w.fails(g, "wrong digest"))
	if g.Failed != "wrong digest" || w.s.ops[d.Intent] != nil {
		t.Fatalf("golden %+v", g)
	}
	if d := w.fails(g, "wrong digest"); len(d.Events) > 0 {
		t.Fatalf("it is recorded twice: %+v", d.Events)
	}
	v := w.copied("one")
	w.createVM("web", 128)
	w.must(w.do("volume.attach", AttachVolume{Volume: v.ID, VM: w.vm("web")}))
	w.says(w.do("vm.start", StartVM{VM: w.vm("web")}), "golden volume debian@a1: wrong digest")
	before := w.s.last
	w.must(w.do("template.import", a))
	if g.Failed != "" {
		t.Fatal("it is not tried again")
	}
	if d := w.fails(g, "wrong digest", func(r *events.ArrayReport) { r.Generation.Number = before }); len(d.Events) > 0 {
		t.Fatalf("what was said before the retry counts: %+v", d.Events)
	}
	w.must(w.fails(g, "cut off"))
	w.must(w.readyNow(g))
	if g.Failed != "" || !g.Ready {
		t.Fatalf("golden %+v", g)
	}
	if d := w.fails(g, "late"); len(d.Events) > 0 {
		t.Fatalf("a volume that is ready fails: %+v", d.Events)
	}
	w.audit()
}

// TestGoldenInUseIsKept: neither its own end nor that of its template takes it away from those that are copied from it.
func TestGoldenInUseIsKept(t *testing.T) {
	for _, end := range []string{"ready", "deleted"} {
		w := withGolden(t)
		v := w.copied("one")
		g := w.golden()
		w.must(w.readyNow(g))
		w.says(w.do("volume.delete", VolumeRef{g.ID}), "are being copied from")
		w.must(w.do("template.delete", DeleteTemplate{w.debian()}))
		if g.Deleted {
			t.Fatal("it is deleted while it is copied from")
		}
		if end == "ready" {
			w.must(w.readyNow(v))
		} else {
			w.must(w.do("volume.delete", VolumeRef{v.ID}))
		}
		if !g.Deleted || w.golden() != nil {
			t.Fatalf("%s: it does not follow its template: %+v", end, g)
		}
		w.must(w.reportArray(events.ArrayActive, func(r *events.ArrayReport) { r.Wiped = []events.VolumeID{g.ID} }))
		w.audit()
	}
}

func TestGoldenEndsWithItsTemplate(t *testing.T) {
	w := withGolden(t)
	d := w.must(w.do("template.import", ImportTemplate{w.debian(), w.arr().ID}))
	g := w.golden()
	w.says(w.do("array.delete", ArrayRef{w.arr().ID}), "golden volumes of 1 templates")
	w.must(w.do("template.delete", DeleteTemplate{w.debian()}))
	if !g.Deleted || w.s.ops[d.Intent] != nil {
		t.Fatalf("golden %+v, operation %+v", g, w.s.ops[d.Intent])
	}
	w.diskTemplate("debian") // its name is free again, and that of a golden volume too
	if w.copied("two"); w.golden() == nil || w.golden().ID == g.ID || w.golden().Data.Name != "debian@a1" {
		t.Fatalf("golden %+v", w.golden())
	}
	w.audit()
}

// TestNoRoomForAGolden: a volume is made all the same, and its image fetched.
func TestNoRoomForAGolden(t *testing.T) {
	w := withGolden(t)
	w.createVolume("most", (total(w.arr().free())-4)*4)
	if v := w.copied("one"); v.Data.From != "" || w.golden() != nil {
		t.Fatalf("volume %+v", v.Data)
	}
	w.refused(w.do("template.import", ImportTemplate{w.debian(), w.arr().ID}), events.CodeNoCapacity, "")
	w.audit()
}

// TestI3RandomGoldens: templates, volumes, failures and ends in any order. The audit says that no extent is given twice, and that nothing is
// copied from what is gone.
func TestI3RandomGoldens(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		w := withGolden(t)
		for i := range 150 {
			var all []*Volume
			for _, id := range sortedKeys(w.s.storage.volumes) {
				all = append(all, w.s.storage.volumes[id])
			}
			pick := func() *Volume { return all[rnd.IntN(len(all))] }
			switch n := rnd.IntN(9); {
			case n < 3 || len(all) == 0:
				w.do("volume.create", CreateVolume{Account: events.AccountID(w.ids["demo"]), Name: fmt.Sprintf("v%d", i), Pool: w.pool(),
					SizeMiB: rnd.IntN(2) * 40, Template: w.debian()})
			case n == 3:
				w.do("volume.delete", VolumeRef{pick().ID})
			case n == 4:
				w.do("template.import", ImportTemplate{w.debian(), w.arr().ID})
			case n == 5:
				w.fails(pick(), fmt.Sprint("failure ", rnd.IntN(3)))
			case n == 6:
				w.reportArray(events.ArrayActive, func(r *events.ArrayReport) { r.Wiped = []events.VolumeID{pick().ID, pick().ID} })
			case n == 7 && rnd.IntN(4) == 0:
				w.do("template.delete", DeleteTemplate{w.debian()})
				w.diskTemplate("debian")
			default: // what is copied is ready after what it is copied from
				v := pick()
				if g := w.s.storage.volumes[v.Data.From]; g == nil || g.Ready {
					w.readyNow(v)
				}
			}
		}
		if len(w.s.pending) > 0 || !slices.ContainsFunc(w.log, func(r events.Recorded) bool { return strings.HasPrefix(r.Verb, "drop") }) && seed == 0 {
			t.Fatalf("%d reactions are left, or no golden volume ever went", len(w.s.pending))
		}
		w.audit()
	}
}

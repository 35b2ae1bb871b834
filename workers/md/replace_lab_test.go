//go:build lab

package md

import (
	"errors"
	"testing"
)

// spare is the fifth disk of the lab.
const spare = "vde"

// newSpare erases the fifth disk.
func newSpare(t *testing.T) {
	t.Helper()
	if err := eraseSuper("/dev/" + spare); err != nil {
		t.Fatal(err)
	}
}

// slow holds recovery to so many KiB/s; 0: as fast as it can.
func (b *bed) slow(kib string) {
	b.Helper()
	for _, f := range []string{"sync_speed_min", "sync_speed_max"} {
		if err := set(b.name, f, kib); err != nil {
			b.Fatal(err)
		}
	}
}

// followed waits until the spare is the leg in slot 0, and its superblock and another one say so.
func (b *bed) followed() {
	b.Helper()
	b.until("the new leg", func() bool {
		m := b.array().InSlot(0)
		if m == nil || m.Dev != spare || !m.Is("in_sync") || m.Is("replacement") {
			return false
		}
		s, err := ReadSuper("/dev/" + spare)
		o, other := ReadSuper("/dev/vdd")
		return err == nil && other == nil && s.Slot() == 0 && s.Complete() && !s.Replaces() && o.SlotOf(s.DevNumber) == 0
	})
}

func (b *bed) replace() {
	b.Helper()
	if err := b.k.Replace(b.Context(), b.name, spare, 0); err != nil {
		b.Fatal(err)
	}
}

// with gives the candidates of slots and the spare's for slot 0.
func (b *bed) with(slots ...int) []Candidate {
	b.Helper()
	s, err := ReadSuper("/dev/" + spare)
	if err != nil {
		b.Fatal(err)
	}
	return append(b.candidates(slots...), Candidate{Slot: 0, Dev: spare, Super: &s})
}

func (b *bed) assembleWith(slots ...int) (members []Candidate, left []Left) {
	b.Helper()
	members, left, err := Choose(b.w, b.with(slots...))
	if err != nil {
		b.Fatal(err)
	}
	if b.name, err = b.k.Assemble(b.Context(), b.w, members); err != nil {
		b.Fatal(err)
	}
	return members, left
}

// TestRealReplaceLive: the leg is good until the new one is full, then md lets go of it; what was written meanwhile is on the new one.
func TestRealReplaceLive(t *testing.T) {
	newSpare(t)
	b := newBed(t)
	b.write(1)
	b.slow("4000")
	b.replace()
	if err := b.k.Replace(t.Context(), b.name, spare, 0); !errors.Is(err, errReplace) {
		t.Errorf("replaced twice: %v", err)
	}
	a := b.array()
	if m := a.InSlot(0); a.Degraded != 0 || m == nil || m.Dev != "vda" || !m.Is("in_sync") || !m.Is("want_replacement") {
		t.Errorf("while it is filled: %+v", a)
	}
	if m := a.Beside(0); m == nil || m.Dev != spare || !m.Is("failfast") {
		t.Errorf("beside: %+v of %+v", m, a.Members)
	}
	b.until("a part", func() bool { return b.array().SyncDone > 100 })
	b.write(2)
	if d := b.array().Degraded; d != 0 {
		t.Errorf("degraded %d", d)
	}
	b.slow("200000")
	b.followed()
	if m := b.array().Of("vda"); m != nil && !m.Is("faulty") {
		t.Errorf("the old leg: %+v", m)
	}
	if err := b.k.Remove(t.Context(), b.name, "vda"); err != nil {
		t.Fatal(err)
	}
	if a := b.array(); a.Degraded != 0 || len(a.Members) != 4 {
		t.Errorf("replaced: %+v", a)
	}
	b.read(2)
	b.stop()
	members, left, err := Choose(b.w, b.with(0, 1, 2, 3))
	if err != nil || len(members) != 4 || len(left) != 1 || left[0].Dev != "vda" {
		t.Fatalf("members %+v, left %+v, %v", members, left, err)
	}
	b.assembleWith(3) // each half has everything: the new leg alone in its set
	b.read(2)
	b.stop()
}

// TestRealReplaceDead: the leg is gone; the new one is filled from the other copy.
func TestRealReplaceDead(t *testing.T) {
	newSpare(t)
	b := newBed(t)
	b.write(1)
	if err := b.k.Fail(t.Context(), b.name, "vda"); err != nil {
		t.Fatal(err)
	}
	if err := b.k.Remove(t.Context(), b.name, "vda"); err != nil {
		t.Fatal(err)
	}
	b.write(2)
	b.replace()
	b.followed()
	if a := b.array(); a.Degraded != 0 || !a.InSlot(0).Is("failfast") {
		t.Errorf("replaced: %+v", a)
	}
	b.stop()
	if _, left := b.assembleWith(0, 3); len(left) != 1 || left[0].Dev != "vda" {
		t.Errorf("the leg that came back is not left out: %+v", left)
	}
	b.read(2)
	b.stop()
}

// TestRealReplaceTakeover: the array is given up while the new leg is filled, and assembled elsewhere: the filling goes on, and nobody takes what
// is half full for a leg.
func TestRealReplaceTakeover(t *testing.T) {
	newSpare(t)
	b := newBed(t)
	b.write(1)
	b.slow("2000")
	b.replace()
	b.until("a part", func() bool { return b.array().SyncDone > 200 })
	b.stop()
	if _, _, err := Choose(b.w, b.with(3)); err == nil {
		t.Error("what is half full was taken for a leg")
	}
	if members, left, err := Choose(b.w, b.with(1, 2, 3)); err != nil || len(members) != 3 || len(left) != 1 {
		t.Errorf("without the old leg: %+v, %+v, %v", members, left, err)
	}
	members, left := b.assembleWith(0, 1, 2, 3)
	if len(members) != 5 || len(left) != 0 {
		t.Errorf("members %+v, left %+v", members, left)
	}
	b.slow("2000")
	a := b.array()
	if m, n := a.InSlot(0), a.Beside(0); m == nil || m.Dev != "vda" || n == nil || n.Dev != spare || a.Degraded != 0 {
		t.Errorf("assembled: %+v", a)
	}
	b.until("it to go on", func() bool { return b.array().SyncAction == "recover" })
	t.Logf("goes on at %d of 1000", b.array().SyncDone)
	b.write(2)
	b.slow("200000")
	b.followed()
	b.read(2)
	b.stop()
	b.assembleWith(3)
	b.read(2)
	b.stop()
}

// TestRealReplaceOldDies: the old leg dies while the new one is filled: that goes on from the other copy. And the other way round: the new one is
// let go of, the old one stays.
func TestRealReplaceOldDies(t *testing.T) {
	newSpare(t)
	b := newBed(t)
	b.write(1)
	b.slow("2000")
	b.replace()
	b.until("a part", func() bool { return b.array().SyncDone > 100 })
	if err := b.k.Fail(t.Context(), b.name, spare); err != nil { // it is let go of
		t.Fatal(err)
	}
	if err := b.k.Remove(t.Context(), b.name, spare); err != nil {
		t.Fatal(err)
	}
	if a := b.array(); a.Degraded != 0 || a.InSlot(0).Dev != "vda" {
		t.Errorf("the old one: %+v", a)
	}
	b.write(2)
	b.replace()
	b.until("a part", func() bool { return b.array().SyncDone > 100 })
	if err := b.k.Fail(t.Context(), b.name, "vda"); err != nil {
		t.Fatal(err)
	}
	b.write(3)
	b.slow("200000")
	b.followed()
	b.read(3)
	b.stop()
	b.assembleWith(3)
	b.read(3)
	b.stop()
}

// TestRealReplaceCutOff: killed between the new disk's coming into md and its slot: it is without one, and taken out; then all begins again.
func TestRealReplaceCutOff(t *testing.T) {
	newSpare(t)
	b := newBed(t)
	b.write(1)
	if err := b.k.Fail(t.Context(), b.name, "vdd"); err != nil { // a slot that is free: md must not take the disk into it
		t.Fatal(err)
	}
	if err := b.k.Remove(t.Context(), b.name, "vdd"); err != nil {
		t.Fatal(err)
	}
	if err := set(b.name, "sync_action", "frozen"); err != nil {
		t.Fatal(err)
	}
	if err := mdadm(t.Context(), "--manage", b.array().Path(), "--failfast", "--add", "/dev/"+spare); err != nil {
		t.Fatal(err)
	}
	if err := set(b.name, "dev-vda/state", "want_replacement"); err != nil {
		t.Fatal(err)
	}
	if m := b.array().Of(spare); m == nil || m.Slot != -1 || b.array().SyncAction != "frozen" {
		t.Fatalf("cut off: %+v", b.array())
	}
	if err := b.k.Remove(t.Context(), b.name, spare); err != nil {
		t.Fatal(err)
	}
	if err := b.k.Thaw(t.Context(), b.name); err != nil {
		t.Fatal(err)
	}
	if b.array().Of(spare) != nil {
		t.Errorf("still there: %+v", b.array())
	}
	if err := b.k.Join(t.Context(), b.name, "vdd", 3); err != nil { // the mark on the leg in slot 0 draws nothing else there
		t.Fatal(err)
	}
	b.until("the return", func() bool { a := b.array(); return a.Degraded == 0 && a.InSlot(3) != nil && a.InSlot(3).Dev == "vdd" })
	b.replace()
	b.followed()
	b.read(1)
	b.stop()
}

// TestRealReplaceByAForeigner: what another array has left on the new disk is lost.
func TestRealReplaceByAForeigner(t *testing.T) {
	newSpare(t)
	b := newBed(t)
	b.stop()
	raw, err := direct("/dev/vda", superAt, superBytes)
	if err != nil {
		t.Fatal(err)
	}
	raw[16] = 0xff
	patchEvents(raw, 1000)
	writeSuper(t, spare, raw)
	b.assemble(0, 1, 2, 3)
	b.write(1)
	b.replace()
	b.followed()
	b.read(1)
	b.stop()
}

//go:build lab

package md

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/workers/modprobe"
)

func TestMain(m *testing.M) {
	for _, name := range []string{"md_mod", "raid10"} {
		if err := modprobe.Load(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

var devs = []string{"vda", "vdb", "vdc", "vdd"}

// bed is one array on the four disks of the lab.
type bed struct {
	*testing.T
	k    Kernel
	w    Wanted
	name string
}

// newBed erases the disks and makes an array.
func newBed(t *testing.T) *bed {
	b := &bed{T: t, w: Wanted{UUID: arrayID, RaidDisks: 4, Copies: 2, ChunkKiB: 64}}
	all, err := List("")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if err := b.k.Stop(t.Context(), a.Name); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range devs {
		if err := eraseSuper("/dev/" + d); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	name, err := b.k.Create(t.Context(), Spec{Wanted: b.w, Name: "gold", LegKiB: 32 << 10, OffsetKiB: 16 << 10, Devs: devs})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("created in %v", time.Since(began))
	b.name = name
	b.settle("the first resync")
	return b
}

func (b *bed) array() Array {
	b.Helper()
	a, err := readArray("/sys/block/" + b.name)
	if err != nil {
		b.Fatal(err)
	}
	return a
}

// until waits for a condition.
func (b *bed) until(what string, f func() bool) {
	b.Helper()
	for end := time.Now().Add(60 * time.Second); !f(); {
		if time.Now().After(end) {
			b.Fatalf("%s: not in time: %+v", what, b.array())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (b *bed) settle(what string) {
	b.Helper()
	b.until(what, func() bool { return b.array().SyncAction == "idle" })
}

func (b *bed) candidates(slots ...int) []Candidate {
	b.Helper()
	var out []Candidate
	for _, i := range slots {
		c := Candidate{Slot: i, Dev: devs[i]}
		s, err := ReadSuper("/dev/" + devs[i])
		if err == nil {
			c.Super = &s
		} else if !errors.Is(err, ErrNoSuper) {
			b.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func (b *bed) stop() {
	b.Helper()
	if err := b.k.Stop(b.Context(), b.name); err != nil {
		b.Fatal(err)
	}
	all, err := b.k.Arrays("")
	if err != nil || len(all) != 0 {
		b.Fatalf("after the stop: %+v, %v", all, err)
	}
}

func (b *bed) assemble(slots ...int) []Left {
	b.Helper()
	members, left, err := Choose(b.w, b.candidates(slots...))
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if b.name, err = b.k.Assemble(b.Context(), b.w, members); err != nil {
		b.Fatal(err)
	}
	b.Logf("assembled in %v", time.Since(began))
	return left
}

// block is what the n-th MiB is filled with in a round.
func block(n, round int) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%08d-%07d", n, round)), 64<<10)
}

func (b *bed) write(round int) {
	b.Helper()
	f, err := os.OpenFile("/dev/"+b.name, os.O_WRONLY|unix.O_SYNC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for n := range 64 {
		if _, err := f.WriteAt(block(n, round), int64(n)<<20); err != nil {
			b.Fatal(err)
		}
	}
}

// read reads everything back past all caches.
func (b *bed) read(round int) {
	b.Helper()
	for n := range 64 {
		got, err := direct("/dev/"+b.name, int64(n)<<20, 1<<20)
		if err != nil {
			b.Fatal(err)
		}
		if !bytes.Equal(got, block(n, round)) {
			b.Fatalf("MiB %d is %q, want round %d", n, got[:16], round)
		}
	}
}

func TestRealCreate(t *testing.T) {
	b := newBed(t)
	a := b.array()
	if a.UUID != arrayID || a.Sectors != 64<<11 || a.Copies() != 2 || a.ChunkKiB != 64 || a.Degraded != 0 || !a.Serves() {
		t.Errorf("got %+v", a)
	}
	for i, d := range devs {
		if m := a.InSlot(i); m == nil || m.Dev != d || !m.Is("in_sync") || !m.Is("failfast") {
			t.Errorf("slot %d: %+v", i, m)
		}
	}
	b.write(1)
	b.stop()
	for _, c := range b.candidates(0, 1, 2, 3) {
		s := c.Super
		if s == nil || s.UUID != arrayID || s.Slot() != c.Slot || s.Layout != 258 || s.ChunkKiB != 64 || s.Events == 0 || s.DataOffset != 32<<10 || !s.FailFast {
			t.Errorf("slot %d: %+v", c.Slot, s)
		}
	}
	b.assemble(0, 1, 2, 3)
	b.read(1)
	b.stop()
}

// TestRealLoss: a leg fails, misses writes, and comes back: the bitmap copies what it missed, and both copies are right then.
func TestRealLoss(t *testing.T) {
	b := newBed(t)
	b.write(1)
	if err := b.k.Fail(t.Context(), b.name, "vda"); err != nil {
		t.Fatal(err)
	}
	if err := b.k.Fail(t.Context(), b.name, "vdb"); !errors.Is(err, errLast) {
		t.Errorf("the last copy was failed: %v", err)
	}
	b.write(2)
	if a := b.array(); a.Degraded != 1 || a.InSlot(0) != nil || !a.Serves() {
		t.Errorf("degraded: %+v", a)
	}
	if err := b.k.Remove(t.Context(), b.name, "vda"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := b.k.Join(t.Context(), b.name, "vda", 0); err != nil {
		t.Fatal(err)
	}
	b.settle("the return")
	t.Logf("back in sync after %v", time.Since(began))
	if m := b.array().InSlot(0); m == nil || !m.Is("in_sync") || !m.Is("failfast") {
		t.Errorf("after its return: %+v", m)
	}
	b.read(2)
	b.stop()
	b.assemble(0, 2) // each half alone has everything
	b.read(2)
	b.stop()
}

// TestRealStale: a leg that missed writes is left out of an assembly, cannot be assembled alone, and is brought up to date afterwards.
func TestRealStale(t *testing.T) {
	b := newBed(t)
	b.write(1)
	for _, d := range []string{"vda", "vdc"} {
		if err := b.k.Fail(t.Context(), b.name, d); err != nil {
			t.Fatal(err)
		}
	}
	b.write(2)
	var known uint64
	b.until("superblocks that say so", func() bool {
		s, err := ReadSuper("/dev/vdb")
		known = s.Events
		return err == nil && !s.Has(0) && !s.Has(2)
	})
	b.stop()
	b.w.MinEvents = known
	if _, _, err := Choose(b.w, b.candidates(0, 2)); err == nil || !strings.Contains(err.Error(), "was seen") {
		t.Errorf("the older half alone: %v", err)
	}
	if left := b.assemble(0, 1, 2, 3); len(left) != 2 || left[0].Slot != 0 || left[1].Slot != 2 {
		t.Errorf("left out: %+v", left)
	}
	b.read(2)
	for i, d := range []string{"vda", "vdc"} {
		if err := b.k.Join(t.Context(), b.name, d, 2*i); err != nil {
			t.Fatal(err)
		}
	}
	b.settle("the return")
	b.until("all legs", func() bool { return b.array().Degraded == 0 })
	b.stop()
	b.assemble(0, 2)
	b.read(2)
	b.stop()
}

// TestRealForeign: a member of another array is neither assembled nor joined.
func TestRealForeign(t *testing.T) {
	b := newBed(t)
	b.write(1)
	b.stop()
	raw, err := direct("/dev/vda", superAt, superBytes)
	if err != nil {
		t.Fatal(err)
	}
	raw[16] = 0xff
	patchEvents(raw, 1000)
	writeSuper(t, "vda", raw)
	if left := b.assemble(0, 1, 2, 3); len(left) != 1 || !strings.Contains(left[0].Why, "another array") {
		t.Errorf("left out: %+v", left)
	}
	if err := b.k.Join(t.Context(), b.name, "vda", 0); !errors.Is(err, errForeign) {
		t.Errorf("joined: %v", err)
	}
	b.read(1)
	b.stop()
	// the kernel is the second line: it refuses a mixture, and nothing is left of the attempt
	if _, err := b.k.Assemble(t.Context(), b.w, b.candidates(0, 1, 2, 3)); err == nil {
		t.Error("the kernel took a foreign member")
	}
	if all, err := List(""); err != nil || len(all) != 0 {
		t.Errorf("left behind: %+v, %v", all, err)
	}
}

// TestRealNew: a leg without a superblock is taken as a new one, into its own slot although another is free too.
func TestRealNew(t *testing.T) {
	b := newBed(t)
	b.write(1)
	b.stop()
	for _, d := range []string{"vda", "vdd"} {
		if err := eraseSuper("/dev/" + d); err != nil {
			t.Fatal(err)
		}
	}
	b.assemble(0, 1, 2, 3)
	b.write(2)
	for _, i := range []int{3, 0} {
		if err := b.k.Join(t.Context(), b.name, devs[i], i); err != nil {
			t.Fatal(err)
		}
		if m := b.array().InSlot(i); m == nil || m.Dev != devs[i] {
			t.Errorf("slot %d: %+v", i, b.array().Members)
		}
	}
	b.settle("the copy")
	b.until("all legs", func() bool { return b.array().Degraded == 0 })
	if m := b.array().InSlot(3); m == nil || !m.Is("failfast") {
		t.Errorf("slot 3: %+v", m)
	}
	b.stop()
	b.assemble(0, 3)
	b.read(2)
	b.stop()
}

// TestRealNewer: a member that was written after the array was is not taken back.
func TestRealNewer(t *testing.T) {
	b := newBed(t)
	if err := b.k.Fail(t.Context(), b.name, "vda"); err != nil {
		t.Fatal(err)
	}
	if err := b.k.Remove(t.Context(), b.name, "vda"); err != nil {
		t.Fatal(err)
	}
	s := b.candidates(0)[0].Super
	s.Events += 1000
	raw, err := direct("/dev/vda", superAt, superBytes)
	if err != nil {
		t.Fatal(err)
	}
	patchEvents(raw, s.Events)
	writeSuper(t, "vda", raw)
	if err := b.k.Join(t.Context(), b.name, "vda", 0); !errors.Is(err, errNewer) {
		t.Errorf("joined: %v", err)
	}
	b.stop()
}

func writeSuper(t *testing.T, dev string, b []byte) {
	t.Helper()
	f, err := os.OpenFile("/dev/"+dev, os.O_WRONLY|unix.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, superAt); err != nil {
		t.Fatal(err)
	}
}

// TestRealCutOff: what a killed creation leaves is found, and made again.
func TestRealCutOff(t *testing.T) {
	b := newBed(t)
	b.stop()
	f, err := open("md7")
	if err != nil {
		t.Fatal(err)
	}
	info := [18]int32{1, 2}
	if err := ioctl(f, ioctlSetArrayInfo, info[:]); err != nil {
		t.Fatal(err)
	}
	if err := addDisk(f, "vda", 0, 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	all, err := List("")
	if err != nil || len(all) != 1 || all[0].Name != "md7" || all[0].Serves() || len(all[0].Members) != 1 {
		t.Fatalf("half assembled: %+v, %v", all, err)
	}
	if err := b.k.Stop(context.Background(), "md7"); err != nil {
		t.Fatal(err)
	}
	if all, err := filepath.Glob("/sys/block/md7/md/dev-*"); err != nil || len(all) != 0 {
		t.Errorf("after the stop: %v, %v", all, err)
	}
}

// patchEvents changes the event count of a superblock.
func patchEvents(b []byte, n uint64) {
	le := binary.LittleEndian
	le.PutUint64(b[200:], n)
	le.PutUint32(b[216:], checksum(b[:rolesAt+2*int(le.Uint32(b[220:]))]))
}

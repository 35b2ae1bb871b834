//go:build lab

package md

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const noLimit = 1<<31 - 1

// took measures a check of the whole array, 64 MiB, and gives its rate in KiB per second.
func (b *bed) took(limitKiB int) float64 {
	b.Helper()
	if err := b.k.SetSpeed(b.Context(), b.name, limitKiB); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := b.k.Check(b.Context(), b.name); err != nil {
		b.Fatal(err)
	}
	b.settle("the check")
	rate := (64 << 10) / time.Since(began).Seconds()
	b.Logf("limit %d KiB/s: %.0f KiB/s", limitKiB, rate)
	return rate
}

// TestRealSpeed: the limit is kept within 20 %, also one below what md does even if others read and write.
func TestRealSpeed(t *testing.T) {
	b := newBed(t)
	free := b.took(noLimit)
	if free < 8<<10 {
		t.Fatalf("without a limit only %.0f KiB/s", free)
	}
	if got := b.took(4 << 10); got < 4096*0.8 || got > 4096*1.2 {
		t.Errorf("4096 KiB/s became %.0f", got)
	}
	if a := b.array(); a.Sync.MaxKiB != 4096 || a.Sync.MinKiB != 1000 {
		t.Errorf("speeds %+v", a.Sync)
	}
	b.stop()
}

// TestRealPause: what is frozen copies nothing, takes a leg back all the same, and goes on where it was.
func TestRealPause(t *testing.T) {
	b := newBed(t)
	b.write(1)
	if err := b.k.Freeze(t.Context(), b.name); err != nil {
		t.Fatal(err)
	}
	for _, f := range []func(context.Context, string, string) error{b.k.Fail, b.k.Remove} {
		if err := f(t.Context(), b.name, "vda"); err != nil {
			t.Fatal(err)
		}
	}
	b.write(2)
	if err := b.k.Join(t.Context(), b.name, "vda", 0); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if a := b.array(); a.SyncAction != ActionFrozen || a.Degraded != 1 || a.Needs() != ActionRecover || a.InSlot(0) != nil {
			t.Fatalf("frozen: %+v", a)
		}
	}
	if err := b.k.SetSpeed(t.Context(), b.name, 2<<10); err != nil {
		t.Fatal(err)
	}
	if err := b.k.Thaw(t.Context(), b.name); err != nil {
		t.Fatal(err)
	}
	b.until("some of it", func() bool { return b.array().SyncDone > 100 })
	running := b.array()
	if running.SyncAction != ActionRecover || running.Needs() != ActionRecover || running.ETA() <= 0 {
		t.Errorf("recovering: %+v, ETA %d s", running, running.ETA())
	}
	began := time.Now()
	if err := b.k.Freeze(t.Context(), b.name); err != nil {
		t.Fatal(err)
	}
	t.Logf("frozen within %v at %d of 1000", time.Since(began), running.SyncDone)
	if a := b.array(); a.SyncAction != ActionFrozen || a.Needs() != ActionRecover || a.Degraded != 1 {
		t.Errorf("frozen: %+v", a)
	}
	if err := b.k.SetSpeed(t.Context(), b.name, noLimit); err != nil {
		t.Fatal(err)
	}
	if err := b.k.Thaw(t.Context(), b.name); err != nil {
		t.Fatal(err)
	}
	b.until("all legs", func() bool { return b.array().Degraded == 0 })
	b.settle("the return")
	b.stop()
	b.assemble(0, 2)
	b.read(2)
	b.stop()
}

// TestRealCheck: bytes that were changed below md on one leg are found, and nothing where nothing differs; a check that is broken off is seen
// as such.
func TestRealCheck(t *testing.T) {
	b := newBed(t)
	b.write(1)
	b.took(noLimit)
	if a := b.array(); a.Sync.Differ != 0 || a.Sync.Until != 0 {
		t.Errorf("after a check of what is the same: %+v", a.Sync)
	}
	f, err := os.OpenFile("/dev/vda", os.O_WRONLY|unix.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte("planted!"), 512), 16<<20+1<<20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	b.took(noLimit)
	if a := b.array(); a.Sync.Differ == 0 || a.Sync.Until != 0 {
		t.Errorf("what was planted is not found: %+v", a.Sync)
	} else {
		t.Logf("4 KiB differ: mismatch_cnt %d", a.Sync.Differ)
	}
	if err := b.k.SetSpeed(t.Context(), b.name, 1<<10); err != nil {
		t.Fatal(err)
	}
	if err := b.k.Check(t.Context(), b.name); err != nil {
		t.Fatal(err)
	}
	if err := b.k.Check(t.Context(), b.name); !errors.Is(err, errBusySync) {
		t.Errorf("a second check: %v", err)
	}
	if err := b.k.Thaw(t.Context(), b.name); err != nil {
		t.Fatal(err)
	}
	b.settle("the end of the check")
	if a := b.array(); a.Sync.Until == 0 {
		t.Errorf("a check that was broken off looks complete: %+v", a.Sync)
	}
	b.stop()
}

// TestRealTold: the kernel tells of a loss at once.
func TestRealTold(t *testing.T) {
	b := newBed(t)
	if err := Wait(t.Context(), "", 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	told := make(chan time.Time, 1)
	go func() {
		_ = Wait(context.Background(), "", 20*time.Second)
		told <- time.Now()
	}()
	time.Sleep(500 * time.Millisecond)
	began := time.Now()
	if err := b.k.Fail(t.Context(), b.name, "vda"); err != nil {
		t.Fatal(err)
	}
	if took := (<-told).Sub(began); took > 5*time.Second {
		t.Errorf("told after %v", took)
	} else {
		t.Logf("told after %v", took)
	}
	b.stop()
}

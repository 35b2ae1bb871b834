package main

import (
	"os"
	"path/filepath"
	"testing"
)

// newDisk is a file in the place of a disk.
func newDisk(t *testing.T, blocks int64) (*exercise, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "xvda")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, blocks*blockSize); err != nil {
		t.Fatal(err)
	}
	e, err := newExercise(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.f.Close() })
	return e, path
}

func TestExerciseFindsWhatADiskLost(t *testing.T) {
	e, path := newDisk(t, 300)
	if n := e.countValid(); n != 0 {
		t.Errorf("an empty disk holds %d blocks", n)
	}
	for range 700 {
		if err := e.step(); err != nil {
			t.Fatal(err)
		}
	}
	if e.tally.writes != 700 || e.tally.errors != 0 || e.tally.bad != 0 {
		t.Errorf("a sound disk: %s", e.told())
	}
	later, err := newExercise(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer later.f.Close()
	if n := later.countValid(); n != 300 {
		t.Errorf("the next guest finds %d whole blocks, want all", n)
	}
	old := make([]byte, blockSize)
	for at := range e.blocks { // the disk loses all that was acknowledged and gives an older state
		fill(old, e.salt, uint64(at), 1)
		if _, err := e.f.WriteAt(old, at*blockSize); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		_ = e.step()
	}
	if e.tally.bad == 0 {
		t.Errorf("lost writes were not found: %s", e.told())
	}
}

func TestExerciseCountsErrors(t *testing.T) {
	e, _ := newDisk(t, 4)
	if err := e.f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.step(); err == nil || e.tally.errors != 1 {
		t.Errorf("a disk that is gone: %v, %s", err, e.told())
	}
}

func TestBlocks(t *testing.T) {
	block := make([]byte, blockSize)
	fill(block, 1, 2, 3)
	if salt, at, n, ok := parse(block); !ok || salt != 1 || at != 2 || n != 3 {
		t.Errorf("read %d %d %d %v", salt, at, n, ok)
	}
	block[2000] ^= 1
	if _, _, _, ok := parse(block); ok {
		t.Error("a torn block is taken for a whole one")
	}
}

func TestDisksNamesThem(t *testing.T) {
	sys := t.TempDir()
	if err := os.MkdirAll(filepath.Join(sys, "block/xvda"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(sys, "block/xvda/size"), []byte("2048\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, want := disks(sys), "guest: disks xvda=1048576\n"; got != want {
		t.Errorf("says %q, want %q", got, want)
	}
}

package filesystem

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWhatOthersMayHave: a disk of 1000 blocks, 200 of them used, and 300 of the rest kept for root.
func TestWhatOthersMayHave(t *testing.T) {
	r := roomOf(unix.Statfs_t{Bsize: 4096, Blocks: 1000, Bfree: 800, Bavail: 500})
	if r.Free != 500*4096 || r.Size() != 700*4096 || r.Share() != 2.0/7 {
		t.Fatalf("%+v, %f used", r, r.Share())
	}
}

func TestRoomOf(t *testing.T) {
	r, err := RoomOf(t.TempDir())
	if err != nil || r.Free <= 0 || r.Share() <= 0 || r.Share() > 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := RoomOf(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("of no directory: %v", err)
	}
	if _, err := RoomOf("/proc"); !errors.Is(err, unix.ENODATA) {
		t.Fatalf("of what has no blocks: %v", err)
	}
}

package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/md"
)

// Direct is Blocks on real devices.
type Direct struct{}

// Super reads the superblock of a leg, by its kernel name.
func (Direct) Super(dev string) (md.Super, error) { return md.ReadSuper("/dev/" + dev) }

// blkZeroOut is BLKZEROOUT of include/uapi/linux/fs.h: the range reads as zeroes then. It takes a start and a length in bytes. It writes
// zeroes where a device cannot do better; BLKDISCARD promises nothing of what is read afterwards.
const blkZeroOut = 0x127f

// Zero makes a range read as zeroes, durably.
func (Direct) Zero(_ context.Context, path string, offset, length int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("zero %s: %w", path, err)
	}
	defer f.Close()
	r := [2]uint64{uint64(offset), uint64(length)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkZeroOut, uintptr(unsafe.Pointer(&r[0]))); errno != 0 {
		return fmt.Errorf("zero %d bytes at %d of %s: %w", length, offset, path, errno)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("zero %s: %w", path, err)
	}
	return nil
}

var errShort = errors.New("the volume is smaller than what it is filled with")

// Fill copies size bytes onto runs, one after the other, durably.
func (Direct) Fill(ctx context.Context, path string, runs []Run, from io.Reader, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("fill %s: %w", path, err)
	}
	defer f.Close()
	for _, r := range runs {
		n := min(r.Length, size)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("fill %s: %w", path, err)
		}
		if _, err := io.CopyN(io.NewOffsetWriter(f, r.Offset), from, n); err != nil {
			return fmt.Errorf("fill %d bytes at %d of %s: %w", n, r.Offset, path, err)
		}
		size -= n
	}
	if size > 0 {
		return fmt.Errorf("fill %s: %w", path, errShort)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("fill %s: %w", path, err)
	}
	return nil
}

// checked hashes what is read through it.
type checked struct {
	io.Reader
	sum hash.Hash
}

func newChecked(from io.Reader) *checked {
	h := sha256.New()
	return &checked{io.TeeReader(from, h), h}
}

var errSum = errors.New("it is not what it should be")

func (c *checked) check(b events.Blob) error {
	if got := hex.EncodeToString(c.sum.Sum(nil)); got != b.SHA256 {
		return fmt.Errorf("fetch blob %s: %w: its digest is %s", b.SHA256, errSum, got)
	}
	return nil
}

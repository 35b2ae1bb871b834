package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

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

// fillBlock is how much is read before it is written, in bytes; if all of it is zero it is not written.
const fillBlock = 64 << 10

var zeroes [fillBlock]byte

// Fill copies size bytes onto runs, one after the other, durably. What reads as zeroes there already stays: blocks of zeroes are not written.
func (Direct) Fill(ctx context.Context, path string, runs []Run, from io.Reader, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("fill %s: %w", path, err)
	}
	defer f.Close()
	for _, r := range runs {
		n := min(r.Length, size)
		if err := fillRun(ctx, f, r.Offset, n, from); err != nil {
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

func fillRun(ctx context.Context, to io.WriterAt, offset, size int64, from io.Reader) error {
	buf := make([]byte, fillBlock)
	for size > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(fillBlock, size)]
		if _, err := io.ReadFull(from, b); errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF // it ends before its size
		} else if err != nil {
			return err
		}
		if !bytes.Equal(b, zeroes[:len(b)]) {
			if _, err := to.WriteAt(b, offset); err != nil {
				return err
			}
		}
		offset, size = offset+int64(len(b)), size-int64(len(b))
	}
	return nil
}

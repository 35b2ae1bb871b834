// Package diskimage reads images of disks as people have them (raw or qcow2, packed or not, in files or behind URLs) and packs them in the
// one form that templates keep: the raw image as one stream of Zstandard. The same image gives the same bytes, so that what is stored already
// is found by its digest.
//
// What it reads may be hostile: sizes are bounded, and nothing is read that another file is named for.
package diskimage

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"cloudengine/events"
)

// Formats of images.
const (
	Auto  = "auto" // found out by what is in the file
	Raw   = "raw"
	Qcow2 = "qcow2"
)

// MaxBytes bounds an image as it is on a disk.
const MaxBytes = 1 << 40

// headBytes is how much of an image tells what it is: a CD says so behind 32 KiB.
const headBytes = 36 << 10

// Errors of images.
var (
	ErrFormat = errors.New("it is no image that can be read")
	ErrCut    = errors.New("it is cut off or damaged")
	ErrSize   = errors.New("it has a size that no disk has")
)

// Image is an open image. What is read of it are the bytes of the disk.
type Image struct {
	io.Reader
	Format string // Raw or Qcow2
	Packed string // gzip, xz, zstd; empty: it is not packed

	at    func() int64 // progress: bytes of total
	total int64
	ends  []func()
}

// Progress tells how far reading is: done of total, in bytes of something.
func (i *Image) Progress() (done, total int64) { return i.at(), i.total }

// Close lets go of the file.
func (i *Image) Close() {
	for n := len(i.ends) - 1; n >= 0; n-- {
		i.ends[n]()
	}
}

// counted counts what is read of a file.
type counted struct {
	io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// Open opens a file of a format. A packed qcow2 file is unpacked to a temporary file in dir, since it is not read in its order.
func Open(path, format, dir string) (*Image, error) {
	if format != Auto && format != Raw && format != Qcow2 {
		return nil, fmt.Errorf("open image %s: format %q is none of auto, raw and qcow2", path, format)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	i := &Image{ends: []func(){func() { f.Close() }}}
	if err := i.open(f, format, dir); err != nil {
		i.Close()
		return nil, fmt.Errorf("open image %s: %w", path, err)
	}
	return i, nil
}

func (i *Image) open(f *os.File, format, dir string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("it is no file: %w", ErrFormat)
	}
	count := &counted{Reader: f}
	i.at, i.total = func() int64 { return count.n }, info.Size()
	in := bufio.NewReaderSize(count, 1<<20)
	if err := i.unpack(&in); err != nil {
		return err
	}
	head, err := in.Peek(headBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return broken(err)
	}
	if i.Format, err = formatOf(head, format); err != nil {
		return err
	}
	if i.Format == Raw {
		i.Reader = in
		return nil
	}
	if i.Packed != "" {
		if f, err = i.spool(in, dir); err != nil {
			return err
		}
	}
	q, err := openQcow2(f)
	if err != nil {
		return err
	}
	i.Reader, i.at, i.total = q, func() int64 { return q.at }, q.size
	return nil
}

// unpack puts what unpacks before a file that is packed, as its first bytes say.
func (i *Image) unpack(in **bufio.Reader) error {
	magic, err := (*in).Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var out io.Reader
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b, 8}):
		i.Packed = "gzip"
		out, err = gzip.NewReader(*in)
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		i.Packed = "xz"
		out, err = xz.NewReader(*in, 0)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		i.Packed = "zstd"
		var z *zstd.Decoder
		z, err = zstd.NewReader(*in, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderMaxMemory(MaxBytes))
		if err == nil {
			i.ends = append(i.ends, z.Close)
		}
		out = z
	default:
		return nil
	}
	if err != nil {
		return broken(err)
	}
	*in = bufio.NewReaderSize(out, 1<<20)
	return nil
}

// broken says of whatever an unpacker says that the file is at fault.
func broken(err error) error { return fmt.Errorf("unpack: %w: %w", ErrCut, err) }

// others are formats that are not read, by what is at some place of them.
var others = []struct {
	at    int
	magic string
	name  string
}{
	{0, "KDMV", "a VMDK image"}, {0, "# Disk DescriptorFile", "a VMDK image"}, {0, "conectix", "a VHD image"}, {0, "vhdxfile", "a VHDX image"},
	{0x40, "\x7f\x10\xda\xbe", "a VDI image"}, {0, "QED\x00", "a QED image"}, {0, "PK\x03\x04", "a ZIP archive"}, {0, "BZh", "packed by bzip2"},
	{257, "ustar", "a tar archive"}, {0x8001, "CD001", "an image of a CD"},
}

// formatOf says of what format an image is by its first bytes. Anything could be a raw image: it is taken for one if a PC would boot from it.
func formatOf(head []byte, format string) (string, error) {
	isQcow2 := bytes.HasPrefix(head, []byte(qcow2Magic))
	switch {
	case format == Qcow2 && !isQcow2:
		return "", fmt.Errorf("it is not of format qcow2: %w", ErrFormat)
	case format == Raw:
		return Raw, nil
	case isQcow2:
		return Qcow2, nil
	}
	for _, o := range others {
		if len(head) >= o.at+len(o.magic) && string(head[o.at:o.at+len(o.magic)]) == o.magic {
			return "", fmt.Errorf("it is %s: %w: make a qcow2 or raw one of it (qemu-img convert), or say --format raw if this shall be the disk", o.name, ErrFormat)
		}
	}
	if len(head) < events.SectorSize || head[510] != 0x55 || head[511] != 0xaa {
		return "", fmt.Errorf("it is neither qcow2 nor a disk with a partition table: %w; say --format raw if this shall be the disk", ErrFormat)
	}
	return Raw, nil
}

// spool unpacks to a temporary file.
func (i *Image) spool(in io.Reader, dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "unpacked-*")
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	i.ends = append(i.ends, func() { f.Close(); os.Remove(f.Name()) })
	n, err := io.Copy(f, io.LimitReader(in, events.MaxBlob+1))
	if err != nil {
		return nil, broken(err)
	}
	if n > events.MaxBlob {
		return nil, fmt.Errorf("unpack: more than %d bytes: %w", int64(events.MaxBlob), ErrSize)
	}
	return f, nil
}

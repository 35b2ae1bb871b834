package proxy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Reads past the cache begin and end at multiples of directAlign bytes, which every disk can do, and so does the memory that they go to.
const (
	directAlign = 4096
	directBlock = 1 << 20
)

// Open reads runs of a device, each of which begins at a multiple of 4096 bytes. The kernel's cache of the device is of no use: the export
// holds the device open while the array is another's, so what was cached before may be old.
func (Direct) Open(path string, runs []Run) (io.ReadCloser, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	raw := make([]byte, directBlock+directAlign)
	skip := int(-uintptr(unsafe.Pointer(&raw[0])) & (directAlign - 1))
	return &direct{f: f, path: path, runs: append([]Run(nil), runs...), block: raw[skip : skip+directBlock]}, nil
}

// direct reads one block after the other.
type direct struct {
	f     *os.File
	path  string
	runs  []Run  // that are left
	block []byte // aligned
	rest  []byte // of it, that was read and not given yet
}

// Read gives what comes next.
func (d *direct) Read(p []byte) (int, error) {
	if len(d.rest) == 0 {
		if err := d.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func (d *direct) next() error {
	for len(d.runs) > 0 && d.runs[0].Length == 0 {
		d.runs = d.runs[1:]
	}
	if len(d.runs) == 0 {
		return io.EOF
	}
	r := &d.runs[0]
	n := min(r.Length, directBlock)
	whole := (n + directAlign - 1) / directAlign * directAlign
	if _, err := d.f.ReadAt(d.block[:whole], r.Offset); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // the device ends before its volume
		}
		return fmt.Errorf("read %d bytes at %d of %s: %w", n, r.Offset, d.path, err)
	}
	d.rest = d.block[:n]
	r.Offset, r.Length = r.Offset+n, r.Length-n
	return nil
}

// Close lets go of the device.
func (d *direct) Close() error { return d.f.Close() }

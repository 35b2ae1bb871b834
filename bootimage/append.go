// Package bootimage knows the shape of the one image that every machine boots: the names of its parts, its manifest,
// and how a few files are added to its initramfs at the moment it is served.
//
// It promises that what it writes is deterministic (same input, same bytes) and that it imports nothing that is needed
// only to build an image: that is in bootimage/build. It does not serve anything: that is bootimage/netboot.
package bootimage

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"sort"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// BootConfigPath is where a machine finds what netboot told it about itself (boot.json).
const BootConfigPath = "/etc/cloudengine/boot.json"

// File is a regular file to be added to an initramfs; it is owned by root and has mode 0600, or 0700 if it is a program.
type File struct {
	Path    string // absolute, slash-separated, clean
	Data    []byte
	Program bool
}

// AppendFiles returns an initramfs that holds what initrd holds and then the given files, and its size in bytes.
// size is the length of initrd in bytes and must be exact. A file of the same path in initrd is replaced by the kernel
// when it unpacks. initrd may be compressed: the kernel takes a plain newc archive after compressed ones when it starts
// at a multiple of 4 (Documentation/driver-api/early-userspace/buffer-format.rst).
func AppendFiles(initrd io.Reader, size int64, files ...File) (io.Reader, int64, error) {
	tail, err := Tail(size, files...)
	if err != nil {
		return nil, 0, err
	}
	return io.MultiReader(initrd, bytes.NewReader(tail)), size + int64(len(tail)), nil
}

// Tail returns the bytes that AppendFiles adds to an initramfs of size bytes: zeros up to a multiple of 4, then an
// uncompressed newc archive with the files and the directories above them.
func Tail(size int64, files ...File) ([]byte, error) {
	if size < 0 {
		return nil, fmt.Errorf("append files to initramfs: size %d is negative", size)
	}
	records, err := fileRecords(files)
	if err != nil {
		return nil, fmt.Errorf("append files to initramfs: %w", err)
	}
	var b bytes.Buffer
	b.Write(make([]byte, (4-size%4)%4))
	archive := bytes.Buffer{}
	w := cpio.Newc.Writer(&archive)
	for _, r := range records {
		if err := w.WriteRecord(r); err != nil {
			return nil, fmt.Errorf("append %s to initramfs: %w", r.Name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("append files to initramfs: %w", err)
	}
	b.Write(archive.Bytes())
	return b.Bytes(), nil
}

// fileRecords returns the directories and then the files as archive records, numbered so that no two share an inode.
func fileRecords(files []File) ([]cpio.Record, error) {
	dirs := map[string]bool{}
	sorted := append([]File(nil), files...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Path < sorted[j].Path })
	var names []string
	for i, f := range sorted {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" {
			return nil, fmt.Errorf("path %q is not absolute and clean", f.Path)
		}
		if i > 0 && sorted[i-1].Path == f.Path {
			return nil, fmt.Errorf("path %q is given twice", f.Path)
		}
		for d := path.Dir(f.Path); d != "/"; d = path.Dir(d) {
			if !dirs[d] {
				dirs[d] = true
				names = append(names, d)
			}
		}
	}
	sort.Strings(names)
	var records []cpio.Record
	for _, d := range names {
		records = append(records, cpio.Directory(strings.TrimPrefix(d, "/"), 0o755))
	}
	for _, f := range sorted {
		mode := uint64(0o600)
		if f.Program {
			mode = 0o700
		}
		records = append(records, cpio.StaticFile(strings.TrimPrefix(f.Path, "/"), string(f.Data), mode))
	}
	for i := range records {
		records[i].Ino = uint64(i + 1)
		records[i].NLink = 1
	}
	return records, nil
}

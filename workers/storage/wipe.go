package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// StepWipe removes what md and LVM have written of a deleted array from a disk.
const StepWipe = "wipe_disk"

// Parameters of StepWipe.
const (
	paramSerial = "serial"
	paramDevNo  = "devno"
	paramArray  = "array"
)

// wipe plans the wiping of a disk: only what nobody is given any more and what is a member of the very array.
func (p *planner) wipe(id events.DiskID, e export) {
	d, ok := p.seen.disk(e.Serial)
	if e.Want != desired.Wiped || !ok || p.seen.lower(id, e) || p.seen.exported(id, d) || !ours(d.Signature, e.Array) {
		return
	}
	x := p.plan(events.Ref{Kind: desired.KindExport, ID: string(id)})
	x.Steps = append(x.Steps, workers.Step{Kind: StepWipe, Target: string(id), Why: "its array is deleted",
		Params: map[string]string{paramSerial: d.Serial, paramDevNo: d.DevNo, paramArray: string(e.Array)}})
}

func (o Observed) disk(serial string) (Disk, bool) {
	i := slices.IndexFunc(o.Disks, func(d Disk) bool { return d.Serial == serial })
	if i < 0 {
		return Disk{}, false
	}
	return o.Disks[i], true
}

// exported says whether anybody has, or may get, something of a disk.
func (o Observed) exported(id events.DiskID, d Disk) bool {
	for _, s := range o.Exports.Backstores {
		if s.Name == string(id) || s.DevNo == d.DevNo {
			return true
		}
	}
	for _, p := range o.Exports.Ports {
		for _, g := range p.Grants {
			if g.Backstore == string(id) {
				return true
			}
		}
	}
	return false
}

// wiping says what is to be reported of a disk that is to be wiped, and that nobody is given.
func wiping(e export, seen Observed) (state, message string) {
	d, ok := seen.disk(e.Serial)
	switch {
	case !ok:
		return events.ExportFailed, fmt.Sprintf("no disk with serial number %s is here", e.Serial)
	case d.Signature.Type == unreadable:
		return events.ExportFailed, "the disk cannot be read"
	case d.Signature.Type == "":
		return events.ExportWiped, ""
	case ours(d.Signature, e.Array):
		return events.ExportWiping, ""
	}
	return events.ExportForeign, fmt.Sprintf("it holds %s, which is not of array %s: it is left alone", d.Signature.Type, e.Array)
}

var (
	errGiven   = errors.New("it is exported, or is another disk than was planned with")
	errForeign = errors.New("it does not hold that array")
)

// wipe does the step. All that was planned with is looked at once more; then the disk is held exclusively, which the kernel refuses while it
// is exported, mounted, or part of anything.
func (w *Worker) wipe(ctx context.Context, s workers.Step) error {
	id := events.DiskID(s.Target)
	all, err := disks(w.Root)
	if err != nil {
		return err
	}
	o := Observed{Disks: all}
	if o.Exports, err = w.Target.Observe(ctx); err != nil {
		return err
	}
	d, ok := o.disk(s.Params[paramSerial])
	if !ok || d.DevNo != s.Params[paramDevNo] || events.DiskIDOf(d.Serial) != id || o.exported(id, d) {
		return fmt.Errorf("wipe disk %s: %w", s.Params[paramSerial], errGiven)
	}
	defer w.lookAgain()
	f, err := openExclusive(filepath.Join("/", w.Root, "dev", d.Name))
	if err != nil {
		return fmt.Errorf("wipe disk %s: %w", d.Serial, err)
	}
	defer f.Close()
	if err := wipeMember(ctx, alignedFile{alignedReader{f}, f}, d.Bytes, events.ArrayID(s.Params[paramArray])); err != nil {
		return fmt.Errorf("wipe disk %s: %w", d.Serial, err)
	}
	w.log().Info("disk wiped", "disk", d.Name, "serial", d.Serial, "array", s.Params[paramArray])
	return nil
}

// lookAgain forgets all signatures: they are read anew at the next look.
func (w *Worker) lookAgain() {
	w.look.Lock()
	defer w.look.Unlock()
	w.signatures = nil
}

func openExclusive(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_EXCL|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) { // no block device, but a file of a file system that cannot
		return os.OpenFile(name, os.O_RDWR|unix.O_EXCL, 0)
	}
	return f, err
}

// alignedFile reads and writes as O_DIRECT wants it.
type alignedFile struct {
	alignedReader
	f *os.File
}

func (a alignedFile) WriteAt(p []byte, offset int64) (int, error) { return a.f.WriteAt(p, offset) }
func (a alignedFile) Sync() error                                 { return a.f.Sync() }

// member is a disk that may be wiped.
type member interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

const (
	lastBytes  = 64 << 10 // at the beginning of the disk, with the superblock: they are wiped last, so that a wipe that was cut off is seen
	endBytes   = 1 << 20  // at the end
	dataBytes  = 8 << 20  // of the data, where LVM has its label and its records
	mostOffset = 1 << 30  // of the data; a superblock that says more is not believed
	wideBytes  = 64 << 20 // are wiped then
	blockBytes = 1 << 20
)

// wipeMember removes the marks of an array from a disk of size bytes. A disk that is blank is left as it is; one that holds something else is
// not touched: errForeign, permanent. When it returns nil, no known mark is on the disk.
func wipeMember(ctx context.Context, f member, size int64, array events.ArrayID) error {
	have, err := ReadSignature(f, size)
	switch {
	case err != nil:
		return err
	case have.Type == "":
		return nil
	case !ours(have, array):
		return workers.Permanent(fmt.Errorf("%w: it holds %s", errForeign, have.Type))
	}
	end, err := marksEnd(f, size)
	if err != nil {
		return err
	}
	tail := max(0, size-endBytes) &^ (aligned - 1)
	for _, r := range [][2]int64{{min(lastBytes, size), end}, {max(tail, end), size}, {0, min(lastBytes, size)}} {
		if err := zero(ctx, f, r[0], r[1]); err != nil {
			return err
		}
	}
	if have, err = ReadSignature(f, size); err != nil || have.Type != "" {
		return errors.Join(err, fmt.Errorf("after the wipe the disk holds %q", have.Type))
	}
	return nil
}

// marksEnd says up to where the disk is wiped from its beginning on: some way into the data, whose place the superblock tells.
func marksEnd(f io.ReaderAt, size int64) (int64, error) {
	const superblock, dataOffset = 4096, 128 // of md 1.2, in units of 512 bytes (include/uapi/linux/raid/md_p.h)
	b := make([]byte, aligned)
	if _, err := f.ReadAt(b, superblock); err != nil && err != io.EOF {
		return 0, fmt.Errorf("read superblock: %w", err)
	}
	at := binary.LittleEndian.Uint64(b[dataOffset:])
	if at > mostOffset/512 {
		return min(wideBytes, size), nil
	}
	return min(int64(at)*512&^(aligned-1)+dataBytes, size), nil
}

// zero writes zeros from one place to another, and returns when they are on the disk.
func zero(ctx context.Context, f member, from, to int64) error {
	zeros := alignedBuffer(blockBytes)
	for at := from; at < to; at += blockBytes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := f.WriteAt(zeros[:min(blockBytes, to-at)], at); err != nil {
			return fmt.Errorf("write zeros: %w", err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write zeros: %w", err)
	}
	return nil
}

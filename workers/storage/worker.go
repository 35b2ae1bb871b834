package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/lio"
)

// Worker is a storage node's. It is safe for concurrent use.
type Worker struct {
	Machine events.MachineID
	Root    string // below which /sys, /proc and /dev are; empty: /
	Run     string // directory of records, which must not outlive the boot
	Target  *lio.System
	Links   func() []Link // that stand now; their ports need not be named
	Log     *slog.Logger  // may be nil

	mu     sync.Mutex // guards failed
	failed map[events.DiskID]string

	look       sync.Mutex           // held while disks are read
	signatures map[string]Signature // of disks that are not exported, by number and sequence number
}

// Observe reads what is exported, the records, and the disks, in this order: what is exported has its record. It is an error unless all
// could be read.
func (w *Worker) Observe(ctx context.Context) (Observed, error) {
	o := Observed{}
	for _, l := range w.Links() {
		name, err := lio.PortName(w.Root, l.Transport, w.Machine, l.RDMA)
		if err != nil {
			w.log().Warn("port not found", "fabric", l.Fabric, "err", err) // it is as if its link did not stand
		}
		l.Port = name
		o.Links = append(o.Links, l)
	}
	var err error
	if o.Exports, err = w.Target.Observe(ctx); err != nil {
		return Observed{}, err
	}
	if o.Records, err = readRecords(w.Run); err != nil {
		return Observed{}, err
	}
	if o.Disks, err = disks(w.Root); err != nil {
		return Observed{}, err
	}
	return o, w.sign(&o)
}

func (w *Worker) log() *slog.Logger {
	if w.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return w.Log
}

// sign reads the signatures of disks that are not exported, once for each time that a disk is there and not exported. What is on an
// exported disk is its array's business, and changes under our eyes.
func (w *Worker) sign(o *Observed) error {
	exported := map[string]bool{}
	for _, s := range o.Exports.Backstores {
		exported[s.DevNo] = true
	}
	w.look.Lock()
	defer w.look.Unlock()
	known := map[string]Signature{}
	for i := range o.Disks {
		d := &o.Disks[i]
		if exported[d.DevNo] {
			continue
		}
		key := d.DevNo + " " + attr(filepath.Join("/", w.Root, "sys/block", d.Name), "diskseq") + " " + d.Serial
		s, ok := w.signatures[key]
		if !ok {
			var err error
			if s, err = readDisk(filepath.Join("/", w.Root, "dev", d.Name), d.Bytes); err != nil {
				w.log().Warn("disk not readable", "disk", d.Name, "serial", d.Serial, "err", err)
				s, d.Health = Signature{Type: unreadable}, events.DiskFailing
				d.Signature = s
				continue // try again at the next look
			}
		}
		known[key], d.Signature = s, s
	}
	w.signatures = known
	return nil
}

// unreadable stands for the signature of a disk that could not be read: it must not look blank.
const unreadable = "unreadable"

// readDisk reads past the page cache: what others have written since would not be seen in it.
func readDisk(name string, size int64) (Signature, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) { // no block device, but a file of a file system that cannot
		f, err = os.Open(name)
	}
	if err != nil {
		return Signature{}, fmt.Errorf("open disk: %w", err)
	}
	defer f.Close()
	return ReadSignature(alignedReader{f}, size)
}

// alignedReader reads into memory that is aligned as O_DIRECT wants it (open(2)).
type alignedReader struct{ f io.ReaderAt }

func (r alignedReader) ReadAt(p []byte, offset int64) (int, error) {
	b := alignedBuffer(len(p))
	n, err := r.f.ReadAt(b, offset)
	copy(p, b[:n])
	return n, err
}

func alignedBuffer(n int) []byte {
	b := make([]byte, n+aligned)
	skip := (aligned - int(uintptr(unsafe.Pointer(&b[0]))%aligned)) % aligned
	return b[skip : skip+n]
}

// Plan is PlanExports.
func (w *Worker) Plan(docs []desired.Document, seen Observed) []workers.Plan {
	return PlanExports(docs, seen)
}

// Apply does one step.
func (w *Worker) Apply(ctx context.Context, s workers.Step) error {
	id, err := events.DiskID(s.Params[lio.ParamBackstore]), error(nil)
	switch s.Kind {
	case StepRemember:
		id = events.DiskID(s.Target)
		err = w.remember(id, s)
	case StepWipe:
		id = events.DiskID(s.Target)
		err = w.wipe(ctx, s)
	default:
		err = w.Target.Apply(ctx, s)
	}
	if id != "" {
		w.note(id, s, err)
	}
	return err
}

func (w *Worker) remember(id events.DiskID, s workers.Step) error {
	epoch, err := events.ParseEpoch(s.Params["epoch"])
	if err != nil {
		return workers.Permanent(err)
	}
	return writeRecord(w.Run, id, Record{Array: events.ArrayID(s.Params["array"]), Epoch: epoch})
}

// note keeps what went wrong last with an export, for the report.
func (w *Worker) note(id events.DiskID, s workers.Step, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = map[events.DiskID]string{}
	}
	delete(w.failed, id)
	if err != nil {
		w.failed[id] = s.Kind + ": " + err.Error()
	}
}

// Report is Report, with what went wrong. Exports for which nothing is left to do have not failed.
func (w *Worker) Report(docs []desired.Document, seen Observed, busy map[events.Ref]bool) events.StorageReport {
	planned := map[events.DiskID]bool{}
	for _, p := range w.Plan(docs, seen) {
		planned[events.DiskID(p.Object.ID)] = true
	}
	w.mu.Lock()
	maps.DeleteFunc(w.failed, func(id events.DiskID, _ string) bool { return !planned[id] })
	failed := maps.Clone(w.failed)
	w.mu.Unlock()
	return Report(docs, seen, busy, failed)
}

package proxy

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/md"
)

// Worker keeps the arrays of a proxy. All exported fields are set before its first use; the edges that are nil are the real ones, but for
// Initiator, Target and Name, which must be given. It is safe for concurrent use.
type Worker struct {
	Boot      string // boot id of this machine
	Root      string // of sysfs; "" = /
	Initiator Initiator
	Target    Target
	Name      Namer // initiator names of hosts
	Arrays    Arrays
	Mapper    Mapper
	Records   Records
	Blocks    Blocks
	Fetch     Fetch            // nil: volumes with a source are not made
	Wake      func()           // asks the loop to look again; may be nil
	Now       func() time.Time // the clock; time.Now
	Log       *slog.Logger     // nil: none

	once    sync.Once
	supers  reader
	session sync.Mutex // held while legs are taken or let go of: no logout takes a leg that is being assembled

	mu      sync.Mutex
	ages    map[string]time.Time
	floor   map[events.ArrayID]uint64
	zeroed  map[string]int
	fills   map[string]*filling // by progress key
	records map[events.ArrayID]cached
	checks  map[events.ArrayID]events.IntentID // that were begun
	tried   map[string]string                  // why a leg was not reserved when that was tried last, by NAA
}

// cached is what was read of records, and from which device.
type cached struct {
	read    RecordRead
	device  string // uuid and number of the owner device
	stale   bool   // a step has changed them
	reading bool   // now
}

func (w *Worker) init() {
	w.once.Do(func() {
		w.ages, w.floor, w.zeroed = map[string]time.Time{}, map[events.ArrayID]uint64{}, map[string]int{}
		w.fills, w.tried = map[string]*filling{}, map[string]string{}
		w.checks = map[events.ArrayID]events.IntentID{}
		w.records = map[events.ArrayID]cached{}
		if w.Arrays == nil {
			w.Arrays = &md.Kernel{}
		}
		if w.Mapper == nil {
			w.Mapper = mapper{}
		}
		if w.Records == nil {
			w.Records = LVM{}
		}
		if w.Blocks == nil {
			w.Blocks = Direct{}
		}
		if w.Now == nil {
			w.Now = time.Now
		}
		if w.Log == nil {
			w.Log = slog.New(slog.DiscardHandler)
		}
		w.supers.read = w.Blocks.Super
	})
}

// Plan is PlanArrays over documents.
func (w *Worker) Plan(docs []desired.Document, seen Observed) []workers.Plan {
	w.init()
	wishes := Decode(docs, w.Boot, w.Name)
	w.dropFills(wishes)
	seen.Ages = w.age(wishes, seen)
	return PlanArrays(wishes, seen)
}

// Report is Describe over documents: the arrays' part of a report of storage.
func (w *Worker) Report(docs []desired.Document, seen Observed, busy map[events.Ref]bool) events.StorageReport {
	w.init()
	wishes := Decode(docs, w.Boot, w.Name)
	seen.Ages = w.age(wishes, seen)
	arrays := Describe(wishes, seen, busy)
	w.raise(arrays)
	return events.StorageReport{Arrays: arrays}
}

// age notes since when what plans ask for has been so.
func (w *Worker) age(wishes []Wish, seen Observed) map[string]time.Duration {
	keys, documented := map[string]bool{}, map[events.ArrayID]bool{}
	for _, x := range wishes {
		documented[x.Array.Array] = true
		if x.active() {
			keys[ageActive(x.Array.Array, x.Epoch)] = true
		}
	}
	for _, id := range seen.ids(wishes) {
		if !documented[id] {
			keys[ageOrphan(id)] = true
		}
	}
	now := w.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]time.Duration{}
	for k := range w.ages {
		if !keys[k] {
			delete(w.ages, k)
		}
	}
	for k := range keys {
		if _, ok := w.ages[k]; !ok {
			w.ages[k] = now
		}
		out[k] = now.Sub(w.ages[k])
	}
	return out
}

// raise remembers the event counts that were told: an older leg is not assembled in this boot, whatever the document says.
func (w *Worker) raise(arrays []events.ArrayReport) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range arrays {
		w.floor[r.Array] = max(w.floor[r.Array], r.Events)
	}
}

// reader reads superblocks. A device that does not answer keeps one goroutine, and no caller.
type reader struct {
	read  func(dev string) (md.Super, error)
	group sync.WaitGroup

	mu     sync.Mutex
	flight map[string]chan struct{}
	last   map[string]Super
}

// wait ends when no read is under way.
func (r *reader) wait() { r.group.Wait() }

// get reads the superblock of a device, or says errSlow when ctx ends first.
func (r *reader) get(ctx context.Context, dev string) Super {
	r.mu.Lock()
	if r.flight == nil {
		r.flight, r.last = map[string]chan struct{}{}, map[string]Super{}
	}
	done, under := r.flight[dev]
	if !under {
		done = make(chan struct{})
		r.flight[dev] = done
		r.group.Go(func() {
			s, err := r.read(dev)
			r.mu.Lock()
			r.last[dev] = Super{s, err}
			delete(r.flight, dev)
			r.mu.Unlock()
			close(done)
		})
	}
	r.mu.Unlock()
	if under { // it began before this call: what it gives may be older than what the caller has seen meanwhile
		select {
		case <-done:
			return r.get(ctx, dev)
		case <-ctx.Done():
			return Super{Err: errSlow}
		}
	}
	select {
	case <-done:
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.last[dev]
	case <-ctx.Done():
		return Super{Err: errSlow}
	}
}

// Wait ends when nothing that the worker has begun is under way.
func (w *Worker) Wait() { w.supers.wait() }

var errUnknownStep = errors.New("the step is not known")

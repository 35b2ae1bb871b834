package proxy

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"cloudengine/events"
	"cloudengine/workers/md"
)

// superTimeout bounds what a look waits for legs that do not answer. Longer than a transport takes to say that a path is lost.
const superTimeout = 3 * time.Second

// recordTimeout bounds the reading of an array's records, recordPatience what a look waits for it.
const (
	recordTimeout  = 30 * time.Second
	recordPatience = 300 * time.Millisecond
)

// Observe reads the kernel's lists, then the superblocks and reservations of all legs that are there, and the records of arrays that run. A leg or a record
// that cannot be read is told as such; a list that cannot be read is an error.
func (w *Worker) Observe(ctx context.Context) (Observed, error) {
	w.init()
	o := Observed{Boot: w.Boot, Fetches: w.Fetch != nil, Supers: map[string]Super{}, Locks: map[string]Lock{}, Tried: map[string]string{}, Records: map[events.ArrayID]RecordRead{},
		Zeroed: map[string]int{}, Floor: map[events.ArrayID]uint64{}, Checks: map[events.ArrayID]events.IntentID{}}
	arrays, err := w.Arrays.Arrays(w.Root)
	if err != nil {
		return Observed{}, err
	}
	devices, err := w.Mapper.List()
	if err != nil {
		return Observed{}, err
	}
	for _, d := range devices {
		if ours(d) {
			o.Devices = append(o.Devices, d)
		}
	}
	if o.Exports, err = w.Target.Exports(ctx); err != nil {
		return Observed{}, fmt.Errorf("list exports: %w", err)
	}
	if o.Sessions, err = w.Initiator.Sessions(ctx); err != nil {
		return Observed{}, fmt.Errorf("list sessions: %w", err)
	}
	if o.LUNs, err = w.Initiator.LUNs(ctx); err != nil {
		return Observed{}, fmt.Errorf("list LUNs: %w", err)
	}
	w.readSupers(ctx, &o)
	for _, a := range arrays {
		o.MD = append(o.MD, MD{a, owner(a, o.Supers)})
	}
	w.readRecords(&o)
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, n := range w.zeroed {
		o.Zeroed[k] = n
	}
	o.Fills = w.fillsNow()
	for id, n := range w.floor {
		o.Floor[id] = n
	}
	maps.Copy(o.Checks, w.checks)
	for _, l := range o.LUNs {
		if why, ok := w.tried[l.NAA]; ok {
			o.Tried[l.NAA] = why
		}
	}
	return o, nil
}

// owner says whose an array is. One that does not run has no uuid, and is known by its members.
func owner(a md.Array, supers map[string]Super) events.ArrayID {
	if a.UUID != "" {
		return events.ArrayID(a.UUID)
	}
	for _, m := range a.Members {
		if s, ok := supers[m.Dev]; ok && s.Err == nil {
			return events.ArrayID(s.UUID)
		}
	}
	return ""
}

// readSupers reads all legs, and who has reserved them, at once.
func (w *Worker) readSupers(ctx context.Context, o *Observed) {
	ctx, cancel := context.WithTimeout(ctx, superTimeout)
	defer cancel()
	var group sync.WaitGroup
	var mu sync.Mutex
	for _, l := range o.LUNs {
		if l.State != "" && l.State != "running" {
			continue // a read would wait, or fail: its state says enough
		}
		group.Go(func() {
			s := w.supers.get(ctx, l.Dev)
			mu.Lock()
			o.Supers[l.Dev] = s
			mu.Unlock()
		})
		group.Go(func() {
			s, err := w.Initiator.Reservation(ctx, l.Dev)
			mu.Lock()
			o.Locks[l.Dev] = Lock{s, err}
			mu.Unlock()
		})
	}
	group.Wait()
	for _, l := range o.LUNs {
		if _, ok := o.Supers[l.Dev]; !ok {
			o.Supers[l.Dev], o.Locks[l.Dev] = Super{Err: errSlow}, Lock{Err: errSlow}
		}
	}
}

// readRecords reads the records of arrays that run here and are owned. Nobody else writes them, so they are read once for each assembly, and
// after each change.
func (w *Worker) readRecords(o *Observed) {
	for _, a := range o.MD {
		v := o.view(a.ID, nil)
		if len(v.arrays) != 1 || !a.Serves() || !over(v.own, a.DevNo) {
			continue
		}
		device := v.own.UUID + " " + v.own.Number()
		w.mu.Lock()
		have := w.records[a.ID]
		w.mu.Unlock()
		if have.device == device && !have.stale && !have.reading && have.read.Err == nil {
			o.Records[a.ID] = have.read
			continue
		}
		if r, ok := w.readRecord(a.ID, device); ok {
			o.Records[a.ID] = r
		} else if have.device == device && have.read.Err != nil {
			o.Records[a.ID] = have.read
		}
	}
}

// readRecord reads records beside the look: if that takes longer than recordPatience, this look goes without them, and the loop is woken
// when they are there. It says whether they are.
func (w *Worker) readRecord(id events.ArrayID, device string) (RecordRead, bool) {
	w.mu.Lock()
	c := w.records[id]
	if c.reading {
		w.mu.Unlock()
		return RecordRead{}, false
	}
	w.records[id] = cached{read: c.read, device: device, reading: true} // a step that changes them meanwhile makes them stale again
	w.mu.Unlock()
	done := make(chan RecordRead, 1)
	late := make(chan struct{})
	w.supers.group.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
		defer cancel()
		r, err := w.Records.Read(ctx, id, ownerPath(id))
		read := RecordRead{r, err}
		w.mu.Lock()
		c := w.records[id]
		w.records[id] = cached{read: read, device: device, stale: c.stale || err != nil || c.device != device}
		w.mu.Unlock()
		done <- read
		select {
		case <-late:
			if w.Wake != nil {
				w.Wake()
			}
		default:
		}
	})
	wait := time.NewTimer(recordPatience)
	defer wait.Stop()
	select {
	case r := <-done:
		return r, true
	case <-wait.C:
		close(late)
	}
	select {
	case r := <-done: // just now: nobody wakes the loop
		return r, true
	default:
		return RecordRead{}, false
	}
}

// changed says that a step has changed, or may have changed, the records of an array.
func (w *Worker) changed(id events.ArrayID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.records[id]
	c.stale = true
	w.records[id] = c
}

// forget drops what was zeroed and filled of an array: it is being brought up, and another may have written it.
func (w *Worker) forget(id events.ArrayID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.zeroed {
		if len(k) > len(id) && k[:len(id)] == string(id) {
			delete(w.zeroed, k)
		}
	}
	for k := range w.fills {
		if len(k) > len(id) && k[:len(id)] == string(id) {
			w.dropFill(k)
		}
	}
	delete(w.checks, id)
	c := w.records[id]
	c.stale, c.device = true, ""
	w.records[id] = c
}

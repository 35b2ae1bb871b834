package proxy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"cloudengine/events"
	"cloudengine/workers/md"
)

// superTimeout bounds what a look waits for legs that do not answer. Longer than a transport takes to say that a path is lost.
const superTimeout = 3 * time.Second

// recordTimeout bounds the reading of an array's records.
const recordTimeout = 20 * time.Second

// Observe reads the kernel's lists, then the superblocks of all legs that are there, and the records of arrays that run. A leg or a record
// that cannot be read is told as such; a list that cannot be read is an error.
func (w *Worker) Observe(ctx context.Context) (Observed, error) {
	w.init()
	o := Observed{Boot: w.Boot, Fetches: w.Fetch != nil, Supers: map[string]Super{}, Records: map[events.ArrayID]RecordRead{},
		Zeroed: map[string]int{}, Floor: map[events.ArrayID]uint64{}}
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
	w.readRecords(ctx, &o)
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, n := range w.zeroed {
		o.Zeroed[k] = n
	}
	for id, n := range w.floor {
		o.Floor[id] = n
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

// readSupers reads all legs at once.
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
	}
	group.Wait()
	for _, l := range o.LUNs {
		if _, ok := o.Supers[l.Dev]; !ok {
			o.Supers[l.Dev] = Super{Err: errSlow}
		}
	}
}

// readRecords reads the records of arrays that run here and are owned. Nobody else writes them, so they are read once for each assembly, and
// after each change.
func (w *Worker) readRecords(ctx context.Context, o *Observed) {
	for _, a := range o.MD {
		v := o.view(a.ID, nil)
		if len(v.arrays) != 1 || !a.Serves() || !over(v.own, a.DevNo) {
			continue
		}
		device := v.own.UUID + " " + v.own.Number()
		w.mu.Lock()
		have := w.records[a.ID]
		w.mu.Unlock()
		if have.device == device && !have.stale && have.read.Err == nil {
			o.Records[a.ID] = have.read
			continue
		}
		o.Records[a.ID] = w.readRecord(ctx, a.ID, device)
	}
}

func (w *Worker) readRecord(ctx context.Context, id events.ArrayID, device string) RecordRead {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	w.mu.Lock()
	w.records[id] = cached{device: device} // a step that changes them while they are read makes them stale again
	w.mu.Unlock()
	r, err := w.Records.Read(ctx, id, ownerPath(id))
	read := RecordRead{r, err}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.records[id]; c.stale || err != nil {
		w.records[id] = cached{device: device, stale: true}
	} else {
		w.records[id] = cached{read: read, device: device}
	}
	return read
}

// changed says that a step has changed, or may have changed, the records of an array.
func (w *Worker) changed(id events.ArrayID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.records[id]
	c.stale = true
	w.records[id] = c
}

// forget drops what was zeroed of an array: it is being brought up, and another may have written it.
func (w *Worker) forget(id events.ArrayID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.zeroed {
		if len(k) > len(id) && k[:len(id)] == string(id) {
			delete(w.zeroed, k)
		}
	}
	delete(w.records, id)
}

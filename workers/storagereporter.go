package workers

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"cloudengine/events"
)

// StorageReporter sends what the loops of storage publish, as one report of the machine: whenever it differs from what was told, and
// whole when that is due. Each report is repeated with the same bytes until it is answered. Safe for concurrent use; fields must not be
// changed once it is used.
type StorageReporter struct {
	Machine events.MachineID
	Boot    string
	Whole   bool                   // complete reports are sent: those of machines that store
	Next    func() (uint64, error) // the next counter; must never give one twice in this boot, whatever is killed
	Send    func(ctx context.Context, body []byte) (events.Answer, error)
	Drain   func() // asks the loops for complete snapshots
	Log     *slog.Logger
	Retry   time.Duration // first wait before a report is repeated; doubles up to 5 s; 100 ms
	Pace    time.Duration // least time between two reports; 500 ms

	once   sync.Once
	notice chan struct{}

	mu    sync.Mutex
	parts map[string]*storagePart
	due   bool   // a complete report
	told  string // the lists that were answered last
	term  uint64 // the highest of the documents
	cuts  uint64 // how often the connection was lost
}

// storagePart is what one loop said.
type storagePart struct {
	latest *Snapshot
	full   *Snapshot // the first complete one since one was due
}

func (r *StorageReporter) init() {
	r.once.Do(func() {
		r.notice, r.parts = make(chan struct{}, 1), map[string]*storagePart{}
		r.Retry, r.Pace = or(r.Retry, 100*time.Millisecond), or(r.Pace, 500*time.Millisecond)
	})
}

// Part makes one loop known, and gives what that loop publishes to. Call it for every loop before Run.
func (r *StorageReporter) Part(name string) func(Snapshot) {
	r.init()
	p := &storagePart{}
	r.parts[name] = p
	return func(s Snapshot) {
		r.mu.Lock()
		defer r.mu.Unlock()
		same := p.latest != nil && reflect.DeepEqual(p.latest.Storage, s.Storage)
		p.latest = &s
		if s.Term > r.term { // the log was restored: what is here has to be told anew
			r.term, r.told = s.Term, ""
			r.want()
		}
		if r.due && s.Complete && p.full == nil && s.Term >= r.term {
			p.full = &s
		}
		if !same || r.due || r.told == "" { // else it was told, or is being told
			r.signal()
		}
	}
}

func (r *StorageReporter) signal() {
	select {
	case r.notice <- struct{}{}:
	default:
	}
}

// want makes a complete report due.
func (r *StorageReporter) want() {
	r.due = r.Whole
	for _, p := range r.parts {
		p.full = nil
	}
}

// Complete asks for a complete report: every minute.
func (r *StorageReporter) Complete() {
	r.init()
	r.mu.Lock()
	r.want()
	r.mu.Unlock()
	r.Drain()
}

// Disconnected says that the control plane may have lost sight of this machine: all is told again.
func (r *StorageReporter) Disconnected() {
	r.init()
	r.mu.Lock()
	r.told = ""
	r.cuts++
	r.want()
	r.mu.Unlock()
	r.Drain()
}

// Run sends until ctx ends.
func (r *StorageReporter) Run(ctx context.Context) error {
	r.init()
	for {
		for {
			rep, lists, cut := r.next()
			if rep == nil {
				break
			}
			if err := r.deliver(ctx, rep, lists, cut); err != nil {
				return err
			}
			if err := pause(ctx, r.Pace); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.notice:
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// next builds the next report, or none if there is nothing new.
func (r *StorageReporter) next() (rep *events.StorageReport, lists string, cut uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rep = &events.StorageReport{}
	complete, term := r.due, r.term
	for _, name := range slices.Sorted(maps.Keys(r.parts)) {
		if r.parts[name].full == nil {
			complete = false
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.parts)) {
		p := r.parts[name]
		s := p.latest
		if complete {
			s = p.full
			term = min(term, s.Term)
		}
		if s == nil {
			continue
		}
		rep.Disks, rep.Exports = append(rep.Disks, s.Storage.Disks...), append(rep.Exports, s.Storage.Exports...)
		rep.Arrays, rep.Paths = append(rep.Arrays, s.Storage.Arrays...), append(rep.Paths, s.Storage.Paths...)
	}
	raw, err := json.Marshal(rep)
	if err != nil {
		r.Log.Error("report of storage cannot be encoded", "err", err)
		return nil, "", 0
	}
	lists = string(raw)
	if !complete && (lists == r.told || r.told == "" && lists == noStorage) {
		return nil, "", 0
	}
	rep.Machine, rep.Boot, rep.Complete = r.Machine, r.Boot, complete
	if complete {
		rep.Term = term
	}
	return rep, lists, r.cuts
}

// noStorage are the lists of a report of nothing.
var noStorage = func() string { raw, _ := json.Marshal(events.StorageReport{}); return string(raw) }()

// deliver repeats a report until it is answered.
func (r *StorageReporter) deliver(ctx context.Context, rep *events.StorageReport, lists string, cut uint64) error {
	n, err := r.Next()
	if err != nil {
		return fmt.Errorf("count report of storage: %w", err)
	}
	rep.Counter = n
	body, err := json.Marshal(rep)
	if err != nil {
		return fmt.Errorf("encode report of storage %d: %w", n, err)
	}
	for wait := r.Retry; ; wait = min(2*wait, 5*time.Second) {
		answer, err := r.Send(ctx, body)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil || again(answer.Outcome):
			r.Log.Warn("report of storage was not answered", "counter", n, "err", err, "code", answer.Outcome.Code)
		case answer.Outcome.Code == events.CodeStale: // another boot is enrolled, or a newer one was taken: it is said again, later
			r.Log.Error("report of storage is stale, says the control plane", "counter", n)
			return pause(ctx, 20*r.Retry)
		default:
			r.answered(rep, lists, cut, answer.Outcome)
			return nil
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

func (r *StorageReporter) answered(rep *events.StorageReport, lists string, cut uint64, o events.Outcome) {
	if o.Status == events.Refused {
		r.Log.Error("report of storage was refused", "counter", rep.Counter, "code", o.Code, "message", o.Message)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if cut != r.cuts { // it may be the answer of a server that was cut off: all is told again
		return
	}
	r.told = lists
	if rep.Complete {
		r.due = false
	}
}

package workers

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"cloudengine/events"
)

// answering answers reports of storage as the control plane would.
type answering struct {
	mu     sync.Mutex
	got    []events.StorageReport
	bodies [][]byte
	fail   int // so many reports are not answered
}

func (p *answering) send(_ context.Context, body []byte) (events.Answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bodies = append(p.bodies, body)
	if p.fail > 0 {
		p.fail--
		return events.Answer{}, errors.New("no answer")
	}
	var r events.StorageReport
	if err := json.Unmarshal(body, &r); err != nil {
		return events.Answer{}, err
	}
	p.got = append(p.got, r)
	return events.Answer{Outcome: events.Outcome{Status: events.Nothing}}, nil
}

// reporting runs a reporter with two parts until the test ends.
func reporting(t *testing.T, p *answering, whole bool) (r *StorageReporter, disks, arrays func(Snapshot)) {
	t.Helper()
	var n uint64
	r = &StorageReporter{
		Machine: "m", Boot: "b", Whole: whole, Send: p.send, Drain: func() {}, Log: slog.New(slog.DiscardHandler), Retry: time.Millisecond, Pace: time.Millisecond,
		Next: func() (uint64, error) { n++; return n, nil },
	}
	disks, arrays = r.Part("disks"), r.Part("arrays")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r, disks, arrays
}

// until waits for a report that is as wanted.
func (p *answering) until(t *testing.T, what string, ok func(events.StorageReport) bool) events.StorageReport {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		p.mu.Lock()
		for _, r := range p.got {
			if ok(r) {
				p.mu.Unlock()
				return r
			}
		}
		p.mu.Unlock()
	}
	t.Fatalf("no report of %s: %+v", what, p.got)
	return events.StorageReport{}
}

var (
	oneDisk  = events.StorageReport{Disks: []events.DiskReport{{Serial: "d"}}}
	oneArray = events.StorageReport{Arrays: []events.ArrayReport{{Array: "a", State: events.ArrayActive}}}
)

func TestStorageIsCompleteWhenEveryPartIs(t *testing.T) {
	p := &answering{}
	r, disks, arrays := reporting(t, p, true)
	r.Disconnected()
	disks(Snapshot{Complete: true, Term: 3, Storage: oneDisk})
	arrays(Snapshot{Complete: false, Term: 3, Storage: oneArray}) // a step is under way
	part := p.until(t, "both, in part", func(r events.StorageReport) bool { return len(r.Arrays) == 1 && len(r.Disks) == 1 })
	if part.Complete || part.Term != 0 {
		t.Fatalf("complete while a step is under way: %+v", part)
	}
	arrays(Snapshot{Complete: true, Term: 3, Storage: oneArray})
	whole := p.until(t, "all", func(r events.StorageReport) bool { return r.Complete })
	if whole.Term != 3 || len(whole.Disks) != 1 || len(whole.Arrays) != 1 || whole.Counter <= part.Counter {
		t.Fatalf("whole: %+v after %+v", whole, part)
	}
}

func TestStorageIsToldOnceAndRepeatedUntilItIsAnswered(t *testing.T) {
	p := &answering{fail: 3}
	r, disks, arrays := reporting(t, p, false)
	disks(Snapshot{Storage: oneDisk})
	p.until(t, "the disk", func(r events.StorageReport) bool { return len(r.Disks) == 1 })
	for range 20 {
		disks(Snapshot{Complete: true, Storage: oneDisk})
	}
	arrays(Snapshot{Storage: oneArray})
	p.until(t, "the array", func(r events.StorageReport) bool { return len(r.Arrays) == 1 })
	p.mu.Lock()
	told, same := len(p.got), string(p.bodies[0]) == string(p.bodies[3])
	p.mu.Unlock()
	if told != 2 || !same {
		t.Fatalf("%d reports were answered, want 2; repeated as it was: %v", told, same)
	}
	r.Disconnected()
	arrays(Snapshot{Storage: oneArray})
	p.until(t, "all again", func(r events.StorageReport) bool { return r.Counter == 3 && len(r.Disks) == 1 })
}

func TestAHostWithoutStorageSaysNothing(t *testing.T) {
	p := &answering{}
	r, disks, arrays := reporting(t, p, false)
	r.Disconnected()
	disks(Snapshot{Complete: true})
	arrays(Snapshot{Complete: true, Storage: oneArray})
	p.until(t, "the array", func(r events.StorageReport) bool { return len(r.Arrays) == 1 })
	arrays(Snapshot{Complete: true}) // it is gone: that is told
	p.until(t, "nothing left", func(r events.StorageReport) bool { return len(r.Arrays) == 0 })
	if p.got[0].Complete {
		t.Fatalf("complete: %+v", p.got[0])
	}
}

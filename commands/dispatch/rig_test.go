package dispatch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloudengine/commands"
	"cloudengine/commands/dispatch"
	"cloudengine/events"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// memoryLog is a log in memory whose next appends can be made to fail.
type memoryLog struct {
	mu       sync.Mutex
	payloads [][]byte
	faults   []fault
	hold     chan struct{} // if set, an append waits for it
	started  chan struct{}
}

// fault happens once, at an append.
type fault struct {
	rival  func(at events.Position) *events.Block // is stored before
	stored bool                                   // the block itself is stored
	err    error
}

func (l *memoryLog) Append(ctx context.Context, after uint64, payload []byte) (uint64, error) {
	l.mu.Lock()
	hold := l.hold
	if hold != nil {
		l.started <- struct{}{}
	}
	l.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var f fault
	if len(l.faults) > 0 {
		f, l.faults = l.faults[0], l.faults[1:]
	}
	if f.rival != nil {
		if err := l.put(f.rival(l.end())); err != nil {
			return 0, err
		}
	}
	if f.err != nil && !f.stored {
		return 0, f.err
	}
	if after != uint64(len(l.payloads)) {
		return 0, events.ErrConflict
	}
	l.payloads = append(l.payloads, payload)
	return after + 1, f.err
}

func (l *memoryLog) put(b *events.Block) error {
	payload, err := b.Encode()
	l.payloads = append(l.payloads, payload)
	return err
}

func (l *memoryLog) end() events.Position {
	at, err := l.read(events.Position{}, func(events.Position, *events.Block) error { return nil })
	if err != nil {
		panic(err)
	}
	return at
}

func (l *memoryLog) Load(_ context.Context, from events.Position, f func(events.Position, *events.Block) error) (events.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read(from, f)
}

func (l *memoryLog) read(at events.Position, f func(events.Position, *events.Block) error) (events.Position, error) {
	if at.Seq > uint64(len(l.payloads)) {
		return at, events.ErrBroken
	}
	for _, payload := range l.payloads[at.Seq:] {
		b, err := events.DecodeBlock(payload)
		if err != nil {
			return at, err
		}
		next, err := at.Next(at.Seq+1, b, events.Digest(payload))
		if err != nil {
			return at, err
		}
		if err := f(next, b); err != nil {
			return at, err
		}
		at = next
	}
	return at, nil
}

type rig struct {
	t      *testing.T
	log    *memoryLog
	d      *dispatch.Dispatcher
	leader atomic.Bool
	now    atomic.Int64 // the clock, as Unix nanoseconds

	mu      sync.Mutex
	applied []events.Recorded
}

const adminKey = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"

func newRig(t *testing.T, log *memoryLog, change func(*dispatch.Options)) *rig {
	t.Helper()
	r := &rig{t: t, log: log}
	r.leader.Store(true)
	r.now.Store(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC).UnixNano())
	o := dispatch.Options{
		Log: log, Leader: r.leader.Load, AdminKey: adminKey, Poll: time.Millisecond,
		Clock: func() time.Time { return time.Unix(0, r.now.Load()) },
	}
	if change != nil {
		change(&o)
	}
	var err error
	r.d, err = dispatch.New(o)
	must(t, err)
	r.d.OnApplied(func(rec []events.Recorded) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.applied = append(r.applied, rec...)
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

func (r *rig) wait(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited 10 s for %s; status %+v", what, r.d.Status())
		}
	}
}

func (r *rig) active() *rig {
	r.t.Helper()
	r.wait("the dispatcher to decide", func() bool { return r.d.Active() && r.d.Applied() >= 2 })
	return r
}

// cease lets another server decide.
func (r *rig) cease() {
	r.t.Helper()
	r.leader.Store(false)
	r.wait("the dispatcher to cease", func() bool { return !r.d.Active() })
}

func id(n int) events.IntentID {
	return events.IntentID(fmt.Sprintf("00000000-0000-4000-8000-%012d", n))
}

func create(n int, name string) commands.Command {
	args, _ := json.Marshal(commands.CreateAccount{Name: name}) // strings only
	return commands.Command{Intent: id(n), Actor: "admin", Kind: events.KindAccount, Verb: "create", Args: args}
}

func (r *rig) submit(c commands.Command) events.Answer {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	a, err := r.d.Submit(ctx, c, false)
	must(r.t, err)
	return a
}

// check folds the log anew and compares the numbers that were told of.
func (r *rig) check() []events.Recorded {
	r.t.Helper()
	r.mu.Lock() // before the log is read, which goes on growing
	applied := r.applied[:len(r.applied):len(r.applied)]
	r.mu.Unlock()
	var all []events.Recorded
	_, err := r.log.Load(context.Background(), events.Position{}, func(_ events.Position, b *events.Block) error {
		all = append(all, b.Recorded()...)
		return nil
	})
	must(r.t, err)
	for i, a := range applied {
		if i > 0 && a.Number != applied[i-1].Number+1 {
			r.t.Fatalf("told of decision %d after %d", a.Number, applied[i-1].Number)
		}
		if a.Intent != all[a.Number-1].Intent {
			r.t.Fatalf("decision %d was told as %s and is %s", a.Number, a.Intent, all[a.Number-1].Intent)
		}
	}
	return all
}

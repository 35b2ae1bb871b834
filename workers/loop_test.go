package workers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// toy is a machine that holds one number per object; a document's body is the number that is wanted. Each step adds one.
type toy struct {
	mu      sync.Mutex
	values  map[string]int
	running map[string]int
	overlap bool
	applied int
	broken  bool
	apply   func(s Step) error
	hold    chan struct{} // if set, a step waits for it
	begun   chan string
}

func newToy() *toy {
	return &toy{values: map[string]int{}, running: map[string]int{}, begun: make(chan string, 1000)}
}

func (w *toy) Observe(context.Context) (map[string]int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return nil, errors.New("the tool does not answer")
	}
	out := map[string]int{}
	for k, v := range w.values {
		out[k] = v
	}
	return out, nil
}

func (w *toy) Plan(docs []desired.Document, seen map[string]int) []Plan {
	var plans []Plan
	for _, d := range docs {
		var want int
		if _, err := fmt.Sscan(string(d.Body), &want); err != nil {
			continue
		}
		p := Plan{Object: ref(d), Generation: d.Generation, Urgent: want > 100}
		for n := seen[d.ID]; n < want%100; n++ {
			p.Steps = append(p.Steps, Step{Kind: "add", Target: d.ID, Params: map[string]string{"to": fmt.Sprint(n + 1)}})
		}
		if len(p.Steps) > 0 {
			plans = append(plans, p)
		}
	}
	return plans
}

func (w *toy) Apply(ctx context.Context, s Step) error {
	w.mu.Lock()
	w.running[s.Target]++
	w.overlap = w.overlap || w.running[s.Target] > 1
	hold, apply := w.hold, w.apply
	w.mu.Unlock()
	w.begun <- s.Target
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
		}
	}
	var err error
	if apply != nil {
		err = apply(s)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[s.Target]--
	w.applied++
	if err == nil {
		w.values[s.Target]++
	}
	return err
}

func (w *toy) Describe(_ []desired.Document, seen map[string]int, busy map[events.Ref]bool) Snapshot {
	var s Snapshot
	for k, v := range seen {
		if !busy[events.Ref{Kind: "toy", ID: k}] {
			s.Domains = append(s.Domains, events.DomainReport{UUID: k, DomID: v})
		}
	}
	return s
}

func (w *toy) value(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.values[id]
}

func doc(number uint64, id string, want int) desired.Document {
	return desired.Document{Version: 1, Machine: "m", Boot: "b", Kind: "toy", ID: id, Generation: events.Generation{Term: 1, Number: number}, Body: fmt.Append(nil, want)}
}

func startLoop(t *testing.T, w *toy, opt Options) *Loop[map[string]int] {
	t.Helper()
	opt.Interval, opt.Retry = time.Hour, time.Millisecond
	l := NewLoop(w, NewWishes("m", "b"), opt)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

func offer(t *testing.T, l *Loop[map[string]int], d desired.Document, want Verdict) {
	t.Helper()
	if v, err := l.Offer(d); err != nil || v != want {
		t.Fatalf("offer %v: %s, %v; want %s", d.Generation, v, err, want)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 20 s: %s", what)
}

func TestConvergesAndRefusesOlder(t *testing.T) {
	w := newToy()
	l := startLoop(t, w, Options{})
	offer(t, l, doc(5, "x", 3), Taken)
	eventually(t, "x is 3", func() bool { return w.value("x") == 3 })
	offer(t, l, doc(5, "x", 9), Same)
	offer(t, l, doc(4, "x", 9), Older)
	other := doc(9, "x", 9)
	other.Boot = "an earlier one"
	offer(t, l, other, OtherBoot)
	other = doc(9, "x", 9)
	other.Machine = "another"
	offer(t, l, other, NotOurs)
	high := doc(1, "y", 1)
	high.Generation.Term = 2
	offer(t, l, high, Taken)
	offer(t, l, doc(9, "z", 9), LowerTerm)
	eventually(t, "y is 1", func() bool { return w.value("y") == 1 })
	if w.value("x") != 3 || w.value("z") != 0 {
		t.Fatalf("refused documents were obeyed: %v", w.values)
	}
}

func TestStepsOfOneObjectNeverOverlapAndOthersDoNotWait(t *testing.T) {
	w := newToy()
	w.hold = make(chan struct{})
	l := startLoop(t, w, Options{})
	offer(t, l, doc(1, "slow", 5), Taken)
	<-w.begun
	offer(t, l, doc(2, "quick", 1), Taken)
	for range 20 {
		l.Wake()
	}
	eventually(t, "quick has begun beside slow", func() bool { return len(w.begun) == 1 })
	close(w.hold)
	eventually(t, "both are done", func() bool { return w.value("slow") == 5 && w.value("quick") == 1 })
	if w.overlap {
		t.Fatal("two steps of one object ran at once")
	}
}

func TestNewerDocumentStopsAPlan(t *testing.T) {
	w := newToy()
	w.hold = make(chan struct{})
	l := startLoop(t, w, Options{})
	offer(t, l, doc(1, "x", 50), Taken)
	<-w.begun
	offer(t, l, doc(2, "x", 2), Taken)
	close(w.hold)
	eventually(t, "x is 2", func() bool { return w.value("x") >= 2 })
	time.Sleep(10 * time.Millisecond) // time enough for a plan that goes on
	if w.value("x") != 2 {
		t.Fatalf("x is %d: the old plan went on", w.value("x"))
	}
}

func TestFailureIsReportedAndTriedAgain(t *testing.T) {
	w := newToy()
	var fail atomic.Bool
	fail.Store(true)
	w.apply = func(Step) error {
		if fail.Load() {
			return errors.New("no memory")
		}
		return nil
	}
	var mu sync.Mutex
	var failed []events.StepFailed
	l := startLoop(t, w, Options{Publish: func(s Snapshot) { mu.Lock(); failed = s.Failed; mu.Unlock() }})
	offer(t, l, doc(1, "x", 1), Taken)
	look := func() []events.StepFailed { mu.Lock(); defer mu.Unlock(); return slices.Clone(failed) }
	eventually(t, "the failure is published", func() bool { return len(look()) == 1 })
	if f := look()[0]; f.Step != "add" || !f.Retryable || f.Message != "add x: no memory" || f.Generation.Number != 1 {
		t.Fatalf("%+v", f)
	}
	fail.Store(false)
	eventually(t, "x is 1", func() bool { return w.value("x") == 1 })
	eventually(t, "no failure is left", func() bool { return len(look()) == 0 })
}

func TestPermanentFailureWaitsForANewerDocument(t *testing.T) {
	w := newToy()
	w.apply = func(s Step) error {
		if s.Params["to"] == "1" {
			return Permanent(errors.New("no such thing"))
		}
		return nil
	}
	l := startLoop(t, w, Options{})
	offer(t, l, doc(1, "x", 1), Taken)
	<-w.begun
	for range 50 {
		l.Wake()
		time.Sleep(time.Millisecond)
	}
	if len(w.begun) != 0 {
		t.Fatal("it was tried again")
	}
	offer(t, l, doc(2, "x", 1), Taken)
	<-w.begun
}

func TestBrokenToolGivesNoSnapshot(t *testing.T) {
	w := newToy()
	w.broken = true
	n := 0
	var mu sync.Mutex
	l := startLoop(t, w, Options{Publish: func(Snapshot) { mu.Lock(); n++; mu.Unlock() }})
	offer(t, l, doc(1, "x", 1), Taken)
	for range 20 {
		l.Wake()
		time.Sleep(time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	if n != 0 || w.value("x") != 0 {
		t.Fatalf("%d snapshots without an observation", n)
	}
}

func TestDrainLetsOnlyUrgentPlansBegin(t *testing.T) {
	w := newToy()
	w.hold = make(chan struct{})
	complete := make(chan struct{}, 100)
	l := startLoop(t, w, Options{Publish: func(s Snapshot) {
		if s.Complete {
			complete <- struct{}{}
		}
	}})
	<-complete
	offer(t, l, doc(1, "a", 1), Taken)
	if got := <-w.begun; got != "a" {
		t.Fatal(got)
	}
	for len(complete) > 0 {
		<-complete
	}
	l.Drain()
	offer(t, l, doc(2, "b", 1), Taken)
	offer(t, l, doc(3, "u", 101), Taken)
	if got := <-w.begun; got != "u" {
		t.Fatalf("%s began while draining", got)
	}
	if len(complete) != 0 {
		t.Fatal("a snapshot is called complete while steps are under way")
	}
	close(w.hold)
	<-complete
	eventually(t, "b goes on after it", func() bool { return w.value("b") == 1 })
}

func TestDocumentIsKeptBeforeItCounts(t *testing.T) {
	w := newToy()
	l := startLoop(t, w, Options{Keep: func(desired.Document) error { return errors.New("disk full") }})
	if _, err := l.Offer(doc(1, "x", 1)); err == nil {
		t.Fatal("a document counts that was not kept")
	}
	if _, ok := l.wishes.Generation(events.Ref{Kind: "toy", ID: "x"}); ok {
		t.Fatal("it is held all the same")
	}
}

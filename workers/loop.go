package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// Worker is what one kind of machine adds to the loop. O is what it sees of its machine.
type Worker[O any] interface {
	// Observe reads the machine. It returns an error unless what it saw is all there is: unknown is not "off".
	Observe(ctx context.Context) (O, error)
	// Plan is pure, total and deterministic: at most one plan per object, sorted by object.
	Plan(docs []desired.Document, seen O) []Plan
	// Apply does one step. Each step may be done again.
	Apply(ctx context.Context, s Step) error
	// Describe says what is reported of what was seen. It leaves out objects whose steps are under way.
	Describe(docs []desired.Document, seen O, busy map[events.Ref]bool) Snapshot
}

// Snapshot is what a worker has to say after one look at its machine.
type Snapshot struct {
	Complete bool   // no step was under way: every domain is in it
	Term     uint64 // of the documents: with Complete, nothing will be done any more that one of a lower term asked for
	Domains  []events.DomainReport
	Ended    []events.DomainEnded
	Failed   []events.StepFailed
	Storage  events.StorageReport // its lists only: what a worker of storage sees
}

// Options of a loop. Zero values get defaults.
type Options struct {
	Log         *slog.Logger
	Publish     func(Snapshot)               // after each look at the machine, before anything is done about it
	Keep        func(desired.Document) error // stores a document before it counts
	Interval    time.Duration                // longest time between two looks; 15 s
	Calm        time.Duration                // the same after a while in which nothing has happened; Interval
	StepTimeout time.Duration                // 120 s
	Retry       time.Duration                // first wait after a failure; doubles up to 30 s; 500 ms
	Report      func(events.Ref) events.Ref  // how an object is called in reports; itself

	now func() time.Time // the clock of calm; time.Now
}

// Loop observes, plans, applies and reports, until its context ends.
type Loop[O any] struct {
	worker Worker[O]
	wishes *Wishes
	opt    Options
	wake   chan struct{}

	stirred atomic.Bool // something may have happened since the last look began
	calm    calm

	mu      sync.Mutex
	busy    map[events.Ref]bool
	history map[events.Ref]*history
	drain   bool
	failing int // looks that failed in a row
	group   sync.WaitGroup
}

// history is what happened to an object's last plan.
type history struct {
	generation events.Generation
	steps      string // of the last plan that was carried out to its end
	delay      time.Duration
	until      time.Time
	failed     *events.StepFailed
}

// NewLoop makes a loop over wishes. Documents go in by Offer.
func NewLoop[O any](worker Worker[O], wishes *Wishes, opt Options) *Loop[O] {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Publish == nil {
		opt.Publish = func(Snapshot) {}
	}
	if opt.Keep == nil {
		opt.Keep = func(desired.Document) error { return nil }
	}
	if opt.Report == nil {
		opt.Report = func(r events.Ref) events.Ref { return r }
	}
	if opt.now == nil {
		opt.now = time.Now
	}
	opt.Interval = or(opt.Interval, 15*time.Second)
	opt.StepTimeout = or(opt.StepTimeout, 120*time.Second)
	opt.Retry = or(opt.Retry, 500*time.Millisecond)
	return &Loop[O]{
		worker: worker, wishes: wishes, opt: opt, wake: make(chan struct{}, 1),
		busy: map[events.Ref]bool{}, history: map[events.Ref]*history{},
	}
}

func or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// Offer hands a document to the loop. When it returns nil, the document is kept or refused for good and can be acknowledged.
// It must not be called from two goroutines at once.
func (l *Loop[O]) Offer(d desired.Document) (Verdict, error) {
	if v := l.wishes.Judge(d); v != Taken {
		return v, nil
	}
	if err := l.opt.Keep(d); err != nil {
		return "", fmt.Errorf("keep document %s/%s: %w", d.Kind, d.ID, err)
	}
	v := l.wishes.Take(d)
	l.Wake()
	return v, nil
}

// Wake makes the loop look at once, and often for a while: something may have happened.
func (l *Loop[O]) Wake() {
	l.stirred.Store(true)
	l.look()
}

// look makes the loop look at once.
func (l *Loop[O]) look() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Drain lets nothing new begin, except what is urgent, until a complete snapshot was published.
func (l *Loop[O]) Drain() {
	l.mu.Lock()
	l.drain = true
	l.mu.Unlock()
	l.look()
}

// Run loops until ctx ends, and then waits for the steps under way.
func (l *Loop[O]) Run(ctx context.Context) error {
	defer l.group.Wait()
	for ctx.Err() == nil {
		wait := l.pass(ctx)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return ctx.Err()
}

// pass looks once, publishes, and starts what is to be done. It returns how long the next look may wait.
func (l *Loop[O]) pass(ctx context.Context) time.Duration {
	busy := l.underWay() // BEFORE the look: what ends meanwhile is planned from a newer one
	seen, err := l.worker.Observe(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return 0
		}
		l.failing++
		l.calm = calm{}
		l.opt.Log.Error("observe the machine", "err", err, "times", l.failing)
		return min(l.opt.Retry<<min(l.failing-1, 6), 30*time.Second, l.opt.Interval)
	}
	l.failing = 0
	docs, term := l.wishes.Present()
	plans := l.worker.Plan(docs, seen)
	snap := l.worker.Describe(docs, seen, busy)
	snap.Complete, snap.Term = len(busy) == 0, term
	snap.Failed = l.settle(plans, busy)
	l.opt.Publish(snap) // BEFORE anything is done: a stale domain is told of even if it is gone a moment later
	l.mu.Lock()
	held := l.drain && !snap.Complete
	l.drain = held
	l.mu.Unlock()
	wait := l.longest(len(plans) == 0 && len(busy) == 0, docs, seen, snap)
	for _, p := range plans {
		if busy[p.Object] || held && !p.Urgent {
			continue
		}
		if left := l.backoff(p); left > 0 {
			wait = min(wait, left)
			continue
		}
		l.start(ctx, p)
	}
	return wait
}

// DryRun observes and plans, and does nothing.
func (l *Loop[O]) DryRun(ctx context.Context) ([]Plan, error) {
	seen, err := l.worker.Observe(ctx)
	if err != nil {
		return nil, fmt.Errorf("observe the machine: %w", err)
	}
	return l.worker.Plan(l.wishes.All(), seen), nil
}

func (l *Loop[O]) underWay() map[events.Ref]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	busy := make(map[events.Ref]bool, len(l.busy))
	for o := range l.busy {
		busy[o] = true
	}
	return busy
}

// settle forgets the failures of objects for which nothing is to be done any more, and lists the others.
func (l *Loop[O]) settle(plans []Plan, busy map[events.Ref]bool) []events.StepFailed {
	planned := make(map[events.Ref]bool, len(plans))
	for _, p := range plans {
		planned[p.Object] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var failed []events.StepFailed
	for o, h := range l.history {
		if !planned[o] && !busy[o] {
			delete(l.history, o)
		} else if h.failed != nil {
			failed = append(failed, *h.failed)
		}
	}
	sortFailed(failed)
	return failed
}

// backoff says how long p must still wait. A plan that was carried out and is planned again, unchanged, waits like a failed one.
func (l *Loop[O]) backoff(p Plan) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.history[p.Object]
	if h == nil || h.generation != p.Generation {
		return 0
	}
	if h.steps != "" && h.steps == fingerprint(p) {
		h.steps = ""
		l.postpone(h)
	}
	return time.Until(h.until)
}

func (l *Loop[O]) postpone(h *history) {
	h.delay = min(max(2*h.delay, l.opt.Retry), 30*time.Second)
	h.until = time.Now().Add(h.delay)
}

func fingerprint(p Plan) string { return Print([]Plan{p}) }

func (l *Loop[O]) start(ctx context.Context, p Plan) {
	l.mu.Lock()
	l.busy[p.Object] = true
	l.mu.Unlock()
	l.group.Add(1)
	go func() {
		defer l.group.Done()
		err := l.apply(ctx, p)
		l.finish(p, err)
		l.Wake()
	}()
}

// apply does the steps of p in order. A step that has begun is not cut off by the end of ctx, only by its own time limit.
func (l *Loop[O]) apply(ctx context.Context, p Plan) error {
	for _, s := range p.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if g, ok := l.wishes.Generation(p.Object); ok && g != p.Generation {
			return ErrSuperseded
		}
		began := time.Now()
		stepCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.opt.StepTimeout)
		err := l.worker.Apply(stepCtx, s)
		cancel()
		if err != nil {
			return stepError(s, err)
		}
		l.opt.Log.Info("step done", "object", p.Object, "step", s.Kind, "target", s.Target, "why", s.Why, "took", time.Since(began))
	}
	return nil
}

func (l *Loop[O]) finish(p Plan, err error) {
	var failed *StepError
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.busy, p.Object)
	h := l.history[p.Object]
	if h == nil || h.generation != p.Generation {
		h = &history{generation: p.Generation}
		l.history[p.Object] = h
	}
	switch {
	case err == nil:
		h.steps, h.failed = fingerprint(p), nil
	case errors.As(err, &failed):
		l.opt.Log.Error("step failed", "object", p.Object, "err", err, "retryable", failed.Retryable())
		h.steps = ""
		h.failed = &events.StepFailed{
			Object: l.opt.Report(p.Object), Generation: p.Generation, Step: failed.Step.Kind,
			Message: failed.Error(), Retryable: failed.Retryable(),
		}
		l.postpone(h)
		if failed.Permanent {
			h.until = time.Now().Add(10 * 365 * 24 * time.Hour)
		}
	default:
		l.opt.Log.Info("plan left", "object", p.Object, "reason", err)
	}
}

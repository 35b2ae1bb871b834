package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"cloudengine/events"
)

// plane answers reports as a test wants, and keeps those that it answered.
type plane struct {
	mu     sync.Mutex
	bodies []string
	taken  []events.Report
	answer func(n int) (events.Answer, error) // by the number of the call, from 1
	calls  int
	got    chan events.Report
}

var taken = events.Answer{Outcome: events.Outcome{Status: events.Nothing}}

func (p *plane) send(_ context.Context, _ uint64, body []byte) (events.Answer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	p.bodies = append(p.bodies, string(body))
	a, err := taken, error(nil)
	if p.answer != nil {
		a, err = p.answer(p.calls)
	}
	if err == nil && a.Outcome.Status != "" && a.Outcome.Code != events.CodeBusy {
		var r events.Report
		if err := json.Unmarshal(body, &r); err != nil {
			return a, err
		}
		p.taken = append(p.taken, r)
		p.got <- r
	}
	return a, err
}

func newReporter(t *testing.T, p *plane) *Reporter {
	t.Helper()
	p.got = make(chan events.Report, 100)
	var n uint64
	r := &Reporter{
		Machine: "m", Boot: "b", Next: func() (uint64, error) { n++; return n, nil }, Send: p.send, Drain: func() {},
		Log: slog.New(slog.DiscardHandler), Retry: time.Millisecond,
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

func (p *plane) next(t *testing.T) events.Report {
	t.Helper()
	select {
	case r := <-p.got:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("no report within 20 s")
		return events.Report{}
	}
}

func (p *plane) none(t *testing.T) {
	t.Helper()
	select {
	case r := <-p.got:
		t.Fatalf("unexpected report %+v", r)
	case <-time.After(30 * time.Millisecond):
	}
}

func domainOf(vm string, id int, state string) events.DomainReport {
	return events.DomainReport{UUID: vm, VM: events.VMID(vm), DomID: id, State: state, Stamped: true, Epoch: events.Epoch{Term: 1, Counter: 1}}
}

func endOf(vm string) events.DomainEnded {
	return events.DomainEnded{VM: events.VMID(vm), Epoch: events.Epoch{Term: 1, Counter: 1}, How: events.EndedDestroyed}
}

func TestReportsChangesOnce(t *testing.T) {
	p := &plane{}
	r := newReporter(t, p)
	a, b := domainOf("a", 1, "paused"), domainOf("b", 2, "running")
	r.Complete()
	r.Offer(Snapshot{Domains: []events.DomainReport{a}})
	if got := p.next(t); got.Complete || len(got.Domains) != 1 {
		t.Fatalf("%+v", got)
	}
	r.Offer(Snapshot{Complete: true, Domains: []events.DomainReport{a, b}})
	if got := p.next(t); !got.Complete || len(got.Domains) != 2 || got.Counter != 2 {
		t.Fatalf("%+v", got)
	}
	r.Offer(Snapshot{Complete: true, Domains: []events.DomainReport{a, b}})
	p.none(t)
	a.State = "running"
	r.Offer(Snapshot{Complete: true, Domains: []events.DomainReport{a, b}})
	if got := p.next(t); got.Complete || len(got.Domains) != 1 || got.Domains[0] != a {
		t.Fatalf("%+v", got)
	}
	r.Offer(Snapshot{Complete: true, Domains: []events.DomainReport{a}})
	if got := p.next(t); !got.Complete || len(got.Domains) != 1 {
		t.Fatalf("one that is gone is not told by a complete report: %+v", got)
	}
}

func TestRepeatsTheSameBytesUntilAnswered(t *testing.T) {
	p := &plane{answer: func(n int) (events.Answer, error) {
		switch n {
		case 1, 2:
			return events.Answer{}, errors.New("time-out")
		case 3:
			return events.Answer{Outcome: events.Outcome{Status: events.Refused, Code: events.CodeBusy}}, nil
		}
		return taken, nil
	}}
	r := newReporter(t, p)
	r.Offer(Snapshot{Domains: []events.DomainReport{domainOf("a", 1, "running")}})
	p.next(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.bodies) != 4 {
		t.Fatalf("sent %d times", len(p.bodies))
	}
	for _, b := range p.bodies {
		if b != p.bodies[0] {
			t.Fatalf("%s is not %s", b, p.bodies[0])
		}
	}
}

// What was there when the connection came back is told, even if it is destroyed before the report is built.
func TestTellsWhatIsGoneAMomentLater(t *testing.T) {
	p := &plane{}
	r := newReporter(t, p)
	a := domainOf("a", 1, "running")
	r.Offer(Snapshot{Complete: true, Domains: []events.DomainReport{a}})
	p.next(t)
	r.Disconnected()
	r.offerAll([]Snapshot{
		{Complete: true, Domains: []events.DomainReport{a}},
		{Complete: false},
		{Complete: true, Ended: []events.DomainEnded{endOf("a")}},
	})
	if got := p.next(t); !got.Complete || len(got.Domains) != 1 || len(got.Ended) != 0 {
		t.Fatalf("%+v", got)
	}
	for range 2 {
		got := p.next(t)
		if len(got.Domains) == 0 && len(got.Ended) == 1 {
			return
		}
	}
	t.Fatal("the end was not told")
}

// offerAll offers several before the sender looks.
func (r *Reporter) offerAll(all []Snapshot) {
	r.init()
	for _, s := range all {
		r.note(s)
	}
	r.signal()
}

func TestNeverThereAndEndedInOneReport(t *testing.T) {
	p := &plane{}
	r := newReporter(t, p)
	r.offerAll([]Snapshot{
		{Complete: true, Domains: []events.DomainReport{domainOf("a", 1, "running")}},
		{Complete: true, Ended: []events.DomainEnded{endOf("a")}},
	})
	for {
		got := p.next(t)
		if len(got.Domains) > 0 && len(got.Ended) > 0 {
			t.Fatalf("%+v", got)
		}
		if len(got.Ended) > 0 {
			return
		}
	}
}

func TestEndsAreToldInPiecesAndOnce(t *testing.T) {
	p := &plane{}
	r := newReporter(t, p)
	var s Snapshot
	for i := range 450 {
		s.Ended = append(s.Ended, endOf(fmt.Sprint(i)))
	}
	s.Complete = true
	r.Offer(s)
	total := 0
	for total < 450 {
		got := p.next(t)
		if len(got.Ended) > maxEnded {
			t.Fatalf("%d ends in one report", len(got.Ended))
		}
		total += len(got.Ended)
	}
	r.Offer(s)
	p.none(t)
}

func TestStaleReportIsSaidAgainUnderTheNextCounter(t *testing.T) {
	p := &plane{answer: func(n int) (events.Answer, error) {
		if n == 1 {
			return events.Answer{Outcome: events.Outcome{Status: events.Refused, Code: events.CodeStale}}, nil
		}
		return taken, nil
	}}
	r := newReporter(t, p)
	r.Offer(Snapshot{Domains: []events.DomainReport{domainOf("a", 1, "running")}})
	if first, second := p.next(t), p.next(t); first.Counter != 1 || second.Counter != 2 || len(second.Domains) != 1 {
		t.Fatalf("%+v, then %+v", first, second)
	}
}

func TestFailedStepIsToldOnce(t *testing.T) {
	p := &plane{}
	r := newReporter(t, p)
	f := events.StepFailed{Object: events.Ref{Kind: "vm", ID: "a"}, Step: "create", Message: "no memory", Retryable: true}
	r.Offer(Snapshot{Failed: []events.StepFailed{f}})
	if got := p.next(t); len(got.Steps) != 1 {
		t.Fatalf("%+v", got)
	}
	r.Offer(Snapshot{Failed: []events.StepFailed{f}})
	p.none(t)
	f.Message = "no kernel"
	r.Offer(Snapshot{Failed: []events.StepFailed{f}})
	if got := p.next(t); len(got.Steps) != 1 || got.Steps[0] != f {
		t.Fatalf("%+v", got)
	}
}

// I6: a report is refused as a whole for one domain in it that cannot be. The ends that it told are told again without it.
func TestI6EndsOutliveARefusedReport(t *testing.T) {
	p := &plane{answer: func(n int) (events.Answer, error) {
		if n == 1 {
			return events.Answer{Outcome: events.Outcome{Status: events.Refused, Code: events.CodeContradicts}}, nil
		}
		return taken, nil
	}}
	r := newReporter(t, p)
	told := make(chan []events.DomainEnded, 10)
	r.Answered = func(e []events.DomainEnded) { told <- e }
	end := events.DomainEnded{VM: "x", Epoch: events.Epoch{Term: 1, Counter: 5}}
	s := Snapshot{Domains: []events.DomainReport{domainOf("a", 1, "running")}, Ended: []events.DomainEnded{end}}
	r.Offer(s)
	if got := p.next(t); len(got.Domains) != 1 || len(got.Ended) != 1 {
		t.Fatalf("first %+v", got)
	}
	if got := p.next(t); len(got.Domains) != 0 || len(got.Ended) != 1 || got.Ended[0] != end {
		t.Fatalf("again %+v", got)
	}
	if e := <-told; len(e) != 1 {
		t.Fatalf("answered: %v", e)
	}
	r.Offer(s)
	p.none(t)
}

// I6: who answered may have been a server that was cut off and knew of no stop. After a new connection ends are told again.
func TestI6EndsAreToldAgainAfterANewConnection(t *testing.T) {
	p := &plane{}
	r := newReporter(t, p)
	s := Snapshot{Ended: []events.DomainEnded{{VM: "x", Epoch: events.Epoch{Term: 1, Counter: 5}}}}
	r.Offer(s)
	p.next(t)
	r.Disconnected()
	r.Offer(s)
	if got := p.next(t); len(got.Ended) != 1 {
		t.Fatalf("%+v", got)
	}
}

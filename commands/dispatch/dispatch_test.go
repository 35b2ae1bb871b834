package dispatch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"cloudengine/commands"
	"cloudengine/commands/dispatch"
	"cloudengine/events"
)

func TestBlockIsWhatEncodeGives(t *testing.T) {
	r := newRig(t, &memoryLog{}, nil).active()
	c := create(1, "acme")
	c.Reason, c.Args = "a <b> & \u2028 \"c\"", json.RawMessage(`{ "name" : "acme" }`)
	r.submit(c)
	for _, payload := range r.log.payloads {
		b, err := events.DecodeBlock(payload)
		must(t, err)
		want, err := b.Encode()
		must(t, err)
		if string(want) != string(payload) {
			t.Fatalf("stored  %s\nEncode gives %s", payload, want)
		}
	}
}

func TestSameIDSameOutcome(t *testing.T) {
	r := newRig(t, &memoryLog{}, nil).active()
	first := r.submit(create(1, "acme"))
	again := r.submit(create(1, "acme"))
	if again.Number != first.Number || again.Outcome != first.Outcome || first.Number == 0 {
		t.Fatalf("first %+v, again %+v", first, again)
	}
	if a := r.submit(create(1, "other")); a.Outcome.Code != events.CodeIDReused || a.Number != 0 {
		t.Fatalf("reused: %+v", a)
	}
}

func TestInvalidIsAnsweredAndNotStored(t *testing.T) {
	r := newRig(t, &memoryLog{}, nil).active()
	c := create(1, "acme")
	c.Args = json.RawMessage(`{"name":"acme","colour":"red"}`)
	if a := r.submit(c); a.Outcome.Code != events.CodeInvalid || a.Number != 0 {
		t.Fatalf("answer %+v", a)
	}
	if n := len(r.check()); n != 2 {
		t.Fatalf("%d decisions stored", n)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	r := newRig(t, &memoryLog{}, nil).active()
	a, err := r.d.Submit(t.Context(), create(1, "acme"), true)
	must(t, err)
	if a.Outcome.Status != events.Accepted || len(a.Events) != 1 || a.Number != 0 {
		t.Fatalf("answer %+v", a)
	}
	if a := r.submit(create(2, "acme")); a.Outcome.Status != events.Accepted {
		t.Fatalf("the name is taken: %+v", a)
	}
}

// TestNobodyIsToldBefore holds the append back: neither the first outcome nor one that rests on it may be told.
func TestNobodyIsToldBefore(t *testing.T) {
	log := &memoryLog{}
	r := newRig(t, log, nil).active()
	r.submit(create(1, "first"))
	hold := make(chan struct{})
	log.mu.Lock()
	log.hold, log.started = hold, make(chan struct{}, 10)
	log.mu.Unlock()
	answers := make(chan events.Answer, 3)
	ask := func(c commands.Command, dry bool) {
		go func() {
			a, err := r.d.Submit(t.Context(), c, dry)
			if err != nil {
				t.Errorf("submit: %v", err)
			}
			answers <- a
		}()
	}
	ask(create(2, "acme"), false)
	<-log.started
	ask(create(2, "acme"), false) // the same again
	ask(create(3, "acme"), true)  // would be refused, but only if the other is stored
	r.wait("both to be taken", func() bool { return r.d.Status().Queue == 0 })
	select {
	case a := <-answers:
		t.Fatalf("told before it was stored: %+v", a)
	case <-time.After(20 * time.Millisecond):
	}
	log.mu.Lock()
	log.hold = nil
	log.mu.Unlock()
	close(hold)
	for range 3 {
		<-answers
	}
	r.check()
}

func rival(n int) func(events.Position) *events.Block {
	return func(at events.Position) *events.Block {
		return &events.Block{Format: events.Format, Term: at.Term, First: at.Number + 1, Prev: at.Digest, Time: at.Time, Decisions: []events.Decision{{
			Intent: id(n), Actor: "admin", Kind: events.KindAccount, Verb: "create", Args: json.RawMessage(`{"name":"acme"}`),
			Outcome: events.Outcome{Status: events.Accepted},
			Events:  []events.Event{events.New(events.KindAccount, string(id(n)), 1, events.AccountCreated{Name: "acme"})},
		}}}
	}
}

func TestConflictIsDecidedAgain(t *testing.T) {
	log := &memoryLog{}
	r := newRig(t, log, nil).active()
	log.mu.Lock()
	log.faults = []fault{{rival: rival(7)}}
	log.mu.Unlock()
	if a := r.submit(create(1, "acme")); a.Outcome.Code != events.CodeNameTaken {
		t.Fatalf("answer %+v", a)
	}
	if a := r.submit(create(7, "acme")); a.Outcome.Status != events.Accepted { // the rival's own: its first outcome
		t.Fatalf("answer %+v", a)
	}
	r.check()
}

// TestUncertainAppend loses the acknowledgement of a block that was stored, and of one that was not.
func TestUncertainAppend(t *testing.T) {
	for _, wasStored := range []bool{true, false} {
		t.Run(fmt.Sprintf("stored=%v", wasStored), func(t *testing.T) {
			log := &memoryLog{}
			r := newRig(t, log, nil).active()
			log.mu.Lock()
			log.faults = []fault{{stored: wasStored, err: errors.New("no answer")}}
			log.mu.Unlock()
			_, err := r.d.Submit(t.Context(), create(1, "acme"), false)
			if !errors.Is(err, dispatch.ErrNotActive) {
				t.Fatalf("error %v", err)
			}
			r.active()
			if a := r.submit(create(1, "acme")); a.Outcome.Status != events.Accepted || a.Number != 3 {
				t.Fatalf("answer %+v", a)
			}
			if n := len(r.check()); n != 3 {
				t.Fatalf("%d decisions", n)
			}
		})
	}
}

func TestFollowerFoldsAlong(t *testing.T) {
	log := &memoryLog{}
	r := newRig(t, log, nil).active()
	f := newRig(t, log, nil)
	f.leader.Store(false)
	f.wait("the first fold", func() bool {
		select {
		case <-f.d.Ready():
			return !f.d.Active()
		default:
			return false
		}
	})
	a := r.submit(create(1, "acme"))
	must(t, f.d.Wait(t.Context(), a.Number))
	if _, err := f.d.Submit(t.Context(), create(2, "b"), false); !errors.Is(err, dispatch.ErrNotActive) {
		t.Fatalf("error %v", err)
	}
	r.leader.Store(false)
	r.wait("it to cease", func() bool { return !r.d.Active() })
	f.leader.Store(true)
	f.active()
	if b := f.submit(create(1, "acme")); b.Number != a.Number {
		t.Fatalf("answer %+v, first %+v", b, a)
	}
	f.submit(create(2, "b"))
	must(t, r.d.Wait(t.Context(), 4))
	r.check()
	f.check()
}

func TestUnknownEventStops(t *testing.T) {
	log := &memoryLog{}
	r := newRig(t, log, nil).active()
	r.leader.Store(false)
	r.wait("it to cease", func() bool { return !r.d.Active() })
	log.mu.Lock()
	b := rival(7)(log.end())
	b.Decisions[0].Events[0].Data = events.Unknown{Type: "account.painted.v1", Raw: json.RawMessage(`{}`)}
	b.Decisions[0].Events[0].Type = "account.painted.v1"
	must(t, log.put(b))
	log.mu.Unlock()
	r.leader.Store(true)
	r.wait("it to stop", func() bool { return r.d.Status().Stopped != nil })
	if _, err := r.d.Submit(t.Context(), create(1, "acme"), false); !errors.Is(err, dispatch.ErrStopped) {
		t.Fatalf("error %v", err)
	}
}

func TestBrokenChainStops(t *testing.T) {
	log := &memoryLog{}
	r := newRig(t, log, nil).active()
	log.mu.Lock()
	b := rival(7)(log.end())
	b.Prev = events.Digest(nil)
	log.faults = []fault{{rival: func(events.Position) *events.Block { return b }}}
	log.mu.Unlock()
	if _, err := r.d.Submit(t.Context(), create(1, "acme"), false); !errors.Is(err, dispatch.ErrStopped) && !errors.Is(err, dispatch.ErrNotActive) {
		t.Fatalf("error %v", err)
	}
	r.wait("it to stop", func() bool { return errors.Is(r.d.Health(), events.ErrBroken) })
}

func TestTimeNeverRunsBack(t *testing.T) {
	r := newRig(t, &memoryLog{}, nil).active()
	r.submit(create(1, "a"))
	r.now.Add(int64(-time.Hour))
	r.submit(create(2, "b"))
	all := r.check()
	if last := all[len(all)-1]; last.Time.Before(all[0].Time) {
		t.Fatalf("time %v after %v", last.Time, all[0].Time)
	}
}

func TestFullQueueAnswersBusy(t *testing.T) {
	log := &memoryLog{}
	r := newRig(t, log, func(o *dispatch.Options) { o.Queue, o.MaxBlock = 2, 2 }).active()
	hold := make(chan struct{})
	log.mu.Lock()
	log.hold, log.started = hold, make(chan struct{}, 100)
	log.mu.Unlock()
	answers := make(chan events.Answer, 50)
	for i := range 50 {
		go func() {
			a, err := r.d.Submit(t.Context(), create(i+1, fmt.Sprintf("a%d", i)), false)
			if err != nil {
				t.Errorf("submit: %v", err)
			}
			answers <- a
		}()
	}
	<-log.started
	if a := <-answers; a.Outcome.Code != events.CodeBusy { // all that can be answered now
		t.Fatalf("answer %+v", a)
	}
	log.mu.Lock()
	log.hold = nil
	log.mu.Unlock()
	close(hold)
	for range 49 {
		<-answers
	}
	r.check()
}

// TestNotTakenInTime holds the loop up until nobody waits for the second command any more: it must not be decided later.
func TestNotTakenInTime(t *testing.T) {
	log := &memoryLog{}
	r := newRig(t, log, func(o *dispatch.Options) { o.MaxBlock = 1 }).active()
	hold := make(chan struct{})
	log.mu.Lock()
	log.hold, log.started = hold, make(chan struct{}, 100)
	log.mu.Unlock()
	done := make(chan error, 3)
	reply := func(_ events.Answer, err error) { done <- err }
	r.d.SubmitFunc(create(1, "a"), false, time.Time{}, reply) // is being stored
	<-log.started
	r.d.SubmitFunc(create(2, "b"), false, time.Time{}, reply) // fills the next block
	late := time.Now().Add(20 * time.Millisecond)
	r.d.SubmitFunc(create(3, "c"), false, late, reply)
	r.wait("its time to pass", func() bool { return time.Now().After(late) })
	log.mu.Lock()
	log.hold = nil
	log.mu.Unlock()
	close(hold)
	failed := 0
	for range 3 {
		if err := <-done; errors.Is(err, context.DeadlineExceeded) {
			failed++
		}
	}
	if failed != 1 || len(r.check()) != 4 {
		t.Fatalf("%d failed, log %s", failed, verbsOf(r.check()))
	}
}

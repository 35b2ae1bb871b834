package verifier_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudengine/commands/api/verifier"
	"cloudengine/events"
	"cloudengine/projections/verify"
)

// forged is a log of decisions that no decider would make, one in each block.
type forged struct {
	decisions []events.Decision
	err       error
}

func (l *forged) add(actor string, e ...events.Event) {
	l.decisions = append(l.decisions, events.Decision{Intent: events.IntentID(fmt.Sprint(len(l.decisions))), Actor: actor, Kind: events.KindVM, Outcome: events.Outcome{Status: events.Accepted}, Events: e})
}

func (l *forged) Load(_ context.Context, from events.Position, f func(events.Position, *events.Block) error) (events.Position, error) {
	for from.Seq < uint64(len(l.decisions)) {
		b := &events.Block{Term: 1, First: from.Seq + 1, Time: time.Unix(int64(from.Seq), 0), Decisions: l.decisions[from.Seq : from.Seq+1]}
		next := events.Position{Seq: from.Seq + 1, Number: from.Seq + 1, Term: 1}
		if err := f(next, b); err != nil {
			return from, err
		}
		from = next
	}
	return from, l.err
}

// TestForgedLog: what breaks an invariant is found, and named, and what the fold cannot render too.
func TestForgedLog(t *testing.T) {
	const vm, host = "00000000-0000-4000-8000-00000000000b", "00000000-0000-4000-8000-00000000000a"
	l := &forged{}
	vmEvent := func(n uint64, data events.Payload) events.Event { return events.New(events.KindVM, vm, n, data) }
	l.add("system:test", events.New(events.KindMachine, host, 1, events.MachineAdded{Name: "host1"}))
	l.add("system:test", events.New(events.KindHost, host, 1, events.HostRegistered{Name: "host1", Boot: "b", Capacity: events.Capacity{AllocatableMiB: 100}}))
	l.add("system:test", vmEvent(1, events.VMCreated{Name: "web", MemoryMiB: 64}))
	grant := events.VMRunGranted{Host: host, HostName: "host1", Boot: "b", Epoch: events.Epoch{Term: 1, Counter: 1}, MemoryMiB: 64}
	l.add("system:test", vmEvent(2, grant))
	grant.Epoch.Counter = 2
	l.add("system:test", vmEvent(3, grant)) // I1: a second live grant; I4: more than the host has
	l.add("system:test", vmEvent(4, events.VMGrantEnded{Host: host, Boot: "b", Epoch: grant.Epoch, Proof: "silence"}))
	v := verifier.New(verifier.Config{Log: l, Documents: func(context.Context) (map[string][]byte, error) { return nil, nil }, Pause: time.Millisecond})
	a, err := v.Run(t.Context(), []string{verify.Log, verify.Desired})
	must(t, err)
	text := describe(a)
	for _, want := range []string{"critical I1 decision 5", "critical I4 decision 5", "critical I5 decision 6", "error frozen"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not found:%s", want, text)
		}
	}
	if a.Clean || a.Decision != 6 {
		t.Errorf("got %+v", a)
	}
}

// TestLogThatCannotBeRead is an error, and no finding: nothing is known.
func TestLogThatCannotBeRead(t *testing.T) {
	v := verifier.New(verifier.Config{Log: &forged{err: errors.New("no leader")}})
	if _, err := v.Run(t.Context(), verifier.Default); err == nil || !strings.Contains(err.Error(), "no leader") {
		t.Fatalf("got %v", err)
	}
}

// TestNothingToAsk: a section without a source, or without time, is unanswered.
func TestNothingToAsk(t *testing.T) {
	for name, source := range map[string]func(context.Context) (map[string][]byte, error){
		"no_source": nil,
		"no_time":   func(ctx context.Context) (map[string][]byte, error) { <-ctx.Done(); return nil, ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			v := verifier.New(verifier.Config{Log: &forged{}, Documents: source})
			a, err := v.Run(ctx, []string{verify.Desired})
			must(t, err)
			if len(a.Findings) != 1 || a.Clean || a.Findings[0].Severity != verify.Unknown || a.Sections[0].Unanswered != 1 {
				t.Fatalf("got %+v", a)
			}
		})
	}
}

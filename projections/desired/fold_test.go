package desired_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cloudengine/events"
	document "cloudengine/events/desired"
	"cloudengine/projections/desired"
	"cloudengine/projections/projectionstest"
)

func domain(t interface{ Fatal(...any) }, d document.Document) document.Domain {
	b, err := d.Domain()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever happens, at no time two machines may run one VM, a document follows its grant, and equal histories give equal bytes.
func TestRenderProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
		all := projectionstest.New(choose, 3).Steps(rapid.IntRange(1, 60).Draw(t, "steps")).All()
		f, again := desired.NewFold(), desired.NewFold()
		live := map[string]events.VMRunGranted{}
		last := map[string]events.Generation{}
		for i := range all {
			changed, err := f.Apply(nil, &all[i])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := again.Apply(nil, &all[i]); err != nil {
				t.Fatal(err)
			}
			follow(live, &all[i])
			check(t, f, live)
			for _, s := range changed {
				a, _ := f.Document(s)
				b, _ := again.Document(s)
				if string(desired.Encode(a)) != string(desired.Encode(b)) {
					t.Fatalf("%s is rendered in two ways:\n%s\n%s", s, desired.Encode(a), desired.Encode(b))
				}
				if g := a.Generation; g.Number != all[i].Number || g.Compare(last[s]) <= 0 {
					t.Fatalf("%s: generation %v after %v in decision %d", s, g, last[s], all[i].Number)
				}
				last[s] = a.Generation
			}
		}
	})
}

func follow(live map[string]events.VMRunGranted, r *events.Recorded) {
	for _, e := range r.Events {
		switch d := e.Data.(type) {
		case events.VMRunGranted:
			live[e.Aggregate.ID] = d
		case events.VMGrantEnded:
			delete(live, e.Aggregate.ID)
		}
	}
}

func check(t *rapid.T, f *desired.Fold, live map[string]events.VMRunGranted) {
	runs := map[string]string{}
	f.Each(func(subject string, d document.Document) {
		if d.Kind != document.KindDomain {
			return
		}
		b := domain(t, d)
		g, granted := live[d.ID]
		if b.Want == document.Absent {
			if granted && g.Host == d.Machine && b.Epoch != g.Epoch {
				t.Fatalf("%s: absent under epoch %s while %s is live", subject, b.Epoch, g.Epoch)
			}
			return
		}
		if other, two := runs[d.ID]; two {
			t.Fatalf("VM %s may run by %s and by %s", d.ID, other, subject)
		}
		runs[d.ID] = subject
		if !granted || g.Host != d.Machine || g.Boot != d.Boot || g.Epoch != b.Epoch {
			t.Fatalf("%s: %s without a grant for it (live: %+v)", subject, b.Want, g)
		}
	})
}

type step struct {
	data events.Payload
	want string // of host a's document afterwards; "" = there is none
	gen  uint64 // 0: the document does not change
}

func TestDocumentOfOneVM(t *testing.T) {
	epoch := func(n uint64) events.Epoch { return events.Epoch{Term: 1, Counter: n} }
	grant := func(host, boot string, n uint64) events.VMRunGranted {
		return events.VMRunGranted{Host: events.MachineID(host), Boot: boot, Epoch: epoch(n)}
	}
	steps := []step{
		{events.VMCreated{Name: "web1", Account: "acc", MemoryMiB: 128}, "", 0},
		{events.VMRunWanted{Want: events.WantRunning}, "", 0},
		{grant("a", "a1", 1), document.Running, 3},
		{events.VMDomainObserved{Epoch: epoch(1), State: events.DomainRunning}, document.Running, 0},
		{events.VMRestartWanted{Restarts: 1}, document.Running, 5},
		{events.VMRunWanted{Want: events.WantPaused}, document.Paused, 6},
		{events.VMRunWanted{Want: events.WantRunning}, document.Running, 7},
		{events.VMBecameUnknown{Host: "a"}, document.Running, 0},
		{events.VMRunWanted{Want: events.WantStopped, Stop: events.StopShutdown}, document.Shutdown, 9},
		{events.VMRunWanted{Want: events.WantRunning}, document.Shutdown, 0}, // wanted again, but this grant has to end first
		{events.VMRunWanted{Want: events.WantStopped, Stop: events.StopDestroy}, document.Absent, 11},
		{events.VMRunWanted{Want: events.WantStopped, Stop: events.StopShutdown}, document.Absent, 0},
		{events.VMGrantEnded{Host: "a", Boot: "a1", Epoch: epoch(1), Proof: events.ProofCleanEnd}, document.Absent, 0},
		{grant("a", "a1", 2), document.Running, 14},
		{events.VMGrantEnded{Host: "a", Boot: "a1", Epoch: epoch(2), Proof: events.ProofOverride}, document.Absent, 15},
		{grant("b", "b1", 3), document.Absent, 0}, // host a may come back with epoch 2: absent covers it
		{events.VMGrantEnded{Host: "b", Boot: "b1", Epoch: epoch(3), Proof: events.ProofNewBoot}, document.Absent, 0},
		{grant("a", "a2", 4), document.Running, 18},
		{events.VMGrantEnded{Host: "a", Boot: "a2", Epoch: epoch(4), Proof: events.ProofPowerOff}, document.Absent, 19},
		{events.VMDeleted{}, document.Absent, 0},
	}
	f := desired.NewFold()
	subject := events.DesiredSubject("a", document.KindDomain, "vm1")
	for i, s := range steps {
		n := uint64(i + 1)
		r := events.Recorded{Number: n, Term: 1, Decision: events.Decision{Events: []events.Event{events.New(events.KindVM, "vm1", n, s.data)}}}
		changed, err := f.Apply(nil, &r)
		if err != nil {
			t.Fatal(err)
		}
		d, ok := f.Document(subject)
		if !ok {
			if s.want != "" {
				t.Fatalf("step %d %s: no document", n, s.data.EventType())
			}
			continue
		}
		if b := domain(t, d); b.Want != s.want {
			t.Fatalf("step %d %s: %s, want %s", n, s.data.EventType(), b.Want, s.want)
		}
		if slices.Contains(changed, subject) != (s.gen != 0) || s.gen != 0 && d.Generation != (events.Generation{Term: 1, Number: s.gen}) {
			t.Fatalf("step %d %s: generation %v, changed %v", n, s.data.EventType(), d.Generation, changed)
		}
	}
	d, _ := f.Document(subject)
	if b := domain(t, d); d.Boot != "a2" || b.Epoch != epoch(4) || b.Restarts != 0 {
		t.Fatalf("last document: %+v %+v", d, b)
	}
}

func TestNewTermSaysEverythingAgain(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	all := projectionstest.New(r.IntN, 3).Steps(200).All()
	f := desired.NewFold()
	for i := range all {
		if _, err := f.Apply(nil, &all[i]); err != nil {
			t.Fatal(err)
		}
	}
	n := f.At() + 1
	opened := events.Recorded{Number: n, Term: 2, Decision: events.Decision{Events: []events.Event{events.New(events.KindLog, events.LogID, 2, events.LogOpened{Term: 2, Cause: events.CauseReopened})}}}
	changed, err := f.Apply(nil, &opened)
	if err != nil || len(changed) != f.Len() {
		t.Fatalf("%d of %d documents, %v", len(changed), f.Len(), err)
	}
	f.Each(func(s string, d document.Document) {
		if d.Generation != (events.Generation{Term: 2, Number: n}) {
			t.Errorf("%s has generation %v", s, d.Generation)
		}
	})
}

// I1: after a restore a machine is told of no domain that it should have, until the log is settled: it may run elsewhere by now.
func TestI1AfterARestoreNoOldGrantIsSaidBeforeTheLogIsSettled(t *testing.T) {
	f := desired.NewFold()
	n, term := uint64(0), uint64(1)
	apply := func(kind events.Kind, id string, data events.Payload) {
		t.Helper()
		n++
		r := events.Recorded{Number: n, Term: term, Decision: events.Decision{Events: []events.Event{events.New(kind, id, n, data)}}}
		if _, err := f.Apply(nil, &r); err != nil {
			t.Fatal(err)
		}
	}
	want := func(vm, expected string) {
		t.Helper()
		d, _ := f.Document(events.DesiredSubject("a", document.KindDomain, vm))
		if b := domain(t, d); b.Want != expected || d.Generation.Term != term {
			t.Fatalf("decision %d: %s of %v, want %q in term %d", n, b.Want, d.Generation, expected, term)
		}
	}
	told := func() uint64 {
		d, _ := f.Document(events.DesiredSubject("a", document.KindTerm, "a"))
		return d.Generation.Term
	}
	apply(events.KindLog, events.LogID, events.LogOpened{Term: 1, Cause: events.CauseCreated})
	apply(events.KindMachine, "a", events.MachineEnrolled{Boot: "a1"})
	for i, vm := range []string{"old", "ending", "later"} {
		apply(events.KindVM, vm, events.VMCreated{Name: vm})
		apply(events.KindVM, vm, events.VMRunWanted{Want: events.WantRunning})
		if i < 2 {
			apply(events.KindVM, vm, events.VMRunGranted{Host: "a", Boot: "a1", Epoch: events.Epoch{Term: 1, Counter: 1}})
			want(vm, document.Running)
		}
	}
	apply(events.KindVM, "ending", events.VMRunWanted{Want: events.WantStopped, Stop: events.StopDestroy})
	if told() != 0 {
		t.Fatal("in its first term a log says nothing of terms")
	}
	term = 2
	apply(events.KindLog, events.LogID, events.LogOpened{Term: 2, Cause: events.CauseRestored})
	want("old", "")
	want("ending", document.Absent)
	apply(events.KindVM, "old", events.VMRunWanted{Want: events.WantPaused})
	want("old", "")
	if told() != 2 {
		t.Fatal("the machine is not told of the term")
	}
	apply(events.KindVM, "later", events.VMRunGranted{Host: "a", Boot: "a1", Epoch: events.Epoch{Term: 1, Counter: 2}}) // taken back
	want("later", document.Running)
	apply(events.KindLog, events.LogID, events.LogSettled{Term: 2})
	want("old", document.Paused)
	apply(events.KindMachine, "a", events.MachineEnrolled{Boot: "a2"})
	if d, _ := f.Document(events.DesiredSubject("a", document.KindTerm, "a")); d.Boot != "a2" {
		t.Fatal("the machine's new boot is not told of the term")
	}
}

func TestOrphanDocuments(t *testing.T) {
	f := desired.NewFold()
	subject := events.DesiredSubject("a", document.KindOrphan, "u1")
	apply := func(data events.Payload, want string) {
		t.Helper()
		n := f.At() + 1
		r := events.Recorded{Number: n, Term: 1, Decision: events.Decision{Events: []events.Event{events.New(events.KindHost, "a", n, data)}}}
		if _, err := f.Apply(nil, &r); err != nil {
			t.Fatal(err)
		}
		d, _ := f.Document(subject)
		if string(d.Body) != want {
			t.Fatalf("after %s: %s, want %s", data.EventType(), d.Body, want)
		}
	}
	apply(events.HostOrphanFound{Boot: "b", Domain: events.DomainReport{UUID: "u1"}}, "")
	apply(events.HostOrphanStopWanted{Boot: "b", UUID: "u1"}, `{"uuid":"u1","want":"absent"}`)
	apply(events.HostOrphanGone{Boot: "b", UUID: "u1"}, `{"uuid":"u1","want":""}`) // no opinion any more
}

func TestWhatCannotBeFreezesTheObject(t *testing.T) {
	f := desired.NewFold()
	apply := func(data events.Payload) error {
		n := f.At() + 1
		_, err := f.Apply(nil, &events.Recorded{Number: n, Term: 1, Decision: events.Decision{Events: []events.Event{events.New(events.KindVM, "vm1", n, data)}}})
		return err
	}
	for _, d := range []events.Payload{events.VMCreated{}, events.VMRunWanted{Want: events.WantRunning}, events.VMRunGranted{Host: "a", Boot: "a1"}} {
		if err := apply(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := apply(events.VMRunGranted{Host: "b", Boot: "b1"}); !errors.Is(err, desired.ErrTwoGrants) || !errors.Is(err, desired.ErrFrozen) {
		t.Fatalf("two grants: %v", err)
	}
	if f.Len() != 1 {
		t.Fatalf("%d documents", f.Len())
	}
	if err := apply(events.VMRunWanted{Want: events.WantStopped, Stop: events.StopDestroy}); err != nil {
		t.Fatal(err)
	}
	if d, _ := f.Document(events.DesiredSubject("a", document.KindDomain, "vm1")); domain(t, d).Want != document.Running {
		t.Fatal("a frozen object changed")
	}
}

// I1: the machine may never have seen the document that gave it the orphan. The one that ends the grant must name it, or the machine,
// which finds no domain of the VM, would report the end of a domain that runs.
func TestI1EndOfAnAdoptedDomainNamesIt(t *testing.T) {
	for _, last := range []events.Payload{
		events.VMRunWanted{Want: events.WantStopped, Stop: events.StopDestroy},
		events.VMGrantEnded{Host: "a", Boot: "a1", Epoch: events.Epoch{Term: 1, Counter: 1}, Proof: events.ProofOverride},
	} {
		f := desired.NewFold()
		for i, data := range []events.Payload{
			events.VMCreated{Name: "web1"}, events.VMRunWanted{Want: events.WantRunning},
			events.VMRunGranted{Host: "a", Boot: "a1", Epoch: events.Epoch{Term: 1, Counter: 1}, Adopt: "u1"}, last,
		} {
			n := uint64(i + 1)
			r := events.Recorded{Number: n, Term: 1, Decision: events.Decision{Events: []events.Event{events.New(events.KindVM, "vm1", n, data)}}}
			if _, err := f.Apply(nil, &r); err != nil {
				t.Fatal(err)
			}
		}
		d, _ := f.Document(events.DesiredSubject("a", document.KindDomain, "vm1"))
		if b := domain(t, d); b.Want != document.Absent || b.Adopt != "u1" {
			t.Fatalf("after %s: %+v", last.EventType(), b)
		}
	}
}

package projections

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"cloudengine/events"
)

// memory is a Store in memory.
type memory map[*Table]map[string]any

func (m memory) Get(t *Table, id string) (any, error) { return m[t][id], nil }
func (m memory) All(t *Table) ([]any, error) {
	var out []any
	for _, r := range m[t] {
		out = append(out, r)
	}
	return out, nil
}
func (m memory) Put(t *Table, id string, row any) {
	if m[t] == nil {
		m[t] = map[string]any{}
	}
	m[t][id] = row
}
func (m memory) Delete(t *Table, id string) { delete(m[t], id) }

// fixture applies decisions one after another.
type fixture struct {
	t        *testing.T
	rows     memory
	number   uint64
	versions map[events.Ref]uint64
	term     uint64 // of its decisions
}

func given(t *testing.T) *fixture {
	return &fixture{t, memory{}, 0, map[events.Ref]uint64{}, 1}
}

func (x *fixture) decide(d events.Decision) error {
	x.number++
	r := &events.Recorded{Number: x.number, Term: x.term, Time: time.Date(2026, 1, 1, 0, 0, int(x.number), 0, time.UTC), Decision: d}
	for _, p := range Parts(r) {
		if _, err := ApplyPart(x.rows, r, p); err != nil {
			return err
		}
	}
	return nil
}

// on applies one event of a component's decision.
func (x *fixture) on(k events.Kind, id string, data events.Payload) *fixture {
	x.t.Helper()
	if err := x.try(k, id, data); err != nil {
		x.t.Fatal(err)
	}
	return x
}

func (x *fixture) try(k events.Kind, id string, data events.Payload) error {
	ref := events.Ref{Kind: k, ID: id}
	x.versions[ref]++
	return x.decide(events.Decision{Intent: "i", Actor: "system:test", Events: []events.Event{events.New(k, id, x.versions[ref], data)}})
}

func (x *fixture) vm() *VM     { return x.rows[vmTable]["v"].(*VM) }
func (x *fixture) host() *Host { return x.rows[hostTable]["h"].(*Host) }

func epoch(n uint64) events.Epoch { return events.Epoch{Term: 1, Counter: n} }

// withVM gives a ready host and a VM.
func withVM(t *testing.T) *fixture {
	return given(t).on(events.KindMachine, "h", events.MachineAdded{Name: "host1"}).
		on(events.KindMachine, "h", events.MachineEnrolled{Boot: "b1"}).
		on(events.KindHost, "h", events.HostRegistered{Name: "host1", Boot: "b1", Capacity: events.Capacity{AllocatableMiB: 1000}}).
		on(events.KindHost, "h", events.HostReady{Boot: "b1", Term: 1}).
		on(events.KindAccount, "a", events.AccountCreated{Name: "acme"}).
		on(events.KindVM, "v", events.VMCreated{Name: "web1", Account: "a", MemoryMiB: 128})
}

func grantHere(n uint64) events.VMRunGranted {
	return events.VMRunGranted{Host: "h", HostName: "host1", Boot: "b1", Epoch: epoch(n), MemoryMiB: 128, OverheadMiB: 8}
}

func seen(n uint64, state, reason string) events.VMDomainObserved {
	return events.VMDomainObserved{Host: "h", Epoch: epoch(n), DomID: 5, State: state, ShutdownReason: reason, MemoryMiB: 128}
}

func TestVMState(t *testing.T) {
	run, pause, shut := events.VMRunWanted{Want: events.WantRunning}, events.VMRunWanted{Want: events.WantPaused}, events.VMRunWanted{Want: events.WantStopped, Stop: events.StopShutdown}
	end := events.VMGrantEnded{Host: "h", Boot: "b1", Epoch: epoch(1), Proof: events.ProofCleanEnd}
	unknown, known := events.VMBecameUnknown{Host: "h"}, events.VMBecameKnown{Host: "h"}
	running, paused := seen(1, events.DomainRunning, ""), seen(1, events.DomainPaused, "")
	for name, c := range map[string]struct {
		events []events.Payload
		want   string
	}{
		"created":                  {nil, VMStopped},
		"wanted_without_grant":     {[]events.Payload{run}, VMWaiting},
		"granted":                  {[]events.Payload{run, grantHere(1)}, VMStarting},
		"made_but_not_let_run":     {[]events.Payload{run, grantHere(1), paused}, VMStarting},
		"runs":                     {[]events.Payload{run, grantHere(1), paused, running}, VMRunning},
		"seen_under_another_epoch": {[]events.Payload{run, grantHere(1), seen(7, events.DomainRunning, "")}, VMStarting},
		"paused":                   {[]events.Payload{run, grantHere(1), running, pause, paused}, VMPaused},
		"pause_wanted":             {[]events.Payload{run, grantHere(1), running, pause}, VMRunning},
		"resume_wanted":            {[]events.Payload{run, grantHere(1), running, pause, paused, run}, VMPaused},
		"told_to_stop":             {[]events.Payload{run, grantHere(1), running, shut}, VMStopping},
		"wanted_again_too_late":    {[]events.Payload{run, grantHere(1), running, shut, run}, VMStopping},
		"ended":                    {[]events.Payload{run, grantHere(1), running, shut, end}, VMStopped},
		"ended_and_wanted":         {[]events.Payload{run, grantHere(1), running, end}, VMWaiting},
		"host_silent":              {[]events.Payload{run, grantHere(1), running, unknown}, VMUnknown},
		"host_silent_and_stop":     {[]events.Payload{run, grantHere(1), running, unknown, shut}, VMUnknown},
		"host_back":                {[]events.Payload{run, grantHere(1), running, unknown, known}, VMRunning},
		"guest_crashed":            {[]events.Payload{run, grantHere(1), running, seen(1, events.DomainCrashed, "")}, VMCrashed},
		"guest_crashed_preserved":  {[]events.Payload{run, grantHere(1), running, seen(1, events.DomainShutdown, "crash")}, VMCrashed},
		"guest_reboots":            {[]events.Payload{run, grantHere(1), running, seen(1, events.DomainShutdown, "reboot")}, VMStarting},
		"guest_shuts_down":         {[]events.Payload{run, grantHere(1), running, seen(1, events.DomainShutdown, "poweroff")}, VMStopping},
		"vanished":                 {[]events.Payload{run, grantHere(1), running, seen(1, events.DomainAbsent, "")}, VMStarting},
		"granted_again":            {[]events.Payload{run, grantHere(1), running, end, grantHere(2)}, VMStarting},
	} {
		t.Run(name, func(t *testing.T) {
			x := withVM(t)
			for _, e := range c.events {
				x.on(events.KindVM, "v", e)
			}
			if v := x.vm(); v.State != c.want || v.ChangedBy != x.number {
				t.Fatalf("%s by %d, want %s by %d: %+v", v.State, v.ChangedBy, c.want, x.number, *v)
			}
		})
	}
}

// What a host has given is what its live grants and possible leftovers take.
func TestHostCapacity(t *testing.T) {
	x := withVM(t)
	want := func(used int64, vms int) {
		t.Helper()
		if h := x.host(); h.UsedMiB != used || h.FreeMiB != h.AllocatableMiB-used-h.OrphanMiB || h.VMs != vms {
			t.Fatalf("used %d, free %d, %d VMs; want %d and %d", h.UsedMiB, h.FreeMiB, h.VMs, used, vms)
		}
	}
	want(0, 0)
	x.on(events.KindVM, "v", grantHere(1))
	want(136, 1)
	x.on(events.KindVM, "v", events.VMGrantEnded{Host: "h", Boot: "b1", Epoch: epoch(1), Proof: events.ProofOverride})
	want(136, 0) // a human's word: the domain may be there
	x.on(events.KindVM, "v", events.VMStaleDomainEnded{Host: "h", Boot: "b1", Epoch: epoch(1)})
	want(0, 0)
	x.on(events.KindVM, "v", events.VMStaleDomainEnded{Host: "h", Boot: "b1", Epoch: epoch(1)})
	want(0, 0)
	orphan := events.HostOrphanFound{Boot: "b1", Domain: events.DomainReport{UUID: "u", MemoryMiB: 100}}
	x.on(events.KindHost, "h", orphan).on(events.KindHost, "h", orphan)
	if h := x.host(); h.Orphans != 1 || h.FreeMiB != 900 {
		t.Fatalf("%d orphans, %d MiB free", h.Orphans, h.FreeMiB)
	}
	x.on(events.KindHost, "h", events.HostOrphanStopWanted{Boot: "b1", UUID: "u"})
	orphan.Domain.MemoryMiB, orphan.Domain.State = 200, events.DomainRunning // it was seen half made
	x.on(events.KindHost, "h", orphan)
	if o := x.rows[orphanTable]["h.u"].(*Orphan); !o.StopWanted || o.MemoryMiB != 200 || o.State != events.DomainRunning || x.host().FreeMiB != 800 {
		t.Fatalf("found again: %+v, %d MiB free", o, x.host().FreeMiB)
	}
	x.on(events.KindVM, "v", grantHere(2))
	want(136, 1)
	x.on(events.KindMachine, "h", events.MachinePowerObserved{State: events.PowerIsOff, Reads: 2, Boot: "b1", Proof: true})
	x.on(events.KindVM, "v", events.VMGrantEnded{Host: "h", Boot: "b1", Epoch: epoch(2), Proof: events.ProofPowerOff})
	want(0, 0)
	if h := x.host(); h.Orphans != 0 || h.Ready || h.Boot != "" || len(x.rows[orphanTable]) != 0 {
		t.Fatalf("after its power was proven off: %+v, orphans %v", *h, x.rows[orphanTable])
	}
}

func TestTerms(t *testing.T) {
	x := withVM(t)
	x.on(events.KindLog, events.LogID, events.LogOpened{Term: 2, Cause: events.CauseRestored})
	row := func() *Term { return x.rows[termTable]["000002"].(*Term) }
	if r := row(); r.Settled || r.SettledAt != nil || r.Cause != events.CauseRestored {
		t.Fatalf("opened: %+v", r)
	}
	x.on(events.KindLog, events.LogID, events.LogSettled{Term: 2, Unreported: []events.MachineID{"h"}})
	if r := row(); !r.Settled || r.SettledAt == nil || string(r.Unreported) != `["h"]` {
		t.Fatalf("settled: %+v", r)
	}
}

// A level belongs to the log, and a later term has it too.
func TestLevels(t *testing.T) {
	x := withVM(t)
	level := func(term string) int { return x.rows[termTable][term].(*Term).Level }
	x.on(events.KindServer, "s1", events.ServerAnnounced{Release: "1", Level: 1})
	first := *x.rows[serverTable]["s1"].(*Server)
	x.on(events.KindServer, "s1", events.ServerAnnounced{Release: "2", Level: 2})
	if s := x.rows[serverTable]["s1"].(*Server); s.Release != "2" || s.Level != 2 || s.KnownAt != first.KnownAt {
		t.Fatalf("upgraded: %+v, was %+v", s, first)
	}
	x.on(events.KindLog, events.LogID, events.LogOpened{Term: 2, Cause: events.CauseReopened})
	x.term = 2
	x.on(events.KindLog, events.LogID, events.LogLevelRaised{Level: 2})
	if level("000002") != 2 {
		t.Fatalf("level %d, want 2", level("000002"))
	}
	x.on(events.KindLog, events.LogID, events.LogOpened{Term: 3, Cause: events.CauseReopened})
	if level("000003") != 2 {
		t.Fatalf("level %d in the next term, want 2", level("000003"))
	}
	if x.on(events.KindServer, "s1", events.ServerRemoved{}); x.rows[serverTable]["s1"] != nil {
		t.Fatal("a removed server has a row")
	}
}

func TestHostsAreNotReadyInANewTerm(t *testing.T) {
	x := withVM(t)
	if !x.host().Ready {
		t.Fatal("not ready")
	}
	if x.on(events.KindLog, events.LogID, events.LogOpened{Term: 2}); x.host().Ready {
		t.Fatal("ready without a report")
	}
	if x.on(events.KindHost, "h", events.HostReady{Boot: "b1", Term: 2}); !x.host().Ready {
		t.Fatal("not ready after its report")
	}
}

// Silence and a single reading prove nothing.
func TestMachineState(t *testing.T) {
	off := events.MachinePowerObserved{State: events.PowerIsOff, Reads: 1}
	proof := events.MachinePowerObserved{State: events.PowerIsOff, Reads: 2, Proof: true}
	on := events.MachinePowerObserved{State: events.PowerIsOn, Reads: 1}
	served, enrolled, silent := events.MachineBootServed{}, events.MachineEnrolled{Boot: "b1"}, events.MachineSilent{Boot: "b1"}
	for name, c := range map[string]struct {
		events []events.Payload
		want   string
	}{
		"added":            {nil, MachineKnown},
		"powered":          {[]events.Payload{on}, MachinePowered},
		"off_at_first":     {[]events.Payload{off}, MachineOff},
		"booting":          {[]events.Payload{on, served}, MachineBooting},
		"up":               {[]events.Payload{on, served, enrolled}, MachineUp},
		"read_off_once":    {[]events.Payload{on, served, enrolled, off}, MachineUp},
		"silent":           {[]events.Payload{enrolled, silent}, MachineSilent},
		"silent_read_off":  {[]events.Payload{enrolled, silent, off}, MachineSilent},
		"silent_proof_off": {[]events.Payload{enrolled, silent, proof}, MachineOff},
		"returned":         {[]events.Payload{enrolled, silent, events.MachineReturned{Boot: "b1"}}, MachineUp},
		"on_again":         {[]events.Payload{enrolled, proof, on}, MachinePowered},
	} {
		t.Run(name, func(t *testing.T) {
			x := given(t).on(events.KindMachine, "m", events.MachineAdded{Name: "m1"})
			for _, e := range c.events {
				x.on(events.KindMachine, "m", e)
			}
			if m := x.rows[machineTable]["m"].(*Machine); m.State != c.want {
				t.Fatalf("%s, want %s", m.State, c.want)
			}
		})
	}
}

func (x *fixture) intent(actor, id, verb string, o events.Status, e ...events.Event) error {
	return x.decide(events.Decision{Intent: events.IntentID(id), Actor: actor, Kind: events.KindVM, Verb: verb, Args: json.RawMessage(`{"vm":"v"}`),
		Outcome: events.Outcome{Status: o, Code: "x"}, Events: e})
}

func (x *fixture) operation(id string) *Operation {
	o, _ := x.rows[operationTable][id].(*Operation)
	return o
}

func TestOperations(t *testing.T) {
	x := withVM(t)
	started := events.New(events.KindOperation, "i1", 1, events.OperationStarted{Object: events.Ref{Kind: events.KindVM, ID: "v"}, Verb: "start"})
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(x.intent("ann", "i1", "start", events.Accepted, started))
	if o := x.operation("i1"); o.State != OperationRunning || *o.Object != "v" || *o.ObjectName != "web1" || *o.Account != "a" || o.EndedAt != nil {
		t.Fatalf("%+v", *o)
	}
	ok(x.intent("bob", "i1", "stop", events.Refused)) // the same id from another actor is another intent
	other := x.operation(otherID("bob", "i1"))
	if other == nil || other.Intent != "i1" || other.State != OperationRefused || other.Account != nil {
		t.Fatalf("the second actor's: %+v", other)
	}
	if o := x.operation("i1"); o.Actor != "ann" || o.State != OperationRunning {
		t.Fatalf("the first actor's: %+v", *o)
	}
	x.on(events.KindOperation, "i1", events.OperationDone{Message: "runs"})
	if o := x.operation("i1"); o.State != OperationDone || *o.Message != "runs" || o.EndedAt == nil {
		t.Fatalf("%+v", *o)
	}
	ok(x.intent("system:reaction", "i2", "place", events.Nothing))
	ok(x.intent("machine:m", "i3", "report", events.Accepted))
	ok(x.intent("system:power", "i4", "report_power", events.Accepted))
	if x.operation("i2").State != OperationNothing || x.operation("i3") != nil || x.operation("i4") != nil {
		t.Fatal("operations are what users and reactions ask for")
	}
	if err := x.intent("ann", "i1", "start", events.Accepted); err == nil {
		t.Fatal("one intent was decided twice, and nobody noticed")
	}
}

// An event that cannot be applied changes nothing at all.
func TestHalfAnEventIsNone(t *testing.T) {
	x := withVM(t)
	delete(x.rows[vmTable], "v")
	if err := x.try(events.KindVM, "v", grantHere(1)); !errors.Is(err, ErrNoRow) {
		t.Fatal(err)
	}
	if h := x.host(); h.UsedMiB != 0 {
		t.Fatal("the host was changed")
	}
}

// Every event of the vocabulary is read by a model, and every model reads only events that exist.
func TestEveryEventIsRead(t *testing.T) {
	names := events.Names()
	for _, n := range names {
		if len(readers[n]) == 0 {
			t.Errorf("no read model reads %s", n)
		}
	}
	for n := range readers {
		if !slices.Contains(names, n) {
			t.Errorf("%s is read, and is no event", n)
		}
	}
}

func TestParse(t *testing.T) {
	for column, text := range map[string]string{"name": "x", "memory_mib": "12", "domid": "3", "host": "h", "changed_by": "9"} {
		if _, err := vmTable.Parse(column, text); err != nil {
			t.Error(err)
		}
	}
	for column, text := range map[string]string{"memory_mib": "x", "created_at": "2026", "nothing": "1"} {
		if v, err := vmTable.Parse(column, text); err == nil {
			t.Errorf("%s=%s gives %v", column, text, v)
		}
	}
}

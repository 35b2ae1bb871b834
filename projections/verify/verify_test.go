package verify_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/desired"
	"cloudengine/projections/verify"
)

const (
	account = "00000000-0000-4000-8000-000000000001"
	host    = "00000000-0000-4000-8000-00000000000a"
	web     = "00000000-0000-4000-8000-0000000000b1"
	orphan  = "00000000-0000-4000-8000-0000000000c1"
	op      = "00000000-0000-4000-8000-0000000000d1"
	boot    = "boot-1"
)

var (
	began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	one   = events.Epoch{Term: 1, Counter: 1}
)

// world is a log in the making, folded: one host with one VM that runs.
type world struct {
	t        *testing.T
	c        *verify.Cloud
	versions map[events.Ref]uint64
	live     verify.Live
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, versions: map[events.Ref]uint64{}, c: &verify.Cloud{Rows: projections.NewMemory(), Docs: desired.NewFold(), Now: began.Add(time.Hour)}}
	capacity := events.Capacity{AllocatableMiB: 1024, PCPUs: 4}
	w.on(events.KindLog, events.LogID, events.LogOpened{Term: 1, Cause: events.CauseCreated})
	w.on(events.KindAccount, account, events.AccountCreated{Name: "demo"})
	w.on(events.KindMachine, host, events.MachineAdded{Name: "host1", BMC: &events.BMC{Address: "a", User: "u", Secret: "s"}})
	w.on(events.KindMachine, host, events.MachineEnrolled{Boot: boot, Image: "i1"})
	w.on(events.KindHost, host, events.HostRegistered{Name: "host1", Boot: boot, Capacity: capacity})
	w.on(events.KindHost, host, events.HostReady{Boot: boot, Term: 1})
	w.on(events.KindVM, web, events.VMCreated{Name: "web", Account: account, Type: "pv", VCPUs: 2, MemoryMiB: 64, Weight: 1})
	w.on(events.KindVM, web, events.VMRunWanted{Want: events.WantRunning})
	w.on(events.KindVM, web, events.VMRunGranted{Host: host, HostName: "host1", Boot: boot, Epoch: one, MemoryMiB: 64, VCPUs: 2})
	w.observed(events.DomainRunning, "")
	w.live = verify.Live{Boot: boot, Whole: true, Image: "i1", Domains: []events.DomainReport{{UUID: web, DomID: 7, Name: "web", Stamped: true, VM: web, Epoch: one, Boot: boot,
		State: events.DomainRunning, MemoryMiB: 64, VCPUs: 2, Weight: 1}}, Stamps: []events.StampReport{{DomID: 7, UUID: web, VM: web, Epoch: one, Boot: boot}}, Held: w.live.Held}
	return w
}

func (w *world) observed(state, reason string) {
	w.on(events.KindVM, web, events.VMDomainObserved{Host: host, Epoch: one, DomID: 7, State: state, ShutdownReason: reason, MemoryMiB: 64, VCPUs: 2, Weight: 1})
}

// on folds one decision of one event. The agent obeys each document at once.
func (w *world) on(k events.Kind, id string, data events.Payload) {
	w.t.Helper()
	ref := events.Ref{Kind: k, ID: id}
	w.versions[ref]++
	n := w.c.Rows.At() + 1
	r := events.Recorded{Number: n, Term: 1, Time: began.Add(time.Duration(n) * time.Second), Decision: events.Decision{Intent: events.IntentID(fmt.Sprint(n)), Actor: "system:test",
		Kind: k, Outcome: events.Outcome{Status: events.Accepted}, Events: []events.Event{events.New(k, id, w.versions[ref], data)}}}
	if err := w.c.Rows.Apply(&r); err != nil {
		w.t.Fatal(err)
	}
	if p := w.c.Rows.Parked(); len(p) > 0 {
		w.t.Fatal(p[0].Err)
	}
	if _, err := w.c.Docs.Apply(nil, &r); err != nil {
		w.t.Fatal(err)
	}
	w.live.Held = nil
	if d, ok := w.c.Docs.Document(events.DesiredSubject(host, "domain", web)); ok {
		w.live.Held = []events.DocumentReport{{Kind: d.Kind, ID: d.ID, Generation: d.Generation}}
	}
}

// operation begins an operation of a user.
func (w *world) operation(verb string, deadline time.Time) {
	w.t.Helper()
	ref := events.Ref{Kind: events.KindVM, ID: web}
	n := w.c.Rows.At() + 1
	args, err := json.Marshal(map[string]string{"vm": web})
	if err != nil {
		w.t.Fatal(err)
	}
	r := events.Recorded{Number: n, Term: 1, Time: began.Add(time.Duration(n) * time.Second), Decision: events.Decision{Intent: op, Actor: "ann", Kind: events.KindVM, Verb: verb, Args: args,
		Outcome: events.Outcome{Status: events.Accepted}, Events: []events.Event{events.New(events.KindOperation, op, 1, events.OperationStarted{Object: ref, Verb: verb, Deadline: deadline})}}}
	if err := w.c.Rows.Apply(&r); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.c.Docs.Apply(nil, &r); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) look() []verify.Finding {
	return w.c.Live(map[events.MachineID]verify.Live{host: w.live})
}

func said(all []verify.Finding) string {
	var words []string
	for _, f := range all {
		words = append(words, fmt.Sprintf("%s %s", f.Severity, f.Check))
	}
	return strings.Join(words, ", ")
}

func TestLiveHost(t *testing.T) {
	domain := func(w *world) *events.DomainReport { return &w.live.Domains[0] }
	down := func(w *world, state string) {
		domain(w).State, domain(w).ShutdownReason = state, "crash"
	}
	found := func(w *world, stamped bool) {
		d := events.DomainReport{UUID: orphan, DomID: 9, State: events.DomainRunning, MemoryMiB: 16, Boot: boot, Stamped: stamped, Epoch: one}
		if stamped {
			d.VM = orphan
		}
		w.live.Domains = append(w.live.Domains, d)
		w.on(events.KindHost, host, events.HostOrphanFound{Boot: boot, Domain: d})
	}
	for _, c := range []struct {
		name, want string
		plant      func(*world)
	}{
		{"nothing", "", func(*world) {}},
		{"orphan", "warning orphan", func(w *world) { found(w, false) }},
		{"orphan_with_stamp", "warning orphan", func(w *world) { found(w, true) }},
		{"orphan_that_stays", "warning orphan", func(w *world) {
			found(w, false)
			w.on(events.KindHost, host, events.HostOrphanStopWanted{Boot: boot, UUID: orphan})
			w.live.Held = append(w.live.Held, held(w, "orphan", orphan), held(w, "domain", web))[1:]
		}},
		{"crashed_and_known", "warning crashed", func(w *world) { down(w, events.DomainCrashed); w.observed(events.DomainCrashed, "crash") }},
		{"crashed_and_not_known", "error down, error not_reported", func(w *world) { down(w, events.DomainCrashed) }},
		{"not_ready", "error not_ready", func(w *world) {
			w.on(events.KindHost, host, events.HostRegistered{Name: "host1", Boot: "boot-2"})
			w.on(events.KindHost, host, events.HostRegistered{Name: "host1", Boot: boot, Capacity: events.Capacity{AllocatableMiB: 1024}})
		}},
		{"silent_and_answers", "error silent_and_answers", func(w *world) { w.on(events.KindMachine, host, events.MachineSilent{Boot: boot}) }},
		{"off_and_answers", "critical off_and_answers", func(w *world) {
			w.on(events.KindMachine, host, events.MachinePowerObserved{State: events.PowerIsOff, Reads: 2, Boot: boot, Proof: true})
		}},
		{"off_and_silent", "", func(w *world) {
			w.on(events.KindMachine, host, events.MachinePowerObserved{State: events.PowerIsOff, Reads: 2, Boot: boot, Proof: true})
			w.live = verify.Live{Missing: "gone"}
		}},
		{"other_image", "error image", func(w *world) { w.live.Image = "i2" }},
		{"an_old_agent", "", func(w *world) { w.live.Whole, w.live.Stamps, w.live.Held, w.live.Image = false, nil, nil, "" }},
		{"not_gone", "error not_gone", func(w *world) {
			w.on(events.KindVM, web, events.VMRunWanted{Want: events.WantStopped, Stop: events.StopDestroy})
		}},
		{"not_down", "warning not_down", func(w *world) {
			w.on(events.KindVM, web, events.VMRunWanted{Want: events.WantStopped, Stop: events.StopShutdown})
		}},
		{"end_not_told", "error end_not_told", func(w *world) {
			w.on(events.KindVM, web, events.VMRunWanted{Want: events.WantStopped, Stop: events.StopDestroy})
			w.live.Domains, w.live.Stamps = nil, nil
		}},
		{"uuid", "error uuid", func(w *world) { domain(w).UUID, w.live.Stamps[0].UUID = orphan, orphan }},
		{"grows", "note grows", func(w *world) {
			w.on(events.KindVM, web, events.VMGrantResized{Host: host, Epoch: one, MemoryMiB: 128, VCPUs: 2, Resizes: 1, Counted: 128})
			domain(w).Resizes = 1
		}},
		{"resize_not_done", "error memory", func(w *world) {
			w.on(events.KindVM, web, events.VMGrantResized{Host: host, Epoch: one, MemoryMiB: 128, VCPUs: 2, Resizes: 1, Counted: 128})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.plant(w)
			if got := said(w.look()); got != c.want {
				t.Errorf("found %q, want %q: %+v", got, c.want, w.look())
			}
		})
	}
}

func held(w *world, kind events.Kind, id string) events.DocumentReport {
	d, ok := w.c.Docs.Document(events.DesiredSubject(host, kind, id))
	if !ok {
		w.t.Fatalf("there is no document %s %s", kind, id)
	}
	return events.DocumentReport{Kind: kind, ID: id, Generation: d.Generation}
}

// What an operation, or the agent's work, explains is settling, however often it is seen; what nothing explains counts when it stays.
func TestSteady(t *testing.T) {
	w := newWorld(t)
	w.live.Domains[0].State = events.DomainPaused
	paused := w.look()
	if got := said(verify.Steady([][]verify.Finding{paused, w.look(), w.look()})); got != "error paused, error not_reported" {
		t.Errorf("it stays: %s", got)
	}
	if got := said(verify.Steady([][]verify.Finding{nil, paused})); got != "settling paused, settling not_reported" {
		t.Errorf("it is new: %s", got)
	}
	if got := said(verify.Steady([][]verify.Finding{paused, nil})); got != "" {
		t.Errorf("it is gone: %s", got)
	}
	silent := verify.Live{Missing: "no answer"}
	if got := said(verify.Steady([][]verify.Finding{paused, w.c.Live(map[events.MachineID]verify.Live{host: silent})})); got != "? unanswered" {
		t.Errorf("it does not answer any more: %s", got)
	}
	w.live.Busy = []events.Ref{{Kind: "domain", ID: web}}
	if got := said(verify.Steady([][]verify.Finding{w.look(), w.look()})); got != "settling paused, settling not_reported" {
		t.Errorf("the agent works on it: %s", got)
	}
	w.live.Busy = nil
	w.operation("pause", w.c.Now.Add(time.Minute))
	all := verify.Steady([][]verify.Finding{w.look(), w.look()})
	if got := said(all); got != "settling paused, settling not_reported" || !verify.Clean(all) || !strings.Contains(all[0].Moving, "vm.pause") {
		t.Errorf("an operation is under way: %s %+v", got, all)
	}
}

func TestOverdueOperation(t *testing.T) {
	w := newWorld(t)
	w.operation("start", began.Add(time.Minute))
	if got := said(w.c.Overdue()); got != "error operation_overdue" {
		t.Errorf("found %q", got)
	}
	w.c.Now = began.Add(2 * time.Minute)
	if got := said(w.c.Overdue()); got != "" {
		t.Errorf("a moment after the deadline: %q", got)
	}
}

func TestPower(t *testing.T) {
	for _, c := range []struct {
		name, want string
		off        bool
		answer     verify.PowerAnswer
	}{
		{"on_and_up", "", false, verify.PowerAnswer{State: events.PowerIsOn}},
		{"off_and_up", "error power", false, verify.PowerAnswer{State: events.PowerIsOff}},
		{"off_and_off", "", true, verify.PowerAnswer{State: events.PowerIsOff}},
		{"on_and_proven_off", "critical power", true, verify.PowerAnswer{State: events.PowerIsOn}},
		{"silent", "? unanswered", true, verify.PowerAnswer{Missing: "no answer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			if c.off {
				w.on(events.KindMachine, host, events.MachinePowerObserved{State: events.PowerIsOff, Reads: 2, Boot: boot, Proof: true})
			}
			if got := said(w.c.Power(map[events.MachineID]verify.PowerAnswer{host: c.answer})); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func TestShapes(t *testing.T) {
	want := []verify.Shape{{Name: "t", Columns: []verify.Column{{Name: "id", Type: "CHAR(36)"}, {Name: "n", Type: "BIGINT UNSIGNED"}, {Name: "b", Type: "BOOLEAN"}, {Name: "j", Type: "JSON", Null: true}},
		Indexes: []verify.Index{{Name: "PRIMARY", Columns: []string{"id"}, Unique: true}}}}
	have := []verify.Shape{{Name: "t", Columns: []verify.Column{{Name: "id", Type: "char(36)"}, {Name: "n", Type: "bigint(20) unsigned"}, {Name: "b", Type: "tinyint(1)"}, {Name: "j", Type: "longtext", Null: true}},
		Indexes: []verify.Index{{Name: "PRIMARY", Columns: []string{"id"}, Unique: true}}}}
	if got := said(verify.CompareShapes(want, have)); got != "" {
		t.Errorf("the same: %s", got)
	}
	have[0].Columns[0].Null = true
	have[0].Columns[1].Type = "bigint(20)"
	have[0].Indexes[0].Columns = []string{"n"}
	if got := said(verify.CompareShapes(want, have)); got != "error column_changed, error column_changed, error index_changed" {
		t.Errorf("changed: %s", got)
	}
}

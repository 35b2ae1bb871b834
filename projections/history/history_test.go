package history

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
)

// The log of these tests: accounts a and b with a VM each (va, vb), a machine m. ann is of a, bob of b.
const boot1, boot2 = "boot-1", "boot-2"

var epoch1, epoch2 = events.Epoch{Term: 1, Counter: 1}, events.Epoch{Term: 1, Counter: 2}

type log struct {
	all      []events.Recorded
	versions map[events.Ref]uint64
}

func (l *log) add(actor string, kind events.Kind, verb, args string, change func(*events.Decision), made ...events.Event) {
	n := uint64(len(l.all) + 1)
	d := events.Decision{Intent: events.IntentID(fmt.Sprintf("i%d", n)), Actor: actor, Kind: kind, Verb: verb, Args: json.RawMessage(args),
		Outcome: events.Outcome{Status: events.Accepted}}
	for _, e := range made {
		l.versions[e.Aggregate]++
		e.Version = l.versions[e.Aggregate]
		d.Events = append(d.Events, e)
	}
	if change != nil {
		change(&d)
	}
	l.all = append(l.all, events.Recorded{Number: n, Term: 1, Time: time.Date(2026, 1, 2, 3, 4, int(n), 0, time.UTC), Decision: d})
}

func event(kind events.Kind, id string, data events.Payload) events.Event {
	return events.New(kind, id, 0, data)
}

func vm(id string, data events.Payload) events.Event { return event(events.KindVM, id, data) }
func machine(data events.Payload) events.Event       { return event(events.KindMachine, "m", data) }
func op(id string, data events.Payload) events.Event { return event(events.KindOperation, id, data) }
func because(number string) func(d *events.Decision) {
	return func(d *events.Decision) { d.Cause = number }
}
func refused(code string) func(d *events.Decision) {
	return func(d *events.Decision) {
		d.Outcome = events.Outcome{Status: events.Refused, Code: code, Message: "no"}
	}
}
func reasoned(reason string) func(d *events.Decision) {
	return func(d *events.Decision) { d.Reason = reason }
}

func granted(epoch events.Epoch, boot string) events.VMRunGranted {
	return events.VMRunGranted{Host: "m", HostName: "host1", Boot: boot, Epoch: epoch, MemoryMiB: 128, VCPUs: 1,
		Scores: []events.Score{{Host: "m", Name: "host1", FreeMiB: 4000, Score: 900}, {Host: "n", Name: "host2", Refused: "cordoned"}}, Rest: 3}
}

func aLog() []events.Recorded {
	l := &log{versions: map[events.Ref]uint64{}}
	l.add("admin", "account", "create", `{"name":"a"}`, nil, event("account", "a", events.AccountCreated{Name: "a"}))
	l.add("admin", "machine", "add", `{"name":"host1"}`, nil, machine(events.MachineAdded{Name: "host1", MACs: []string{"52:54:00:00:00:01"}}))
	l.add("system:netboot", "machine", "report_boot_served", `{"machine":"m"}`, nil, machine(events.MachineBootServed{TokenSHA256: "t1"}))
	l.add("machine:m", "machine", "enrol", `{"machine":"m","inventory":{"serial":"hidden"}}`, nil, machine(events.MachineEnrolled{Boot: boot1, TokenSHA256: "t1"}),
		event("host", "m", events.HostRegistered{Name: "host1", Boot: boot1}))
	l.add("ann", "vm", "create", `{"account":"a","name":"web"}`, nil, vm("i5", events.VMCreated{Name: "web", Account: "a", MemoryMiB: 128}))
	l.add("bob", "vm", "create", `{"account":"b","name":"db"}`, nil, vm("i6", events.VMCreated{Name: "db", Account: "b", MemoryMiB: 256}))
	l.add("ann", "vm", "start", `{"vm":"i5"}`, reasoned("busy"), vm("i5", events.VMRunWanted{Want: events.WantRunning}), vm("i5", granted(epoch1, boot1)),
		op("i7", events.OperationStarted{Object: events.Ref{Kind: "vm", ID: "i5"}, Verb: "start"}))
	l.add("bob", "vm", "start", `{"vm":"i6"}`, because("7"), vm("i6", granted(epoch1, boot1)),
		op("i8", events.OperationStarted{Object: events.Ref{Kind: "vm", ID: "i6"}, Verb: "start"}))
	l.add("machine:m", "machine", "report", `{"machine":"m"}`, nil, vm("i5", events.VMDomainObserved{Host: "m", Epoch: epoch1, DomID: 1, State: "running"}),
		op("i7", events.OperationDone{}), vm("i6", events.VMDomainObserved{Host: "m", Epoch: epoch1, DomID: 2, State: "running"}), op("i8", events.OperationDone{}))
	l.add("bob", "vm", "stop", `{"vm":"i5"}`, refused(events.CodeNotFound))
	l.add("ann", "vm", "reboot", `{"vm":"i5"}`, refused(events.CodeConflict))
	l.add("system:netboot", "machine", "report_boot_served", `{"machine":"m"}`, nil, machine(events.MachineBootServed{TokenSHA256: "t2"}))
	l.add("machine:m", "machine", "enrol", `{"machine":"m"}`, reasoned("not for them"), machine(events.MachineEnrolled{Boot: boot2, TokenSHA256: "t2"}),
		vm("i5", events.VMGrantEnded{Host: "m", Boot: boot1, Epoch: epoch1, Proof: events.ProofNewBoot}),
		vm("i6", events.VMGrantEnded{Host: "m", Boot: boot1, Epoch: epoch1, Proof: events.ProofNewBoot}))
	l.add("system:reaction", "vm", "place", `{"vm":"i5"}`, because("13"), vm("i5", granted(epoch2, boot2)))
	l.add("machine:m", "machine", "report", `{"machine":"m"}`, nil, vm("i5", events.VMDomainObserved{Host: "m", Epoch: epoch2, DomID: 1, State: "running"}))
	l.add("system:liveness", "machine", "report_silent", `{"machine":"m"}`, nil, machine(events.MachineSilent{Boot: boot2}), vm("i5", events.VMBecameUnknown{Host: "m"}))
	l.add("admin", "host", "cordon", `{"host":"m"}`, nil, event("host", "m", events.HostCordoned{}))
	l.add("admin", "vm", "stop", `{"vm":"i5"}`, reasoned("too much"), vm("i5", events.VMRunWanted{Want: events.WantStopped, Stop: events.StopDestroy}))
	return l.all
}

func see(s *Scope) []Entry {
	var out []Entry
	for _, r := range aLog() {
		if e, ok := s.See(r); ok {
			out = append(out, e)
		}
	}
	return out
}

func numbers(entries []Entry) string {
	var out []string
	for _, e := range entries {
		out = append(out, fmt.Sprint(e.Number))
	}
	return strings.Join(out, " ")
}

func TestHistoryOfAnObject(t *testing.T) {
	for _, c := range []struct {
		name   string
		scope  *Scope
		object events.Ref
		want   string
	}{
		{"vm, with what was refused about it", Everything(), events.Ref{Kind: "vm", ID: "i5"}, "5 7 9 10 11 13 14 15 16 18"},
		{"machine", Everything(), events.Ref{Kind: "machine", ID: "m"}, "2 3 4 12 13 16"},
		{"host", Everything(), events.Ref{Kind: "host", ID: "m"}, "4 17"},
		{"account", Everything(), events.Ref{Kind: "account", ID: "a"}, "1"},
		{"operation", Everything(), events.Ref{Kind: "operation", ID: "i7"}, "7 9"},
		{"operation that was refused", Everything(), events.Ref{Kind: "operation", ID: "i11"}, "11"},
		{"nothing", Everything(), events.Ref{Kind: "vm", ID: "i55"}, ""},
		{"own vm: another's refused intent is his own affair", Within("ann", "a"), events.Ref{Kind: "vm", ID: "i5"}, "5 7 9 11 13 14 15 16 18"},
		{"own account", Within("ann", "a"), events.Ref{Kind: "account", ID: "a"}, "1"},
		{"own operation", Within("ann", "a"), events.Ref{Kind: "operation", ID: "i7"}, "7 9"},
		{"another's vm: only what he asked himself", Within("bob", "b"), events.Ref{Kind: "vm", ID: "i5"}, "10"},
		{"another's vm, by a third", Within("carl", "b"), events.Ref{Kind: "vm", ID: "i5"}, ""},
		{"another's account", Within("bob", "b"), events.Ref{Kind: "account", ID: "a"}, ""},
		{"another's operation", Within("bob", "b"), events.Ref{Kind: "operation", ID: "i7"}, ""},
		{"machine, for an account", Within("ann", "a"), events.Ref{Kind: "machine", ID: "m"}, ""},
		{"host, for an account", Within("ann", "a"), events.Ref{Kind: "host", ID: "m"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []Entry
			for _, e := range see(c.scope) {
				if e.About(c.object) {
					got = append(got, e)
				}
			}
			if numbers(got) != c.want {
				t.Errorf("got %q, want %q", numbers(got), c.want)
			}
		})
	}
}

// TestAnAccountSeesNothingOfAnother looks at every byte that two accounts are shown.
func TestAnAccountSeesNothingOfAnother(t *testing.T) {
	for _, c := range []struct {
		actor   string
		account events.AccountID
		never   []string
	}{
		{"ann", "a", []string{"i6", "i8", "bob", `"b"`, "db", "hidden", "not for them", "host1\",\"macs", "cordoned\"}", "token", "machine.enrolled"}},
		{"bob", "b", []string{"i7", "ann", `"a"`, "web", "busy", "too much", "hidden", "not for them", "token", "machine.enrolled"}},
	} {
		for _, e := range see(Within(c.actor, c.account)) {
			if c.actor == "bob" && e.Number == 10 {
				continue // his own intent about another's VM
			}
			raw, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			for _, word := range c.never {
				if strings.Contains(string(raw), word) && !(word == "cordoned\"}" && strings.Contains(string(raw), "run_granted")) {
					t.Errorf("%s is shown %q in decision %d: %s", c.actor, word, e.Number, raw)
				}
			}
		}
	}
}

// TestWordsOfOthersAreWithheld: a reaction carries the correlation of what it follows from, and an operator's words about a machine are
// not for the accounts whose VMs it ran.
func TestWordsOfOthersAreWithheld(t *testing.T) {
	l := &log{versions: map[events.Ref]uint64{}}
	l.add("ann", "vm", "create", `{"account":"a"}`, nil, vm("i1", events.VMCreated{Name: "x", Account: "a"}))
	l.add("system:reaction", "vm", "place", `{"vm":"i1"}`, func(d *events.Decision) { d.Cause, d.Correlation = "1", "SECRET" }, vm("i1", granted(epoch1, boot1)))
	l.add("root", "machine", "power", `{"machine":"SECRET"}`, func(d *events.Decision) {
		d.Cause, d.Correlation, d.Reason, d.Override, d.Expect = "SECRET", "SECRET", "SECRET", []string{"SECRET"}, &events.Expect{Name: "SECRET"}
		d.Outcome.Message, d.Outcome.Guard, d.Outcome.Code = "SECRET", "SECRET", "SECRET"
	}, machine(events.MachinePowerWanted{Action: "SECRET"}), vm("i1", events.VMBecameUnknown{Host: "m"}))
	l.add("root", "vm", "stop", `{"vm":"i1"}`, reasoned("for its owner to read"), vm("i1", events.VMRunWanted{Want: events.WantStopped}))
	s, shown := Within("ann", "a"), []string{}
	for _, r := range l.all {
		e, ok := s.See(r)
		raw, err := json.Marshal(e)
		if !ok || err != nil || strings.Contains(string(raw), "SECRET") {
			t.Errorf("decision %d: shown %v, %v: %s", r.Number, ok, err, raw)
		}
		shown = append(shown, e.Reason)
	}
	if shown[3] != "for its owner to read" {
		t.Errorf("the reason of what was done to the own VM is withheld: %q", shown)
	}
}

// TestVolumesOfAnAccount: its owner sees what became of a volume, also what a proxy's report about several says of it, and nothing of
// another's.
func TestVolumesOfAnAccount(t *testing.T) {
	volume := func(id string, p events.Payload) events.Event { return event("volume", id, p) }
	l := &log{versions: map[events.Ref]uint64{}}
	l.add("ann", "volume", "create", `{"account":"a"}`, nil, volume("i1", events.VolumeCreated{Name: "x", Account: "a"}))
	l.add("bob", "volume", "create", `{"account":"b"}`, nil, volume("i2", events.VolumeCreated{Name: "SECRET", Account: "b"}))
	l.add("machine:p", "machine", "report_arrays", `{"machine":"SECRET"}`, nil, volume("i1", events.VolumeReady{}), volume("i2", events.VolumeReady{}))
	l.add("root", "volume", "delete", `{"volume":"i1"}`, reasoned("asked by mail"), volume("i1", events.VolumeDeleted{}))
	l.add("root", "volume", "grow", `{"volume":"i1"}`, refused(events.CodeNotFound))
	l.add("root", "volume", "delete", `{"volume":"i2"}`, reasoned("SECRET"), volume("i2", events.VolumeDeleted{}))
	from := WithinFrom("ann", "a", []events.Ref{{Kind: events.KindVolume, ID: "i1"}})
	for name, s := range map[string]*Scope{"1 3 4": Within("ann", "a"), "3 4": from} {
		var got []Entry
		for _, r := range l.all {
			e, ok := s.See(r)
			raw, err := json.Marshal(e)
			if err != nil || strings.Contains(string(raw), "SECRET") {
				t.Errorf("decision %d, %v: %s", r.Number, err, raw)
			}
			if ok && e.About(events.Ref{Kind: events.KindVolume, ID: "i1"}) && (s != from || r.Number > 1) {
				got = append(got, e)
			}
		}
		if numbers(got) != name || got[len(got)-1].Reason != "asked by mail" {
			t.Errorf("got %q, want %q: %+v", numbers(got), name, got)
		}
	}
}

// TestAnIDThatTwoUse: an intent's key is (actor, id). Who used the id of another's later intent must not see what that one began.
func TestAnIDThatTwoUse(t *testing.T) {
	l := &log{versions: map[events.Ref]uint64{}}
	same := func(d *events.Decision) { d.Intent = "same" }
	l.add("ann", "vm", "create", `{"account":"a"}`, same, vm("same", events.VMCreated{Name: "x", Account: "a"}),
		op("same", events.OperationStarted{Object: events.Ref{Kind: "vm", ID: "same"}}))
	l.add("bob", "vm", "start", `{"vm":"other"}`, same, vm("other", granted(epoch1, boot1)), op("same", events.OperationStarted{Object: events.Ref{Kind: "vm", ID: "other"}}))
	l.add("machine:m", "machine", "report", `{}`, nil, op("same", events.OperationDone{}))
	s := Within("ann", "a")
	for _, r := range l.all {
		if e, ok := s.See(r); ok != (r.Number == 1) {
			t.Errorf("decision %d: shown %v: %+v", r.Number, ok, e)
		}
	}
}

func TestWhy(t *testing.T) {
	for _, c := range []struct {
		name  string
		scope *Scope
		want  Target
		found uint64
		chain []uint64
	}{
		{"an intent: all that followed", Everything(), Target{Intent: "i7"}, 7, []uint64{7, 8, 9, 13, 14, 15, 16}},
		{"a report: what it follows from", Everything(), Target{Number: 9}, 9, []uint64{7, 8, 9}},
		{"a reaction: back to the boot and the intents", Everything(), Target{Number: 14}, 14, []uint64{7, 8, 12, 13, 14, 15}},
		{"an object: its last decision", Everything(), Target{Object: events.Ref{Kind: "vm", ID: "i5"}}, 18, []uint64{18}},
		{"a machine: its boot, and the runs that this ended", Everything(), Target{Object: events.Ref{Kind: "machine", ID: "m"}}, 16, []uint64{7, 8, 12, 13, 16}},
		{"nothing", Everything(), Target{Number: 99}, 0, nil},
		{"own", Within("ann", "a"), Target{Intent: "i7"}, 7, []uint64{7, 9, 13, 14, 15}},
		{"another's intent", Within("bob", "b"), Target{Intent: "i7"}, 0, nil},
		{"another's number", Within("bob", "b"), Target{Number: 14}, 0, nil},
		{"another's object", Within("bob", "b"), Target{Object: events.Ref{Kind: "vm", ID: "i5"}}, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			chain, there := NewChain(c.want), map[uint64]bool{}
			for _, e := range see(c.scope) {
				there[e.Number] = true
				chain.Add(&e)
			}
			if chain.Found() != c.found {
				t.Fatalf("found %d, want %d", chain.Found(), c.found)
			}
			if c.found == 0 {
				return
			}
			var got []uint64
			for n := range chain.Numbers() {
				if there[n] {
					got = append(got, n)
				}
			}
			if slices.Sort(got); !slices.Equal(got, c.chain) {
				t.Errorf("got %v, want %v", got, c.chain)
			}
		})
	}
}

package history

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloudengine/events"
)

func TestWords(t *testing.T) {
	for _, c := range []struct {
		data events.Payload
		want string
	}{
		{events.VMDeleted{}, ""},
		{events.VMRunWanted{Want: "running"}, "want running"},
		{events.MachineAdded{Name: "h", MACs: []string{"a", "b"}, BMC: &events.BMC{Address: "x:623", User: "u", Secret: "s"}},
			"name h, macs a,b, bmc.address x:623, bmc.user u, bmc.secret s"},
		{events.VMStepFailed{Host: "m", Epoch: epoch2, Step: "create", Message: "no memory"}, "host m, epoch 1.2, step create, message no memory, retryable no"},
		{granted(epoch1, "b"), "host m, host name host1, boot b, epoch 1.1, memory mib 128, overhead mib 0, vcpus 1, rest 3"},
		{events.HostOrphanFound{Boot: "b", Domain: events.DomainReport{UUID: "u", State: "running"}},
			"boot b, domain.uuid u, domain.domid 0, domain.stamped no, domain.state running, domain.memory mib 0, domain.vcpus 0"},
		{events.Unknown{Type: "vm.flew.v9", Raw: json.RawMessage(`{"list":[{"a":1},{"a":2}],"none":null,"deep":{"x":{"term":1,"counter":2}}}`)},
			"list.0.a 1, list.1.a 2, deep.x 1.2"},
		{events.Unknown{Type: "vm.flew.v9", Raw: json.RawMessage(`"text"`)}, " text"},
	} {
		if got := Words(events.New("vm", "v", 1, c.data)); got != c.want {
			t.Errorf("%T:\n got %q\nwant %q", c.data, got, c.want)
		}
	}
}

// TestEverySampleHasWords: every event of every version that was ever published can be told and compared.
func TestEverySampleHasWords(t *testing.T) {
	paths, err := filepath.Glob("../../events/testdata/samples/*.json")
	if err != nil || len(paths) < 40 {
		t.Fatalf("%d samples: %v", len(paths), err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(filepath.Base(path), ".")
		name := strings.Join(parts[:3], ".")
		var e events.Event
		if err := json.Unmarshal([]byte(`{"aggregate":"vm/v","version":1,"type":"`+name+`","data":`+string(raw)+`}`), &e); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var said int
		for _, f := range Fields(e.Data) {
			if essential(f.Name) {
				said++
			}
		}
		if said > 0 && Words(e) == "" || said > 0 && len(NewDiffer().Add(e)) == 0 {
			t.Errorf("%s: %d fields, words %q", path, said, Words(e))
		}
	}
}

func TestDiff(t *testing.T) {
	d, got := NewDiffer(), []string{}
	for _, e := range see(Everything()) {
		for _, ev := range e.Of(events.Ref{Kind: "vm", ID: "i5"}) {
			for _, c := range d.Add(ev) {
				got = append(got, ev.Type+" "+c.Field+": "+c.Old+" → "+c.New)
			}
		}
	}
	for _, want := range []string{
		"vm.created.v1 memory_mib:  → 128", "vm.run_wanted.v1 wanted.want:  → running", "vm.run_granted.v1 grant.epoch:  → 1.1",
		"vm.domain_observed.v1 domain.state:  → running", "vm.grant_ended.v1 grant.epoch: 1.1 → ", "vm.grant_ended.v1 domain.state: running → ",
		"vm.grant_ended.v1 ended.proof:  → new_boot", "vm.run_granted.v1 grant.epoch:  → 1.2", "vm.run_granted.v1 ended.proof: new_boot → ",
		"vm.became_unknown.v1 unknown: no → yes", "vm.run_wanted.v1 wanted.want: running → stopped", "vm.run_wanted.v1 wanted.stop:  → destroy",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, strings.Join(got, "\n"))
		}
	}
}

// TestDiffFromTheMiddle: what was before the first event that is known is not known either.
func TestDiffFromTheMiddle(t *testing.T) {
	d := NewDiffer()
	got := d.Add(events.New("vm", "v", 7, events.VMRunWanted{Want: "stopped"}))
	if len(got) != 1 || got[0] != (Change{"wanted.want", "?", "stopped"}) {
		t.Errorf("got %+v", got)
	}
	if got = d.Add(events.New("vm", "v", 8, events.VMRunWanted{Want: "stopped"})); len(got) != 0 {
		t.Errorf("the same again changed %+v", got)
	}
}

func TestExplain(t *testing.T) {
	linker, all := NewLinker(), []Entry{}
	chain := NewChain(Target{Number: 14})
	for _, e := range see(Everything()) {
		chain.Add(&e)
		e.From = linker.Add(&e)
		all = append(all, e)
	}
	wanted := chain.Numbers()
	all = slices.DeleteFunc(all, func(e Entry) bool { return !wanted[e.Number] })
	var got []string
	for _, l := range Explain(all) {
		got = append(got, strings.Repeat("  ", l.Depth)+l.Text)
	}
	const want = `2026-01-02T03:04:07Z  ann  vm.start  accepted  intent i7
  reason: busy
  vm.run_wanted.v1 of vm/i5: want running
  vm.run_granted.v1 of vm/i5: host m, host name host1, boot boot-1, epoch 1.1, memory mib 128, overhead mib 0, vcpus 1, rest 3
    host host1: score 900, 4000 MiB free, chosen
    host host2: not possible: cordoned
    and 3 hosts that are not listed
  operation.started.v1 of operation/i7: object vm/i5, verb start, deadline 0001-01-01T00:00:00Z
  2026-01-02T03:04:08Z  bob  vm.start  accepted  intent i8  [the actor names as cause 7]
    vm.run_granted.v1 of vm/i6: host m, host name host1, boot boot-1, epoch 1.1, memory mib 128, overhead mib 0, vcpus 1, rest 3
      host host1: score 900, 4000 MiB free, chosen
      host host2: not possible: cordoned
      and 3 hosts that are not listed
    operation.started.v1 of operation/i8: object vm/i6, verb start, deadline 0001-01-01T00:00:00Z
2026-01-02T03:04:12Z  system:netboot  machine.report_boot_served  accepted  intent i12
  machine.boot_served.v1 of machine/m
  2026-01-02T03:04:13Z  machine:m  machine.enrol  accepted  intent i13  [boot served by 12; run granted by 7; run granted by 8]
    reason: not for them
    machine.enrolled.v1 of machine/m: boot boot-2
    vm.grant_ended.v1 of vm/i5: host m, boot boot-1, epoch 1.1, proof new_boot
    vm.grant_ended.v1 of vm/i6: host m, boot boot-1, epoch 1.1, proof new_boot
    2026-01-02T03:04:14Z  system:reaction  vm.place  accepted  intent i14  [reaction to 13]
      vm.run_granted.v1 of vm/i5: host m, host name host1, boot boot-2, epoch 1.2, memory mib 128, overhead mib 0, vcpus 1, rest 3
        host host1: score 900, 4000 MiB free, chosen
        host host2: not possible: cordoned
        and 3 hosts that are not listed
      2026-01-02T03:04:15Z  machine:m  machine.report  accepted  intent i15  [run granted by 14]
        vm.domain_observed.v1 of vm/i5: host m, epoch 1.2, domid 1, state running, memory mib 0, vcpus 0`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got:\n%s\nwant:\n%s", text, want)
	}
}

func TestSlim(t *testing.T) {
	big := Entry{Decision: events.Decision{Args: json.RawMessage(`{}`), Events: []events.Event{{}}}}
	small := big
	small.Slim(func(*Entry) bool { return true })
	if small.Withheld || small.Args == nil {
		t.Errorf("what fits was cut: %+v", small)
	}
	half := big
	half.Slim(func(e *Entry) bool { return e.Args == nil })
	if !half.Withheld || half.Args != nil || half.Events == nil {
		t.Errorf("got %+v", half)
	}
	big.Slim(func(*Entry) bool { return false })
	if !big.Withheld || big.Events != nil {
		t.Errorf("got %+v", big)
	}
}

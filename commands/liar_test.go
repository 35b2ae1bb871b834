package commands

import (
	"encoding/json"
	"testing"

	"cloudengine/events"
)

// FuzzLyingMachine lets a machine report and enrol with anything: whatever is decided is about that machine alone, and not about VMs that
// run elsewhere.
func FuzzLyingMachine(f *testing.F) {
	w := newWorld(f)
	w.addHost("host1", 2000)
	w.createVM("web", 128)
	w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
	w.addHost("liar", 2000)
	liar := w.host("liar")
	web, boot := w.ids["web"], w.s.machines[liar].Boot
	used := w.s.machines[liar].usedToken
	add := func(verb string, v any) {
		raw, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(verb, string(raw))
	}
	report := func(r events.Report) {
		r.Machine, r.Boot, r.Counter = liar, boot, 1<<20
		add("report", r)
	}
	epoch := w.s.vms[w.vm("web")].Grant.Epoch
	report(events.Report{Complete: true})
	report(events.Report{Domains: []events.DomainReport{{UUID: web, DomID: 3, Stamped: true, VM: events.VMID(web), Epoch: epoch, State: events.DomainRunning}}})
	report(events.Report{Domains: []events.DomainReport{{UUID: web, DomID: 3, State: events.DomainRunning, MemoryMiB: 64}}, Complete: true})
	report(events.Report{Ended: []events.DomainEnded{{VM: events.VMID(web), Epoch: epoch, How: events.EndedDestroyed}}})
	report(events.Report{Steps: []events.StepFailed{{Object: events.Ref{Kind: events.KindVM, ID: web}, Step: "start", Message: "no"}}})
	report(events.Report{Capacity: &events.Capacity{AllocatableMiB: 1 << 20, PCPUs: 8, XenVersion: "4.17", Types: []string{"pv"}}, Term: 9})
	add("enrol", Enrolment{Machine: liar, TokenSHA256: used, Boot: bootID(77), Key: testKeys[60], Image: "x"})
	add("enrol", Enrolment{Machine: w.host("host1"), TokenSHA256: used, Boot: bootID(77), Key: testKeys[60], Image: "x"})
	f.Fuzz(func(t *testing.T, verb, args string) {
		c := Command{Intent: "00000000-0000-4000-8000-000000000000", Actor: MachineActor(liar), Kind: events.KindMachine, Verb: verb, Args: []byte(args)}
		d := w.s.Decide(c, w.now)
		for _, e := range d.Events {
			if e.Aggregate.ID != string(liar) || e.Aggregate.Kind != events.KindHost && e.Aggregate.Kind != events.KindMachine {
				t.Fatalf("a machine has changed what is not its own: %+v", e)
			}
		}
		if Stored(d) && len(d.Outcome.Message) > 4096 {
			t.Fatalf("%d bytes of a machine's words are stored as a message", len(d.Outcome.Message))
		}
	})
}

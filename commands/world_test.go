package commands

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
)

// world decides commands one after another, as the dispatcher does, and keeps the log.
type world struct {
	t     testing.TB
	s     *State
	log   []events.Recorded
	now   time.Time
	n     int
	boots int
	ids   map[string]string
}

var testStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// A valid public user nkey differs by machine and boot; tests need only the form, so they use these in turn.
var testKeys = func() []string {
	var out []string
	for range 64 {
		out = append(out, newTestKey())
	}
	return out
}()

func newWorld(t testing.TB) *world {
	w := &world{t: t, s: NewState(), now: testStart, ids: map[string]string{}}
	w.must(w.as(ActorBootstrap, "log.open", OpenLog{1, "created"}))
	w.must(w.as(ActorBootstrap, "user.create", CreateUser{Name: "admin", Key: newTestKey(), Role: events.RoleAdmin}))
	w.id("demo", w.must(w.do("account.create", CreateAccount{"demo"})))
	w.id("tiny", w.must(w.do("template.create", CreateTemplate{Name: "tiny", Type: "kernel", Kernel: testBlob, MinMemory: 64})))
	return w
}

var testBlob = events.Blob{SHA256: strings.Repeat("ab", 32), Size: 1000}

func (w *world) id(name string, d events.Decision) string {
	w.ids[name] = string(d.Intent)
	return w.ids[name]
}

func (w *world) vm(name string) events.VMID        { return events.VMID(w.ids[name]) }
func (w *world) host(name string) events.MachineID { return events.MachineID(w.ids[name]) }

// do decides a command of the user admin, and what follows from it.
func (w *world) do(verb string, args any) events.Decision { return w.as("admin", verb, args) }

func (w *world) as(actor, verb string, args any) events.Decision {
	kind, v, _ := strings.Cut(verb, ".")
	w.n++
	return w.run(Command{Intent: events.FreeFormID("test", fmt.Sprint(w.n)), Actor: actor, Kind: events.Kind(kind), Verb: v, Args: mustArgs(args)})
}

func (w *world) run(c Command) events.Decision {
	w.now = w.now.Add(time.Millisecond)
	d := w.s.Decide(c, w.now)
	if Stored(d) {
		w.store(d)
		for _, next := range w.s.Resume() {
			if _, _, _, seen := w.s.Seen(next); !seen { // as the dispatcher asks before it decides
				w.run(next)
			}
		}
	}
	return d
}

// store appends a decision by way of its encoded form, as the log does.
func (w *world) store(d events.Decision) {
	raw, err := json.Marshal(d)
	if err != nil {
		w.t.Fatalf("encode decision: %v", err)
	}
	var back events.Decision
	if err := json.Unmarshal(raw, &back); err != nil {
		w.t.Fatalf("decode decision: %v", err)
	}
	r := events.Recorded{Number: w.s.Next(), Term: max(1, w.s.Term()), Time: w.now, Decision: back}
	w.log = append(w.log, r)
	w.s.Evolve(r)
}

func (w *world) must(d events.Decision) events.Decision {
	w.t.Helper()
	if d.Outcome.Status != events.Accepted {
		w.t.Fatalf("%s.%s: %s %s: %s", d.Kind, d.Verb, d.Outcome.Status, d.Outcome.Code, d.Outcome.Message)
	}
	return d
}

func (w *world) refused(d events.Decision, code, guard string) {
	w.t.Helper()
	if d.Outcome.Status != events.Refused || d.Outcome.Code != code || d.Outcome.Guard != guard {
		w.t.Fatalf("%s.%s: got %+v, want refused %s %s", d.Kind, d.Verb, d.Outcome, code, guard)
	}
}

func (w *world) nothing(d events.Decision) {
	w.t.Helper()
	if d.Outcome.Status != events.Nothing {
		w.t.Fatalf("%s.%s: got %+v, want nothing to do", d.Kind, d.Verb, d.Outcome)
	}
}

// addHost adds a machine with a healthy BMC, boots it and lets it report completely.
func (w *world) addHost(name string, mib int) {
	n := len(w.s.machines) + 1
	w.do("secret.set", SetSecret{"bmc", "f00d"})
	w.id(name, w.must(w.do("machine.add", AddMachine{
		Name: name, MACs: []string{fmt.Sprintf("52:54:00:00:00:%02x", n)}, Roles: []string{events.RoleHost},
		BMC: &events.BMC{Address: fmt.Sprintf("10.77.1.%d:623", n), User: "admin", Secret: "bmc"},
	})))
	w.must(w.as(ActorPower, "machine.report_bmc", ReportBMC{Machine: w.host(name), Healthy: true}))
	w.boot(name, mib)
	w.report(name, events.Report{Complete: true})
}

// boot serves and enrols a new boot.
func (w *world) boot(name string, mib int) events.Decision {
	w.boots++
	token := fmt.Sprintf("%064x", w.boots)
	w.must(w.as(ActorNetboot, "machine.report_boot_served", BootServed{w.host(name), token, "52:54:00:00:00:01", "image"}))
	return w.must(w.as(MachineActor(w.host(name)), "machine.enrol", Enrolment{
		Machine: w.host(name), TokenSHA256: token, Boot: bootID(w.boots), Key: testKeys[w.boots%len(testKeys)], Image: "image",
		Inventory: events.Inventory{CPUs: 4, MemoryMiB: mib + 512, Capacity: &events.Capacity{AllocatableMiB: mib, PCPUs: 4, XenVersion: "4.17", Types: []string{"pv", "pvh"}}},
	}))
}

func bootID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// report fills in who speaks, and counts.
func (w *world) report(name string, r events.Report) events.Decision {
	w.n++
	m := w.s.machines[w.host(name)]
	r.Machine, r.Counter = m.ID, uint64(w.n)
	if r.Boot == "" {
		r.Boot = m.Boot
	}
	return w.as(MachineActor(m.ID), "machine.report", StateReport(r))
}

func (w *world) createVM(name string, mib int) {
	w.id(name, w.must(w.do("vm.create", CreateVM{Account: events.AccountID(w.ids["demo"]), Name: name, Type: "pv", VCPUs: 1, MemoryMiB: mib, Template: events.TemplateID(w.ids["tiny"])})))
}

// domain is what the host of a VM's grant would report.
func (w *world) domain(name, state string) events.DomainReport {
	vm := w.s.vms[w.vm(name)]
	return events.DomainReport{
		UUID: string(vm.ID), DomID: 7, Name: name, Stamped: true, VM: vm.ID, Epoch: vm.Grant.Epoch, Boot: vm.Grant.Boot,
		State: state, MemoryMiB: vm.Data.MemoryMiB, VCPUs: vm.Data.VCPUs, Weight: vm.Data.Weight, Restarts: vm.restarts,
	}
}

func (w *world) endedOf(name string) events.DomainEnded {
	vm := w.s.vms[w.vm(name)]
	return events.DomainEnded{VM: vm.ID, Epoch: vm.Grant.Epoch, How: events.EndedDestroyed}
}

func (w *world) audit() {
	w.t.Helper()
	a := NewAudit()
	for _, r := range w.log {
		a.Add(r)
	}
	if b := a.Broken(); len(b) > 0 {
		w.t.Fatalf("the log breaks invariants:\n%s", strings.Join(b, "\n"))
	}
}

func types(d events.Decision) string {
	var out []string
	for _, e := range d.Events {
		out = append(out, strings.TrimSuffix(e.Type, ".v1"))
	}
	return strings.Join(out, " ")
}

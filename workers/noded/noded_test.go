package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"sort"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
)

func TestLifeOverTheBus(t *testing.T) {
	p := newPlane(t)
	p.start()
	p.eventually("a complete report", func() bool {
		return p.seen(0, func(r events.Report) bool { return r.Complete && r.Capacity != nil })
	})
	vm := newVM()
	p.want(domain(vm, desired.Running, 1))
	p.eventually("it runs and is reported", func() bool { return p.runsOnce(vm) && p.seen(0, p.reported(vm, events.DomainRunning)) })
	restart := domain(vm, desired.Running, 1)
	restart.Restarts = 1
	p.want(restart)
	p.eventually("it was made again", func() bool {
		return p.runsOnce(vm) && p.seen(0, func(r events.Report) bool {
			return len(r.Domains) == 1 && r.Domains[0].Restarts == 1 && r.Domains[0].State == events.DomainRunning
		})
	})
	p.want(domain(vm, desired.Paused, 1))
	p.eventually("it is paused", func() bool { return p.seen(0, p.reported(vm, events.DomainPaused)) })
	p.want(domain(vm, desired.Shutdown, 1))
	p.eventually("its end is reported", func() bool { return p.seen(0, p.ended(vm)) && len(p.states(vm)) == 0 })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.enrols != 1 {
		t.Fatalf("%d enrolments", p.enrols)
	}
}

func TestQuestions(t *testing.T) {
	p := newPlane(t)
	p.start()
	p.eventually("a complete report", func() bool { return p.seen(0, func(r events.Report) bool { return r.Complete }) })
	vm := newVM()
	ask := func(what string, body any, answer any) {
		t.Helper()
		b, err := json.Marshal(body)
		must(t, err)
		m, err := p.conn.Request(events.MachineRequestSubject(p.machine, what), b, 20*time.Second)
		must(t, err)
		must(t, json.Unmarshal(m.Data, answer))
	}
	var c consoleAnswer
	ask("console", consoleRequest{VM: vm}, &c)
	if c.Error == nil || c.Error.Code != events.CodeNotFound {
		t.Fatalf("console of an unknown VM: %+v", c)
	}
	p.want(domain(vm, desired.Running, 1))
	p.eventually("it runs", func() bool { return p.runsOnce(vm) })
	ask("console", consoleRequest{VM: vm}, &c)
	var plan planAnswer
	ask("plan", struct{}{}, &plan)
	if plan.Error != nil || len(plan.Plans) != 0 {
		t.Fatalf("plan of a machine that is as it should be: %+v", plan)
	}
	var all inspectAnswer
	ask("inspect", map[string]bool{"all": true}, &all)
	w := all.Whole
	if all.Error != nil || w == nil || len(all.Domains) != 1 || len(w.Stamps) != 1 || w.Stamps[0].VM != vm || len(w.Documents) != 1 ||
		w.Documents[0].Generation.Number != p.number || w.Hypervisor.TotalMiB == 0 || w.Image != "test" {
		t.Fatalf("asked for all: %+v, %+v", all, w)
	}
	var few inspectAnswer
	ask("inspect", struct{}{}, &few)
	if few.Whole != nil || len(few.Domains) != 1 {
		t.Fatalf("asked for the domains: %+v", few)
	}
}

// TestKillProcess kills the agent as a process at any moment of start, reboot, stop and start again; a sample of what the kill table
// of workers/host does at every call. The model is in a file, as domains are in Xen.
func TestKillProcess(t *testing.T) {
	p := newPlane(t)
	rng := rand.New(rand.NewPCG(1, 2))
	cmd := p.start()
	p.eventually("a complete report", func() bool { return p.seen(0, func(r events.Report) bool { return r.Complete }) })
	epoch := uint64(0)
	vm := newVM()
	for round := range 12 {
		epoch++
		d := domain(vm, desired.Running, epoch)
		for _, change := range []func(*desired.Domain){
			func(*desired.Domain) {}, func(d *desired.Domain) { d.Restarts++ }, func(d *desired.Domain) { d.Want = desired.Absent },
		} {
			change(&d)
			before := p.count()
			p.want(d)
			time.Sleep(time.Duration(rng.IntN(12000)) * time.Microsecond) // somewhere within the steps
			kill(cmd)
			cmd = p.start()
			if d.Want == desired.Absent {
				p.eventually("its end is reported", func() bool { return len(p.states(vm)) == 0 && p.seen(before, p.ended(vm)) })
				continue
			}
			p.eventually("it runs, once", func() bool { return p.runsOnce(vm) && p.seen(before, p.reported(vm, events.DomainRunning)) })
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.enrols != 1 {
		t.Fatalf("%d enrolments of one boot", p.enrols)
	}
}

func TestLostConnectionAndDocumentsTwice(t *testing.T) {
	p := newPlane(t)
	p.start()
	p.eventually("a complete report", func() bool { return p.seen(0, func(r events.Report) bool { return r.Complete }) })
	vm := newVM()
	p.want(domain(vm, desired.Running, 1))
	p.eventually("it runs", func() bool { return p.runsOnce(vm) && p.seen(0, p.reported(vm, events.DomainRunning)) })
	for range 3 {
		before := p.count()
		p.eventually("the agent is disconnected", func() bool { return p.srv.Kick(p.key) > 0 })
		p.eventually("a complete report after the reconnect", func() bool {
			return p.seen(before, func(r events.Report) bool { return r.Complete && len(r.Domains) == 1 })
		})
	}
	other := newVM()
	p.want(domain(other, desired.Running, 1))
	p.eventually("documents still come", func() bool { return p.runsOnce(other) })
	p.want(domain(vm, desired.Absent, 2)) // another host has it now
	p.eventually("what was stale is told and its end too", func() bool {
		return p.seen(0, func(r events.Report) bool { return len(r.Domains) > 0 && r.Domains[0].Stale }) && p.seen(0, p.ended(vm)) && len(p.states(vm)) == 0
	})
	for call, at := range p.calls("create") {
		t.Log(at, call)
	}
	if n := len(p.calls("create")); n != 2 {
		t.Fatalf("%d creations, want 2", n)
	}
}

// TestReactsWithinMilliseconds measures from the document's publication to the call that makes the domain.
func TestReactsWithinMilliseconds(t *testing.T) {
	p := newPlane(t)
	p.startWith()
	p.eventually("a complete report", func() bool { return p.seen(0, func(r events.Report) bool { return r.Complete }) })
	const starts = 200
	published := map[string]time.Time{}
	for range starts {
		d := domain(newVM(), desired.Running, 1)
		published[string(d.VM[len(d.VM)-12:])] = time.Now()
		p.want(d)
		time.Sleep(2 * time.Millisecond) // arrivals, not a batch
	}
	p.eventually("all are made", func() bool { return len(p.calls("create")) == starts })
	var took []time.Duration
	for call, at := range p.calls("create ce-") {
		took = append(took, at.Sub(published[call[len("create ce-"):len("create ce-")+12]]))
	}
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	t.Logf("publication to create: p50 %s, p99 %s, longest %s", took[starts/2], took[starts*99/100], took[starts-1])
	if took[starts*99/100] > 10*time.Second { // the goal of 100 ms is the benchmark's; this machine may be busy
		t.Fatalf("p99 is %s", took[starts*99/100])
	}
}

func TestSecondAgentWaitsForTheFirst(t *testing.T) {
	p := newPlane(t)
	first := p.start()
	p.eventually("a complete report", func() bool { return p.seen(0, func(r events.Report) bool { return r.Complete }) })
	p.start()
	p.eventually("the second one waits", func() bool {
		b, err := os.ReadFile(p.path("log"))
		return err == nil && len(b) > 0 && strings.Contains(string(b), "waiting for another agent")
	})
	before := p.count()
	kill(first)
	p.eventually("the second one works on", func() bool { return p.seen(before, func(r events.Report) bool { return r.Complete }) })
}

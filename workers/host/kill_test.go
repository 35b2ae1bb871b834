package host_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/workertest"
)

// scenario is one change on a host: what was there before, what happens, and what must be there in the end, however often the agent dies.
type scenario struct {
	before []desired.Document
	change func(t fatal, e *engine)
	check  func(t fatal, e *engine)
}

func takeAll(docs ...desired.Document) func(fatal, *engine) {
	return func(t fatal, e *engine) {
		for _, d := range docs {
			e.take(t, d)
		}
	}
}

func runs(vm events.VMID, epoch uint64) func(fatal, *engine) {
	return func(t fatal, e *engine) { e.wantDomain(t, vm, events.DomainRunning, epoch) }
}

func gone(vm events.VMID, epoch uint64) func(fatal, *engine) {
	return func(t fatal, e *engine) {
		e.wantNone(t, vm)
		e.wantEnded(t, vm, epoch, events.EndedDestroyed, events.EndedShutdown, events.EndedAbsent)
	}
}

func scenarios() map[string]scenario {
	start := vmDoc(1, wish(vm1, desired.Running, 1))
	restart := wish(vm1, desired.Running, 1)
	restart.Restarts = 1
	weight := wish(vm1, desired.Running, 1)
	weight.Weight = 4
	machine, smaller := wish(vm1, desired.Running, 1), wish(vm1, desired.Running, 1)
	machine.Type = events.TypeHVM
	smaller.Resizes, smaller.MemoryMiB, smaller.VCPUs = 1, 96, 1
	larger := smaller
	larger.Resizes, larger.MemoryMiB = 2, 512 // more than its domain was made with: it gets what it can have
	sized := func(mib int) func(t fatal, e *engine) {
		return func(t fatal, e *engine) {
			if d := e.wantDomain(t, vm1, events.DomainRunning, 1); d.MemoryMiB != mib || d.VCPUs != 1 || d.Resizes == 0 {
				t.Fatalf("after the resize: %+v", d)
			}
		}
	}
	stored := wish(vm1, desired.Running, 1)
	stored.Disks = []desired.Disk{diskOf("xvda", vol1, 3), diskOf("xvdb", vol2, 1)}
	booted := diskBooted(desired.Running, 1, "web")
	rebooted := diskBooted(desired.Running, 1, "renamed")
	rebooted.Restarts = 1
	limited, wider := stored, stored
	limited.Disks = []desired.Disk{diskOf("xvda", vol1, 3)}
	limited.Disks[0].Limits = slow
	wider.Disks = []desired.Disk{diskOf("xvda", vol1, 3)}
	wider.Disks[0].Limits = events.DiskLimits{WriteBPS: 40 << 20}
	runsLimited := func(l events.DiskLimits) func(t fatal, e *engine) {
		return func(t fatal, e *engine) { runsWithDisks(vm1, 1, "xvda", string(vol1))(t, e); hasLimits(t, e, l) }
	}
	return map[string]scenario{
		"seed_start":   {change: takeAll(vmDoc(1, booted)), check: runsSeeded(1, "web")},
		"seed_stop":    {before: []desired.Document{vmDoc(1, booted)}, change: takeAll(vmDoc(2, diskBooted(desired.Absent, 1, "web"))), check: goneSeeded(1)},
		"seed_down":    {before: []desired.Document{vmDoc(1, booted)}, change: takeAll(vmDoc(2, diskBooted(desired.Shutdown, 1, "web"))), check: goneSeeded(1)},
		"seed_reboot":  {before: []desired.Document{vmDoc(1, booted)}, change: func(_ fatal, e *engine) { e.h.Guest(string(vm1), "reboot") }, check: runsSeeded(1, "web")},
		"seed_renamed": {before: []desired.Document{vmDoc(1, booted)}, change: takeAll(vmDoc(2, rebooted)), check: runsSeeded(1, "renamed")},
		"seed_regrant": {before: []desired.Document{vmDoc(1, booted)}, change: takeAll(vmDoc(2, diskBooted(desired.Running, 2, "web"))), check: runsSeeded(2, "web")},
		"limit_start":  {change: takeAll(vmDoc(1, limited)), check: runsLimited(slow)},
		"limit_change": {before: []desired.Document{vmDoc(1, limited)}, change: takeAll(vmDoc(2, wider)), check: runsLimited(wider.Disks[0].Limits)},
		"limit_reboot": {before: []desired.Document{vmDoc(1, limited)}, change: func(_ fatal, e *engine) { e.h.Guest(string(vm1), "reboot") }, check: runsLimited(slow)},
		"limit_stop":   {before: []desired.Document{vmDoc(1, limited)}, change: takeAll(vmDoc(2, wish(vm1, desired.Absent, 1))), check: gone(vm1, 1)},
		"disk_start":   {change: takeAll(vmDoc(1, stored)), check: runsWithDisks(vm1, 1, "xvda", string(vol1), "xvdb", string(vol2))},
		"disk_stop":    {before: []desired.Document{vmDoc(1, stored)}, change: takeAll(vmDoc(2, wish(vm1, desired.Absent, 1))), check: gone(vm1, 1)},
		"disk_reboot":  {before: []desired.Document{vmDoc(1, stored)}, change: func(_ fatal, e *engine) { e.h.Guest(string(vm1), "reboot") }, check: runsWithDisks(vm1, 1, "xvda", string(vol1), "xvdb", string(vol2))},
		"start":        {change: takeAll(start), check: runs(vm1, 1)},
		"starttwo":     {change: takeAll(start, vmDoc(2, wish(vm2, desired.Running, 1))), check: func(t fatal, e *engine) { runs(vm1, 1)(t, e); runs(vm2, 1)(t, e) }},
		"paused":       {change: takeAll(vmDoc(1, wish(vm1, desired.Paused, 1))), check: func(t fatal, e *engine) { e.wantDomain(t, vm1, events.DomainPaused, 1) }},
		"stop":         {before: []desired.Document{start}, change: takeAll(vmDoc(2, wish(vm1, desired.Absent, 1))), check: gone(vm1, 1)},
		"shutdown":     {before: []desired.Document{start}, change: takeAll(vmDoc(2, wish(vm1, desired.Shutdown, 1))), check: gone(vm1, 1)},
		"weight":       {before: []desired.Document{start}, change: takeAll(vmDoc(2, weight)), check: runs(vm1, 1)},
		"reboot": {before: []desired.Document{start}, change: takeAll(vmDoc(2, restart)), check: func(t fatal, e *engine) {
			if d := e.wantDomain(t, vm1, events.DomainRunning, 1); d.Restarts != 1 {
				t.Fatalf("restarts %d", d.Restarts)
			}
		}},
		"resize":           {before: []desired.Document{start}, change: takeAll(vmDoc(2, smaller)), check: sized(96)},
		"resize_beyond":    {before: []desired.Document{start, vmDoc(2, smaller)}, change: takeAll(vmDoc(3, larger)), check: sized(96)},
		"resize_at_reboot": {before: []desired.Document{start, vmDoc(2, smaller), vmDoc(3, larger)}, change: func(_ fatal, e *engine) { e.h.Guest(string(vm1), "reboot") }, check: sized(512)},
		"hvm_start": {change: takeAll(vmDoc(1, machine)), check: func(t fatal, e *engine) {
			if d := e.wantDomain(t, vm1, events.DomainRunning, 1); d.MemoryMiB != 128 {
				t.Fatalf("it has %d MiB", d.MemoryMiB)
			}
		}},
		"hvm_stop": {before: []desired.Document{vmDoc(1, machine)}, change: takeAll(vmDoc(2, wish(vm1, desired.Absent, 1))), check: func(t fatal, e *engine) {
			gone(vm1, 1)(t, e)
			if left, err := e.h.DeviceModels(context.Background()); err != nil || len(left) != 0 {
				t.Fatalf("device models are left: %v, %v", left, err)
			}
		}},
		"guestreboot": {before: []desired.Document{start}, change: func(_ fatal, e *engine) { e.h.Guest(string(vm1), "reboot") }, check: runs(vm1, 1)},
		"guestpoweroff_then_absent": {before: []desired.Document{start}, change: func(t fatal, e *engine) {
			e.h.Guest(string(vm1), "poweroff")
			e.take(t, vmDoc(2, wish(vm1, desired.Absent, 1)))
		}, check: gone(vm1, 1)},
		"crash_stays": {before: []desired.Document{start}, change: func(_ fatal, e *engine) { e.h.Guest(string(vm1), "crash") }, check: func(t fatal, e *engine) {
			e.wantDomain(t, vm1, events.DomainCrashed, 1)
		}},
		"start_after_stop": {before: []desired.Document{start, vmDoc(2, wish(vm2, desired.Absent, 1))}, change: takeAll(vmDoc(3, wish(vm2, desired.Running, 2))), check: runs(vm2, 2)},
		"stale_then_start": {before: []desired.Document{start}, change: takeAll(vmDoc(2, wish(vm1, desired.Running, 2))), check: func(t fatal, e *engine) {
			runs(vm1, 2)(t, e)
			e.wantEnded(t, vm1, 1, events.EndedDestroyed)
		}},
		"stale_then_absent": {before: []desired.Document{start}, change: takeAll(vmDoc(2, wish(vm1, desired.Absent, 2))), check: func(t fatal, e *engine) {
			gone(vm1, 2)(t, e)
			e.wantEnded(t, vm1, 1, events.EndedDestroyed)
		}},
		"delete_never_started": {change: takeAll(vmDoc(1, wish(vm1, desired.Absent, 1))), check: gone(vm1, 1)},
	}
}

func prepare(t *testing.T, s scenario) *engine {
	t.Helper()
	e := newTestEngine(t, s.before...)
	s.change(t, e)
	return e
}

// TestKillBetweenAnyTwoSteps kills the agent before, in and after each call that changes something, and then the next agent again at
// each of its calls. The kill is a model's: from that call on nothing of the agent reaches the host. TestKillProcess in noded does
// the same with SIGKILL on a sample.
func TestKillBetweenAnyTwoSteps(t *testing.T) {
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			e := prepare(t, s)
			e.h.KillAt(workertest.Kill{})
			e.mustSettle(t)
			s.check(t, e)
			_, calls := e.h.Calls()
			free := freeOf(t, e)
			for at := 1; at <= calls; at++ {
				for where := workertest.Before; where <= workertest.After; where++ {
					killOnce(t, s, workertest.Kill{At: at, Where: where}, free)
				}
			}
		})
	}
}

func freeOf(t fatal, e *engine) int {
	t.Helper()
	info, err := e.h.Info(context.Background())
	if err != nil {
		t.Fatalf("info: %v", err)
	}
	return info.FreeMiB
}

// killOnce kills once at k, and the next agent once at each of its own calls.
func killOnce(t *testing.T, s scenario, k workertest.Kill, free int) {
	t.Helper()
	for second := 0; second < 30; second++ {
		e := prepare(t, s)
		e.h.KillAt(k)
		mustDie(t, e, k)
		e.restart()
		e.h.KillAt(workertest.Kill{At: second, Where: workertest.Where(second % 3)})
		err := e.settle(context.Background())
		again := errors.Is(err, workertest.ErrKilled)
		if err != nil && !again {
			t.Fatalf("killed at %+v, then at %d: %v\n%s", k, second, err, e.h)
		}
		if again {
			e.restart()
			e.mustSettle(t)
		}
		checkAfter(t, s, e, fmt.Sprintf("killed at %+v, then at %d", k, second), free)
		if second > 0 && !again {
			return
		}
	}
}

func mustDie(t *testing.T, e *engine, k workertest.Kill) {
	t.Helper()
	if err := e.settle(context.Background()); err != nil && !errors.Is(err, workertest.ErrKilled) {
		t.Fatalf("killed at %+v: %v\n%s", k, err, e.h)
	}
}

func checkAfter(t *testing.T, s scenario, e *engine, what string, free int) {
	t.Helper()
	s.check(labelled{t, what}, e)
	if twice := e.h.Twice(); len(twice) > 0 {
		t.Fatalf("%s: %v", what, twice)
	}
	if got := freeOf(t, e); got != free {
		t.Fatalf("%s: %d MiB are free, want %d\n%s", what, got, free, e.h)
	}
}

// labelled says in each failure where the agent was killed.
type labelled struct {
	*testing.T
	what string
}

func (l labelled) Fatalf(format string, args ...any) {
	l.Helper()
	l.T.Fatalf(l.what+": "+format, args...)
}

// TestStopAtEveryStep applies only the first n steps of each plan, as if the agent had stopped there in good order, and then goes on.
func TestStopAtEveryStep(t *testing.T) {
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			for n := 0; n < 12; n++ {
				e := prepare(t, s)
				seen, err := e.w.Observe(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range e.w.Plan(e.wishes.All(), seen) {
					for _, st := range p.Steps[:min(n, len(p.Steps))] {
						if err := e.w.Apply(t.Context(), st); err != nil {
							t.Fatalf("%s: %v", st, err)
						}
					}
				}
				e.restart()
				e.mustSettle(t)
				s.check(labelled{t, fmt.Sprintf("stopped after %d steps", n)}, e)
				if done, err := e.pass(t.Context()); err != nil || !done {
					t.Fatalf("after it has settled there is something to do: %v", err)
				}
			}
		})
	}
}

// TestFailingCalls lets each call fail once, and later all calls of a kind.
func TestFailingCalls(t *testing.T) {
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			e := prepare(t, s)
			e.h.KillAt(workertest.Kill{})
			e.mustSettle(t)
			_, calls := e.h.Calls()
			for at := 1; at <= calls; at++ {
				e := prepare(t, s)
				n := 0
				e.h.Fail = func(call string) error {
					if call == "list" {
						return nil
					}
					if n++; n == at {
						return errors.New("injected")
					}
					return nil
				}
				for range 3 {
					if err := e.settle(t.Context()); err == nil {
						break
					}
				}
				e.mustSettle(t)
				s.check(labelled{t, fmt.Sprintf("call %d failed", at)}, e)
			}
		})
	}
}

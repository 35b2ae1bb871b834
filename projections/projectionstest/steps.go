package projectionstest

import (
	"fmt"
	"time"

	"cloudengine/events"
)

// Step lets one thing happen. It may add no decision, one, or several.
func (w *World) Step() {
	if len(w.vms) == 0 || w.choose(8) == 0 {
		w.CreateVM()
		return
	}
	v := w.vms[w.choose(len(w.vms))]
	switch w.choose(16) {
	case 0, 1, 2:
		w.start(v)
	case 3, 4, 5, 6:
		w.observe(v)
	case 7, 8:
		w.stop(v)
	case 9:
		w.ended(v)
	case 10:
		w.pause(v)
	case 11:
		w.reboot(v)
	case 12:
		w.trouble(v)
	case 13:
		w.machine(w.machines[w.choose(len(w.machines))])
	case 14:
		w.refused(v)
	case 15:
		w.delete(v)
	}
}

// Steps lets n things happen.
func (w *World) Steps(n int) *World {
	for range n {
		w.Step()
	}
	return w
}

// CreateVM makes a VM.
func (w *World) CreateVM() {
	v := &vm{id: w.id(), name: fmt.Sprintf("vm%d", int(w.taken)+len(w.all)), account: w.account[w.choose(len(w.account))], want: events.WantStopped}
	w.vms = append(w.vms, v)
	w.created("user0", events.KindVM, v.id, events.VMCreated{Name: v.name, Account: events.AccountID(v.account), Type: events.TypePV, VCPUs: 2, MemoryMiB: 128,
		Weight: 1, Template: events.TemplateID(w.template), TemplateName: "tiny", Kernel: events.Blob{SHA256: "aa", Size: 10}})
}

func (w *World) operation(v *vm, verb string, e ...events.Event) {
	id := w.id()
	w.open = append(w.open, id)
	e = append(e, w.event(events.KindOperation, id, events.OperationStarted{Object: events.Ref{Kind: events.KindVM, ID: v.id}, Verb: verb, Deadline: w.now.Add(time.Minute)}))
	w.add(id, "user0", events.KindVM, verb, map[string]string{"vm": v.id}, events.Outcome{Status: events.Accepted}, e)
}

func (w *World) wanted(v *vm, want, stop string) events.Event {
	v.want = want
	if want == events.WantStopped && v.grant != nil {
		v.ending = stop
	}
	return w.event(events.KindVM, v.id, events.VMRunWanted{Want: want, Stop: stop})
}

func (w *World) start(v *vm) {
	switch {
	case v.grant == nil:
		if m := w.live(nil); m != nil {
			w.operation(v, "start", w.wanted(v, events.WantRunning, ""), w.grantOn(v, m, ""))
		}
	case v.unknown:
		if m := w.live(v.grant.host); m != nil {
			w.operation(v, "start", w.end(v, events.ProofOverride, ""), w.wanted(v, events.WantRunning, ""), w.grantOn(v, m, ""))
		}
	case v.ending != "" && v.want == events.WantStopped:
		w.operation(v, "start", w.wanted(v, events.WantRunning, ""))
	}
}

func (w *World) observe(v *vm) {
	if v.grant == nil || v.unknown {
		return
	}
	states := []string{events.DomainPaused, events.DomainRunning, events.DomainRunning, events.DomainShutdown, events.DomainCrashed, events.DomainDying}
	d := events.VMDomainObserved{Host: events.MachineID(v.grant.host.id), Epoch: v.grant.epoch, DomID: 1 + w.choose(99), State: states[w.choose(len(states))],
		MemoryMiB: 128, VCPUs: 2, Weight: 1, Restarts: v.restarts}
	if d.State == events.DomainShutdown {
		d.ShutdownReason = []string{"poweroff", "reboot", "crash"}[w.choose(3)]
	}
	e := []events.Event{w.event(events.KindVM, v.id, d)}
	if len(w.open) > 0 && d.State == events.DomainRunning {
		e = append(e, w.event(events.KindOperation, w.open[0], events.OperationDone{Message: "runs"}))
		w.open = w.open[1:]
	}
	w.decide("machine:"+v.grant.host.id, events.KindMachine, "report", nil, e...)
}

func (w *World) stop(v *vm) {
	if v.grant == nil || v.ending == events.StopDestroy {
		return
	}
	how := events.StopDestroy
	if v.ending == "" && w.choose(2) == 0 {
		how = events.StopShutdown
	}
	w.operation(v, "stop", w.wanted(v, events.WantStopped, how))
}

func (w *World) ended(v *vm) {
	if v.grant == nil || v.unknown || v.ending == "" {
		return
	}
	m := v.grant.host
	w.decide("machine:"+m.id, events.KindMachine, "report", nil, w.end(v, events.ProofCleanEnd, events.EndedDestroyed))
	if v.want != events.WantStopped {
		w.decide("system:reaction", events.KindVM, "place", map[string]string{"vm": v.id}, w.grantOn(v, m, ""))
	}
}

func (w *World) pause(v *vm) {
	if v.grant == nil || v.ending != "" || v.unknown {
		return
	}
	if v.want == events.WantPaused {
		w.operation(v, "resume", w.wanted(v, events.WantRunning, ""))
	} else {
		w.operation(v, "pause", w.wanted(v, events.WantPaused, ""))
	}
}

func (w *World) reboot(v *vm) {
	if v.grant == nil || v.ending != "" || v.unknown {
		return
	}
	v.restarts++
	if v.restarts%3 == 2 {
		w.resize(v)
		return
	}
	w.operation(v, "reboot", w.event(events.KindVM, v.id, events.VMRestartWanted{Restarts: v.restarts}))
}

// resize asks for more or less, and has the host report what it was given, so that each third resize gives memory back.
func (w *World) resize(v *vm) {
	g := v.grant
	g.resizes++
	to := events.VMGrantResized{Host: events.MachineID(g.host.id), Epoch: g.epoch, MemoryMiB: 64 + g.resizes%3*32, VCPUs: 1 + g.resizes%2, Resizes: g.resizes}
	to.Counted = max(g.counted, to.MemoryMiB)
	g.counted = to.Counted
	w.operation(v, "resize", w.event(events.KindVM, v.id, events.VMResized{MemoryMiB: to.MemoryMiB, VCPUs: to.VCPUs, Weight: 1}), w.event(events.KindVM, v.id, to))
	if g.resizes%3 == 0 && g.counted > to.MemoryMiB {
		to.Counted, g.counted = to.MemoryMiB, to.MemoryMiB
		w.decide("machine:"+g.host.id, events.KindMachine, "report", nil, w.event(events.KindVM, v.id, to))
	}
}

func (w *World) trouble(v *vm) {
	switch {
	case v.grant != nil && !v.unknown && w.choose(2) == 0:
		w.decide("machine:"+v.grant.host.id, events.KindMachine, "report", nil, w.event(events.KindVM, v.id,
			events.VMStepFailed{Host: events.MachineID(v.grant.host.id), Epoch: v.grant.epoch, Step: "create", Message: "no memory", Retryable: true}))
	case len(v.ghosts) > 0 && !v.ghosts[0].host.silent && v.ghosts[0].host.boot == v.ghosts[0].boot:
		g := v.ghosts[0]
		w.decide("machine:"+g.host.id, events.KindMachine, "report", nil,
			w.event(events.KindVM, v.id, events.VMStaleDomainFound{Host: events.MachineID(g.host.id), Boot: g.boot, Epoch: g.epoch, State: events.DomainRunning}))
		w.decide("machine:"+g.host.id, events.KindMachine, "report", nil, w.endGhosts(v, g.host)...)
	case len(w.open) > 0:
		w.decide("system:deadline", events.KindOperation, "expire", nil, w.event(events.KindOperation, w.open[0], events.OperationTimedOut{}))
		w.open = w.open[1:]
	}
}

// machine lets something happen to a machine.
func (w *World) machine(m *machine) {
	id := events.MachineID(m.id)
	switch k := w.choose(7); {
	case k == 0:
		w.boot(m)
	case m.silent && k < 5:
		m.silent = false
		w.decide("system:liveness", events.KindMachine, "report_returned", nil, w.both(m, events.MachineReturned{Boot: m.boot}, events.VMBecameKnown{Host: id}, false)...)
	case m.silent:
		w.poweredOff(m)
	case k < 3:
		m.silent = true
		w.decide("system:liveness", events.KindMachine, "report_silent", nil, w.both(m, events.MachineSilent{Boot: m.boot}, events.VMBecameUnknown{Host: id}, true)...)
	case k < 5:
		w.orphan(m)
	case k == 5:
		w.decide("admin", events.KindHost, "cordon", map[string]string{"host": m.id}, w.event(events.KindHost, m.id, events.HostCordoned{}))
		w.decide("admin", events.KindHost, "uncordon", map[string]string{"host": m.id}, w.event(events.KindHost, m.id, events.HostUncordoned{}))
	default:
		w.decide("system:power", events.KindMachine, "report_bmc", nil, w.event(events.KindMachine, m.id, events.MachineBMCChecked{Healthy: true}))
	}
}

func (w *World) both(m *machine, first, each events.Payload, unknown bool) []events.Event {
	e := []events.Event{w.event(events.KindMachine, m.id, first)}
	for _, v := range w.vms {
		if v.grant != nil && v.grant.host == m {
			v.unknown = unknown
			e = append(e, w.event(events.KindVM, v.id, each))
		}
	}
	return e
}

// poweredOff proves that a silent machine is off; then it boots anew.
func (w *World) poweredOff(m *machine) {
	e := []events.Event{w.event(events.KindMachine, m.id, events.MachinePowerObserved{State: events.PowerIsOff, Reads: 2, Boot: m.boot, Proof: true})}
	for _, v := range w.vms {
		if v.grant != nil && v.grant.host == m {
			e = append(e, w.end(v, events.ProofPowerOff, ""))
		}
		e = append(e, w.endGhosts(v, m)...)
	}
	w.decide("system:power", events.KindMachine, "report_power", nil, e...)
	w.boot(m)
}

func (w *World) orphan(m *machine) {
	if m.orphan == "" {
		m.orphan = w.id()
		w.decide("machine:"+m.id, events.KindMachine, "report", nil, w.event(events.KindHost, m.id,
			events.HostOrphanFound{Boot: m.boot, Domain: events.DomainReport{UUID: m.orphan, DomID: 7, Name: "odd", State: events.DomainRunning, MemoryMiB: 128, VCPUs: 2}}))
		return
	}
	gone := w.event(events.KindHost, m.id, events.HostOrphanGone{Boot: m.boot, UUID: m.orphan})
	for _, v := range w.vms {
		if v.grant == nil && len(v.ghosts) == 0 && w.choose(3) == 0 {
			w.decide("admin", events.KindHost, "adopt_orphan", map[string]string{"host": m.id}, gone, w.wanted(v, events.WantRunning, ""), w.grantOn(v, m, m.orphan))
			m.orphan = ""
			return
		}
	}
	w.versions[gone.Aggregate]--
	w.decide("admin", events.KindHost, "stop_orphan", map[string]string{"host": m.id}, w.event(events.KindHost, m.id, events.HostOrphanStopWanted{Boot: m.boot, UUID: m.orphan}))
	w.decide("machine:"+m.id, events.KindMachine, "report", nil, w.event(events.KindHost, m.id, events.HostOrphanGone{Boot: m.boot, UUID: m.orphan}))
	m.orphan = ""
}

func (w *World) refused(v *vm) {
	o := events.Outcome{Status: events.Refused, Code: events.CodeNoCapacity, Message: "no host has room"}
	if w.choose(2) == 0 {
		o = events.Outcome{Status: events.Nothing}
	}
	w.add(w.id(), "user1", events.KindVM, "start", map[string]string{"vm": v.id}, o, nil)
}

func (w *World) delete(v *vm) {
	if v.grant != nil || len(v.ghosts) > 0 {
		return
	}
	w.decide("user0", events.KindVM, "delete", map[string]string{"vm": v.id}, w.event(events.KindVM, v.id, events.VMDeleted{}))
	for i := range w.vms {
		if w.vms[i] == v {
			w.vms = append(w.vms[:i:i], w.vms[i+1:]...)
			return
		}
	}
}

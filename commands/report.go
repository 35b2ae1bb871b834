package commands

import (
	"fmt"
	"slices"

	"cloudengine/events"
)

// StateReport is what a machine sees. It may lie only about itself, and what cannot be is refused as a whole.
type StateReport events.Report

const maxDomains = 2048 // in one report; Xen itself allows 32,752 on a host

func (a StateReport) check() *Rejection {
	if len(a.Domains) > maxDomains || len(a.Ended) > maxDomains || len(a.Steps) > maxDomains {
		return invalid("a report holds at most %d domains", maxDomains)
	}
	if len(a.Boot) != 36 {
		return invalid("field \"boot\": want a boot id (a UUID)")
	}
	for _, x := range a.Domains {
		if r := checkDomain(x); r != nil {
			return r
		}
	}
	for _, x := range a.Ended {
		if len(x.How) > 32 {
			return invalid("field \"ended.how\": too long")
		}
		if r := first(checkID("ended.vm", string(x.VM)), checkTail(x.Console)); r != nil {
			return r
		}
	}
	return first(checkID("machine", string(a.Machine)), checkCapacity(a.Capacity))
}

func checkDomain(x events.DomainReport) *Rejection {
	switch {
	case x.DomID < 0 || x.MemoryMiB < 0 || x.MemoryMiB > maxMemoryMiB || x.VCPUs < 0 || x.VCPUs > 1<<14:
		return invalid("field \"domains\": amounts out of range")
	case len(x.Name) > 128 || len(x.Boot) > 36 || len(x.ShutdownReason) > 32:
		return invalid("field \"domains\": text too long")
	case x.Stamped && len(x.VM) != 36:
		return invalid("field \"domains.vm\": want the stamp's VM id")
	}
	switch x.State {
	case events.DomainRunning, events.DomainPaused, events.DomainShutdown, events.DomainCrashed, events.DomainDying:
	default:
		return invalid("field \"domains.state\": %q is not known", clip(x.State))
	}
	return checkID("domains.uuid", x.UUID)
}

func decideReport(d *decision, a StateReport) error {
	if d.c.Actor != MachineActor(a.Machine) {
		return reject(events.CodeUnauthorized, "a machine speaks for itself only")
	}
	m, ok := d.s.machines[a.Machine]
	switch {
	case !ok:
		return reject(events.CodeNotFound, "there is no machine %s", a.Machine)
	case m.Boot != a.Boot:
		return reject(events.CodeStale, "the report is of another boot than the one that is enrolled")
	case a.Counter < m.counter:
		return reject(events.CodeStale, "a later report of this boot was taken already")
	case m.BootOver:
		return m.contradict(events.CodeContradicts, "machine "+m.Name+" reports from a boot whose power was proven off")
	}
	h, ok := d.s.hosts[m.ID]
	if !ok {
		return nil
	}
	r := &reported{d: d, m: m, h: h, a: a, present: map[events.VMID]events.DomainReport{}}
	if err := r.refuseLies(); err != nil {
		return err
	}
	if m.Silent {
		d.returned(m)
	}
	if a.Capacity != nil && !sameCapacity(*a.Capacity, h.Capacity) {
		d.add(events.KindHost, string(h.ID), events.HostRegistered{Name: m.Name, Boot: a.Boot, Capacity: *a.Capacity})
	}
	r.domains()
	r.ended()
	r.steps()
	if a.Complete {
		r.complete()
	}
	return nil
}

func sameCapacity(a, b events.Capacity) bool {
	return a.AllocatableMiB == b.AllocatableMiB && a.PCPUs == b.PCPUs && a.XenVersion == b.XenVersion && fmt.Sprint(a.Types) == fmt.Sprint(b.Types)
}

// reported is one report on its way into events.
type reported struct {
	d       *decision
	m       *Machine
	h       *Host
	a       StateReport
	present map[events.VMID]events.DomainReport // domains of live grants
}

// holds says whether a grant is this boot's, under this epoch.
func (r *reported) holds(g *Grant, e events.Epoch) bool {
	return g != nil && g.Host == r.m.ID && g.Boot == r.a.Boot && g.Epoch == e
}

func (r *reported) ghost(vm *VM, e events.Epoch) *Grant {
	for i := range vm.ghosts {
		if r.holds(&vm.ghosts[i], e) {
			return &vm.ghosts[i]
		}
	}
	return nil
}

// refuseLies refuses a report that speaks of VMs that this boot was never granted, or that says of one domain that it is there and gone.
func (r *reported) refuseLies() error {
	for _, x := range r.a.Domains {
		vm, ok := r.d.s.vms[x.VM]
		if !x.Stamped || !ok {
			continue
		}
		if r.holds(vm.Grant, x.Epoch) {
			r.present[vm.ID] = x
		} else if r.ghost(vm, x.Epoch) == nil && !r.d.s.lost(vm, x) {
			return r.m.contradict(events.CodeContradicts, fmt.Sprintf("machine %s reports a domain of VM %s under epoch %s, which it does not hold", r.m.Name, vm.ID, x.Epoch))
		}
	}
	for _, x := range r.a.Ended {
		vm, ok := r.d.s.vms[x.VM]
		if !ok {
			continue
		}
		if there, ok := r.present[vm.ID]; ok && there.Epoch == x.Epoch {
			return r.m.contradict(events.CodeContradicts, fmt.Sprintf("machine %s reports the domain of VM %s as there and as ended", r.m.Name, vm.ID))
		}
		if g := vm.Grant; g != nil && g.Epoch == x.Epoch && !r.holds(g, x.Epoch) {
			return r.m.contradict(events.CodeContradicts, fmt.Sprintf("machine %s reports the end of VM %s, which another machine or boot holds", r.m.Name, vm.ID))
		}
	}
	return nil
}

func (r *reported) domains() {
	for _, x := range r.a.Domains {
		vm, ok := r.d.s.vms[x.VM]
		switch {
		case !x.Stamped || !ok:
			r.orphan(x)
		case r.holds(vm.Grant, x.Epoch):
			r.observe(vm, x)
		case r.lost(x):
			r.orphan(x)
		default:
			if g := r.ghost(vm, x.Epoch); g != nil && g.Ending != ghostSeen {
				r.d.add(events.KindVM, string(vm.ID), events.VMStaleDomainFound{Host: r.m.ID, Boot: r.a.Boot, Epoch: x.Epoch, State: x.State})
			}
		}
	}
}

// orphan records a domain that is not ours, unless it is one of ours on its way to its stamp; and again when it looks different: it may
// have been seen half made at first, with a part of its memory.
func (r *reported) orphan(x events.DomainReport) {
	have, known := r.h.orphans[x.UUID]
	if known && sameDomain(have.domain, x) || x.State == events.DomainDying || !known && len(r.h.orphans) >= 64 {
		return
	}
	if r.lost(x) {
		r.d.add(events.KindHost, string(r.h.ID), events.HostOrphanFound{Boot: r.a.Boot, Domain: x})
		return
	}
	for v := range r.h.grants {
		_, there := r.present[v] // with its stamp: then this is one more, made by someone else
		if string(v) == x.UUID || r.d.s.vms[v].Grant.Adopt == x.UUID && !there {
			return
		}
	}
	for _, y := range r.a.Domains {
		if y.UUID == x.UUID && y.DomID < x.DomID && y.State != events.DomainDying {
			return // of two with one UUID, the first
		}
	}
	r.d.add(events.KindHost, string(r.h.ID), events.HostOrphanFound{Boot: r.a.Boot, Domain: x})
}

// lost says whether a domain runs under a grant of a part of the log that is lost.
func (r *reported) lost(x events.DomainReport) bool {
	vm, ok := r.d.s.vms[x.VM]
	return ok && x.Stamped && !r.holds(vm.Grant, x.Epoch) && r.ghost(vm, x.Epoch) == nil && r.d.s.lost(vm, x)
}

// sameDomain leaves the weight out: it is not always known.
func sameDomain(a, b events.DomainReport) bool {
	a.Weight = b.Weight
	return a == b
}

func (r *reported) observe(vm *VM, x events.DomainReport) {
	seen := events.VMDomainObserved{
		Host: r.m.ID, Epoch: x.Epoch, DomID: x.DomID, State: x.State, ShutdownReason: x.ShutdownReason,
		MemoryMiB: x.MemoryMiB, VCPUs: x.VCPUs, Weight: x.Weight, Restarts: x.Restarts,
	}
	if seen != vm.seen {
		r.d.add(events.KindVM, string(vm.ID), seen)
	}
	r.resized(vm, x)
	if vm.Grant.Ending != "" || vm.Want == events.WantStopped || x.Restarts < vm.restarts {
		return
	}
	d, done := r.d, events.OperationDone{Message: "domain " + fmt.Sprint(x.DomID) + " is " + x.State}
	switch {
	case x.State == events.DomainShutdown && x.ShutdownReason == "poweroff":
		d.add(events.KindVM, string(vm.ID), events.VMRunWanted{Want: events.WantStopped, Stop: events.StopShutdown, By: "guest"})
		d.finish(vm.ref(), events.OperationFailed{Message: "the guest shut itself down"}, "start", "reboot", "pause", "resume")
	case x.State == events.DomainCrashed:
		d.finish(vm.ref(), events.OperationFailed{Message: "the guest crashed: read its console, then reboot the VM"}, "start", "reboot", "pause", "resume")
	case x.State == events.DomainRunning && vm.Want == events.WantRunning:
		d.finish(vm.ref(), done, "start", "resume", "reboot")
	case x.State == events.DomainPaused && vm.Want == events.WantPaused:
		d.finish(vm.ref(), done, "pause")
	}
}

// ended takes the end of a domain as proof, if the boot that held the grant says so and was told to end it.
func (r *reported) ended() {
	for _, x := range r.a.Ended {
		vm, ok := r.d.s.vms[x.VM]
		switch {
		case !ok:
		case r.holds(vm.Grant, x.Epoch):
			if vm.Grant.Ending != "" {
				r.d.endGrantWith(vm, events.ProofCleanEnd, x.How, x.Console)
				r.endGhostsBelow(vm, x.Epoch)
			}
		case r.ghost(vm, x.Epoch) != nil:
			r.d.add(events.KindVM, string(vm.ID), events.VMStaleDomainEnded{Host: r.m.ID, Boot: r.a.Boot, Epoch: x.Epoch})
		}
	}
}

// endGhostsBelow: a machine reports the end of a grant when it has no domain of the VM up to that epoch, and will make none.
func (r *reported) endGhostsBelow(vm *VM, e events.Epoch) {
	told := map[events.Epoch]bool{} // by this report itself: as ended, or as still there
	for _, x := range r.a.Ended {
		told[x.Epoch] = told[x.Epoch] || x.VM == vm.ID
	}
	for _, x := range r.a.Domains {
		told[x.Epoch] = told[x.Epoch] || x.Stamped && x.VM == vm.ID
	}
	for _, g := range vm.ghosts {
		if g.Host == r.m.ID && g.Boot == r.a.Boot && g.Epoch.Compare(e) < 0 && !told[g.Epoch] {
			r.d.add(events.KindVM, string(vm.ID), events.VMStaleDomainEnded{Host: r.m.ID, Boot: r.a.Boot, Epoch: g.Epoch})
		}
	}
}

func (r *reported) steps() {
	for _, x := range r.a.Steps {
		vm, ok := r.d.s.vms[events.VMID(x.Object.ID)]
		if !ok || vm.Grant == nil || vm.Grant.Host != r.m.ID || vm.Grant.Boot != r.a.Boot {
			continue
		}
		msg := x.Message
		if len(msg) > maxText {
			msg = msg[:maxText]
		}
		if msg != vm.failure {
			r.d.add(events.KindVM, string(vm.ID), events.VMStepFailed{Host: r.m.ID, Epoch: vm.Grant.Epoch, Step: clip(x.Step), Message: msg, Retryable: x.Retryable})
		}
		if !x.Retryable {
			r.d.finish(vm.ref(), events.OperationFailed{Message: x.Step + ": " + msg}, "start", "reboot", "pause", "resume")
		}
	}
}

// complete takes what only a complete list can say: what is not there. It never ends a grant.
func (r *reported) complete() {
	listed := map[string]bool{}
	for _, x := range r.a.Domains {
		if _, known := r.d.s.vms[x.VM]; !x.Stamped || !known || r.lost(x) { // another domain, of a VM of ours, may have the same UUID
			listed[x.UUID] = true
		}
	}
	for _, uuid := range sortedKeys(r.h.orphans) {
		if !listed[uuid] {
			r.d.add(events.KindHost, string(r.h.ID), events.HostOrphanGone{Boot: r.a.Boot, UUID: uuid})
		}
	}
	for _, vm := range r.d.s.grantedOn(r.m.ID) {
		_, there := r.present[vm.ID]
		if !there && r.holds(vm.Grant, vm.Grant.Epoch) && vm.seen.State != "" && vm.seen.State != events.DomainAbsent && !r.endedNow(vm) {
			r.d.add(events.KindVM, string(vm.ID), events.VMDomainObserved{Host: r.m.ID, Epoch: vm.Grant.Epoch, State: events.DomainAbsent})
		}
	}
	if !r.d.s.ready(r.h) && r.h.Boot == r.a.Boot && (r.a.Term >= r.d.s.term || r.d.s.term == 1) { // what documents of a lower term asked for is over
		r.d.add(events.KindHost, string(r.h.ID), events.HostReady{Boot: r.a.Boot, Term: r.d.s.term})
	}
}

func (r *reported) endedNow(vm *VM) bool {
	for _, x := range r.a.Ended {
		if x.VM == vm.ID && x.Epoch == vm.Grant.Epoch {
			return true
		}
	}
	return false
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

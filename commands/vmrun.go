package commands

import (
	"time"

	"cloudengine/events"
)

// StartVM asks for a VM to run; on a host of one's choice, if named.
type StartVM struct {
	VM   events.VMID      `json:"vm"`
	Host events.MachineID `json:"host,omitempty"`
}

func (a StartVM) check() *Rejection {
	if a.Host != "" {
		return first(checkID("vm", string(a.VM)), checkID("host", string(a.Host)))
	}
	return checkID("vm", string(a.VM))
}

func decideStartVM(d *decision, a StartVM) error {
	vm, err := d.vm(a.VM)
	if err != nil {
		return err
	}
	switch g := vm.Grant; {
	case g == nil:
		return d.startAnew(vm, a.Host)
	case vm.Unknown:
		return d.startWithoutProof(vm, a.Host)
	case g.Ending != "": // it goes down first; the wish stays and is granted again after the end
		if vm.Want != events.WantStopped {
			return nil
		}
		d.add(events.KindVM, string(vm.ID), events.VMRunWanted{Want: events.WantRunning})
		d.startOperation(vm.ref(), startTimeout)
		return nil
	case a.Host != "" && a.Host != g.Host:
		return reject(events.CodeConflict, "VM %q runs on %s: stop it first, this version cannot move a running VM", vm.Data.Name, d.whereabouts(vm))
	case vm.Want == events.WantPaused:
		return reject(events.CodeConflict, "VM %q is paused: resume it", vm.Data.Name)
	}
	return nil
}

// startAnew grants a VM that has no grant, or refuses with the reason of each host.
func (d *decision) startAnew(vm *VM, only events.MachineID) error {
	if err := d.mayStart(vm); err != nil {
		return err
	}
	h, table := d.s.place(vm.need(only))
	if h == nil {
		return noCapacity(table)
	}
	d.add(events.KindVM, string(vm.ID), events.VMRunWanted{Want: events.WantRunning})
	d.grant(vm, h, table, "")
	d.startOperation(vm.ref(), startTimeout)
	return nil
}

// startWithoutProof refuses: silence proves nothing. An override ends the grant by a human's word; the old domain, should it still be
// there when its host returns, is paused and destroyed at once.
func (d *decision) startWithoutProof(vm *VM, only events.MachineID) error {
	if !d.c.overrides(GuardEndProof) {
		return guarded(GuardEndProof, "VM %q is Unknown: %s is silent, and nothing proves that the VM ended there. Prove it (machine power off, or let the host boot again), or say so yourself with --override=%s --reason \"…\"",
			vm.Data.Name, d.whereabouts(vm), GuardEndProof)
	}
	if err := d.mayStart(vm); err != nil {
		return err
	}
	h, table := d.s.place(vm.need(only))
	if h == nil {
		return noCapacity(table)
	}
	d.endGrant(vm, events.ProofOverride, "")
	d.add(events.KindVM, string(vm.ID), events.VMRunWanted{Want: events.WantRunning})
	d.grant(vm, h, table, "")
	d.startOperation(vm.ref(), startTimeout)
	return nil
}

func (vm *VM) need(only events.MachineID) need {
	return need{
		disks:      vm.disks,
		nics:       vm.nics,
		domainType: vm.Data.Type, vcpus: vm.Data.VCPUs, only: only, model: vm.deviceModel(),
		memoryMiB: vm.Data.MemoryMiB + vm.overhead(),
	}
}

// grant lets a host's present boot run the VM under the next epoch. The caller has made sure that no grant is live.
func (d *decision) grant(vm *VM, h *Host, table []events.Score, adopt string) {
	rest := 0
	if len(table) > wantedScores {
		rest = len(table) - wantedScores
		table = table[:wantedScores]
	}
	d.add(events.KindVM, string(vm.ID), events.VMRunGranted{
		Host: h.ID, HostName: h.Name, Boot: h.Boot, Epoch: events.Epoch{Term: d.s.term, Counter: vm.counter + 1},
		MemoryMiB: vm.Data.MemoryMiB, OverheadMiB: vm.overhead(), DeviceModel: vm.deviceModel(),
		VCPUs: vm.Data.VCPUs, MaxVCPUs: vm.Data.MaxVCPUs, Adopt: adopt, Scores: table, Rest: rest,
	})
}

// endGrant ends the live grant by a proof, and the operations that waited for its end.
func (d *decision) endGrant(vm *VM, proof, how string) { d.endGrantWith(vm, proof, how, events.Blob{}) }

func (d *decision) endGrantWith(vm *VM, proof, how string, console events.Blob) {
	g := vm.Grant
	d.add(events.KindVM, string(vm.ID), events.VMGrantEnded{Host: g.Host, Boot: g.Boot, Epoch: g.Epoch, Proof: proof, How: how, Console: console})
	d.finish(vm.ref(), events.OperationDone{Message: "ended: " + proof}, "stop", "shutdown")
	d.finish(vm.ref(), events.OperationFailed{Message: "its grant ended: " + proof}, "reboot", "pause", "resume", "resize")
}

// PlaceVM is a reaction: what is wanted running and has no grant is granted again, now that there is proof or room.
func decidePlaceVM(d *decision, a VMRef) error {
	vm, ok := d.s.vms[a.VM]
	if !ok || vm.Grant != nil || vm.Want == events.WantStopped {
		return nil
	}
	if err := d.mayStart(vm); err != nil {
		return err
	}
	h, table := d.s.place(vm.need(""))
	if h == nil {
		return noCapacity(table)
	}
	d.grant(vm, h, table, "")
	return nil
}

// ShutdownVM asks the guest to shut down; after the time-out its domain is destroyed.
type ShutdownVM struct {
	VM      events.VMID `json:"vm"`
	Timeout int         `json:"timeout_s,omitempty"`
}

func (a ShutdownVM) check() *Rejection {
	if a.Timeout < 0 || a.Timeout > 3600 {
		return invalid("field \"timeout_s\": want 1 to 3600 seconds, or 0 for %d", int(shutdownDefault.Seconds()))
	}
	return checkID("vm", string(a.VM))
}

func decideShutdownVM(d *decision, a ShutdownVM) error {
	limit := time.Duration(a.Timeout) * time.Second
	if limit == 0 {
		limit = shutdownDefault
	}
	return d.stop(a.VM, events.VMRunWanted{Want: events.WantStopped, Stop: events.StopShutdown, Deadline: d.deadlineIn(limit)}, limit+stopTimeout)
}

func decideStopVM(d *decision, a VMRef) error {
	return d.stop(a.VM, events.VMRunWanted{Want: events.WantStopped, Stop: events.StopDestroy}, stopTimeout)
}

// stop ends the wish, and tells the grant to end. A grant that is being shut down may still be destroyed; not the other way round.
func (d *decision) stop(id events.VMID, want events.VMRunWanted, limit time.Duration) error {
	vm, err := d.vm(id)
	if err != nil {
		return err
	}
	g := vm.Grant
	if vm.Want == events.WantStopped && (g == nil || g.Ending == want.Stop || g.Ending == events.StopDestroy) {
		return nil
	}
	if g != nil && g.Ending == events.StopDestroy {
		want.Stop, want.Deadline = events.StopDestroy, time.Time{}
	}
	d.add(events.KindVM, string(vm.ID), want)
	d.finish(vm.ref(), events.OperationFailed{Message: "the VM was told to stop"}, "start", "reboot", "pause", "resume")
	if g != nil {
		d.startOperation(vm.ref(), limit)
	}
	return nil
}

// ExpireShutdown is a deadline: the guest was asked and did not shut down.
type ExpireShutdown struct {
	VM    events.VMID  `json:"vm"`
	Epoch events.Epoch `json:"epoch"`
}

func (a ExpireShutdown) check() *Rejection { return nil }

func decideExpireShutdown(d *decision, a ExpireShutdown) error {
	vm, ok := d.s.vms[a.VM]
	if !ok || vm.Grant == nil || vm.Grant.Epoch != a.Epoch || vm.Grant.Ending != events.StopShutdown {
		return nil
	}
	want := vm.Want
	d.add(events.KindVM, string(vm.ID), events.VMRunWanted{Want: events.WantStopped, Stop: events.StopDestroy})
	if want != events.WantStopped { // the wish for the next grant stays
		d.add(events.KindVM, string(vm.ID), events.VMRunWanted{Want: want})
	}
	return nil
}

// running finds a VM with a live grant that is not ending and whose host is heard of.
func (d *decision) running(id events.VMID) (*VM, error) {
	vm, err := d.vm(id)
	switch {
	case err != nil:
		return nil, err
	case vm.Grant == nil || vm.Grant.Ending != "" || vm.Want == events.WantStopped:
		return nil, reject(events.CodeConflict, "VM %q does not run", vm.Data.Name)
	case vm.Unknown:
		return nil, reject(events.CodeConflict, "VM %q is Unknown: %s is silent", vm.Data.Name, d.whereabouts(vm))
	}
	return vm, d.certain(vm) // what its host is told of it waits too
}

func decideRebootVM(d *decision, a VMRef) error {
	vm, err := d.running(a.VM)
	if err != nil {
		return err
	}
	d.add(events.KindVM, string(vm.ID), events.VMRestartWanted{Restarts: max(vm.restarts, vm.seen.Restarts) + 1})
	d.startOperation(vm.ref(), startTimeout)
	return nil
}

func decidePauseVM(d *decision, a VMRef) error { return d.want(a.VM, events.WantPaused, "resume") }

func decideResumeVM(d *decision, a VMRef) error { return d.want(a.VM, events.WantRunning, "pause") }

func (d *decision) want(id events.VMID, want, opposite string) error {
	vm, err := d.running(id)
	if err != nil || vm.Want == want {
		return err
	}
	d.add(events.KindVM, string(vm.ID), events.VMRunWanted{Want: want})
	d.finish(vm.ref(), events.OperationFailed{Message: "a later wish took its place"}, opposite)
	d.startOperation(vm.ref(), startTimeout)
	return nil
}

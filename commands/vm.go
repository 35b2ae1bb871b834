package commands

import (
	"container/heap"

	"cloudengine/events"
)

// VM is a virtual machine: what it is, what is wanted, and who may run it.
type VM struct {
	ID      events.VMID
	Data    events.VMCreated
	Want    string // events.WantRunning …: stored apart from the grant
	Grant   *Grant // the live one, if any
	Unknown bool   // its host is silent

	counter  uint64 // of the last epoch
	base     uint64 // the counter when the present term began: higher ones of lower terms are of a lost part of the log
	restarts int
	ghosts   []Grant // ended by a human's word only, until their domains are proven gone
	seen     events.VMDomainObserved
	disks    map[string]*Volume // by slot
	nics     map[string]*NIC    // by slot
	failure  string             // message of the last failed step
	ops      []events.IntentID
}

// Grant lets one boot of one host run a VM.
type Grant struct {
	Host      events.MachineID
	Boot      string
	Epoch     events.Epoch
	MemoryMiB int // with overhead
	VCPUs     int
	Adopt     string // UUID of the orphan that it started from, if any
	Ending    string // events.StopShutdown or StopDestroy once it was told to stop: it never runs again

	size grantSize
}

func (vm *VM) ref() events.Ref { return events.Ref{Kind: events.KindVM, ID: string(vm.ID)} }

// Limits of what may be asked for.
const (
	defaultVCPUs = 16  // the platform's own default
	maxVCPUs     = 128 // Xen's limit for PVH; PV takes more
)

// CreateVM makes a VM. It is stopped.
type CreateVM struct {
	Account   events.AccountID  `json:"account"`
	Name      string            `json:"name"`
	Type      string            `json:"type"`
	VCPUs     int               `json:"vcpus,omitempty"`
	MemoryMiB int               `json:"memory_mib"`
	Template  events.TemplateID `json:"template"`
	Cmdline   string            `json:"cmdline,omitempty"`
	MaxVCPUs  int               `json:"max_vcpus,omitempty"` // up to which vCPUs can be added while it runs; 0: as many as it has
	Keys      []string          `json:"keys,omitempty"`      // SSH public keys that the guest is told, each a line of authorized_keys(5)
	Pool      events.PoolID     `json:"pool,omitempty"`      // where its disk is made from the template; empty: no disk is made
	DiskMiB   int               `json:"disk_mib,omitempty"`  // size of that disk; 0: as large as the template's image
	Network   events.NetworkID  `json:"network,omitempty"`   // that its first NIC is on; empty: it gets none
}

func (a CreateVM) check() *Rejection {
	switch {
	case a.Type != events.TypePV && a.Type != events.TypePVH && a.Type != events.TypeHVM:
		return invalid("field \"type\": want pv, pvh or hvm")
	case a.VCPUs < 0 || a.VCPUs > maxVCPUs:
		return invalid("field \"vcpus\": want 1 to %d, or 0 for the default of %d", maxVCPUs, defaultVCPUs)
	case a.MemoryMiB < 1 || a.MemoryMiB > maxMemoryMiB:
		return invalid("field \"memory_mib\": want 1 to %d", maxMemoryMiB)
	case a.MaxVCPUs < 0 || a.MaxVCPUs > maxVCPUs:
		return invalid("field \"max_vcpus\": want the number of vCPUs to %d, or 0 for that number", maxVCPUs)
	}
	return first(checkName("name", a.Name), checkID("account", string(a.Account)), checkID("template", string(a.Template)), checkCmdline(a.Cmdline),
		checkKeys(a.Keys), a.checkDisk(), a.checkNIC())
}

func decideCreateVM(d *decision, a CreateVM) error {
	acc, err := d.account(a.Account)
	if err != nil {
		return err
	}
	t, err := d.templateFor(a.Template, acc)
	if err != nil {
		return err
	}
	if err := a.suits(t); err != nil {
		return err
	}
	if a.MemoryMiB < t.Data.MinMemory {
		return reject(events.CodeInvalid, "template %q needs at least %d MiB of RAM", t.Data.Name, t.Data.MinMemory)
	}
	if err := d.freeName(events.KindVM, acc.ID, a.Name); err != nil {
		return err
	}
	if largest, known := d.s.largestHost(); known && a.MemoryMiB > largest {
		return reject(events.CodeNoCapacity, "%d MiB is more than any host has (%d MiB)", a.MemoryMiB, largest)
	}
	if a.VCPUs == 0 {
		a.VCPUs = defaultVCPUs
	}
	if a.MaxVCPUs != 0 && a.MaxVCPUs < a.VCPUs {
		return reject(events.CodeInvalid, "field \"max_vcpus\": it is less than the %d vCPUs", a.VCPUs)
	}
	cmdline := t.Data.Cmdline
	if a.Cmdline != "" {
		cmdline = a.Cmdline
	}
	made := events.VMCreated{
		Name: a.Name, Account: acc.ID, Type: a.Type, VCPUs: a.VCPUs, MemoryMiB: a.MemoryMiB, Weight: Weight(a.MemoryMiB),
		Template: t.ID, TemplateName: t.Data.Name, Kernel: t.Data.Kernel, Ramdisk: t.Data.Ramdisk, Cmdline: cmdline, MaxVCPUs: a.MaxVCPUs,
		Keys: a.Keys,
	}
	if t.Data.Type == events.TemplateDisk {
		made.Boot = events.BootDisk
	}
	d.add(events.KindVM, d.newID(), made)
	if err := d.firstNIC(acc, a); err != nil || a.Pool == "" {
		return err
	}
	return d.newDiskOf(acc, a, t)
}

// Weight is the credit scheduler's weight of a domain: its RAM in GiB, rounded up, at least 1.
func Weight(memoryMiB int) int { return max(1, (memoryMiB+1023)/1024) }

func (s *State) largestHost() (mib int, known bool) {
	for _, h := range s.hosts {
		mib, known = max(mib, h.Capacity.AllocatableMiB), true
	}
	return mib, known
}

// VMRef names a VM.
type VMRef struct {
	VM events.VMID `json:"vm"`
}

func (a VMRef) check() *Rejection { return checkID("vm", string(a.VM)) }

// vm finds a VM that the actor may see, under the name that the client saw.
func (d *decision) vm(id events.VMID) (*VM, error) {
	vm, ok := d.s.vms[id]
	if !ok || !d.owns(vm.Data.Account) {
		return nil, reject(events.CodeNotFound, "there is no VM %s", id)
	}
	return vm, d.expect(events.KindVM, vm.Data.Name)
}

func decideDeleteVM(d *decision, a VMRef) error {
	vm, err := d.vm(a.VM)
	if err != nil {
		return err
	}
	if err := d.stopped(vm); err != nil {
		return err
	}
	if len(vm.disks) > 0 {
		return reject(events.CodeConflict, "VM %q has disks: detach them first (volume detach)", vm.Data.Name)
	}
	for _, op := range vm.ops {
		d.endOperation(op, events.OperationFailed{Message: "the VM was deleted"})
	}
	d.deleteNICs(vm)
	d.add(events.KindVM, string(vm.ID), events.VMDeleted{})
	return nil
}

func (d *decision) whereabouts(vm *VM) string {
	id := events.MachineID("")
	if vm.Grant != nil {
		id = vm.Grant.Host
	} else if len(vm.ghosts) > 0 {
		id = vm.ghosts[0].Host
	}
	if h, ok := d.s.hosts[id]; ok {
		return "host " + h.Name
	}
	return "a host that is not known any more"
}

// VM finds a VM by its id.
func (s *State) VM(id events.VMID) (VM, bool) {
	vm, ok := s.vms[id]
	if !ok {
		return VM{}, false
	}
	return *vm, true
}

func (s *State) foldVM(e events.Event, r events.Recorded) {
	id := events.VMID(e.Aggregate.ID)
	if data, ok := e.Data.(events.VMCreated); ok {
		s.vms[id] = &VM{ID: id, Data: data, Want: events.WantStopped}
		s.names[scope(events.KindVM, data.Account, data.Name)] = e.Aggregate.ID
		s.own(data.Account, 1)
		return
	}
	vm, ok := s.vms[id]
	if !ok {
		return
	}
	switch data := e.Data.(type) {
	case events.VMDeleted:
		s.forgetVM(vm)
	case events.VMRunWanted:
		s.foldWant(vm, data)
	case events.VMRunGranted:
		s.foldGrant(vm, data)
	case events.VMGrantEnded:
		s.foldGrantEnd(vm, data)
	case events.VMDomainObserved:
		vm.foldSize(data)
		vm.seen = data
	case events.VMResized:
		vm.Data.MemoryMiB, vm.Data.VCPUs, vm.Data.Weight, vm.Data.MaxVCPUs = data.MemoryMiB, data.VCPUs, data.Weight, data.MaxVCPUs
	case events.VMGrantResized:
		s.foldGrantResized(vm, data)
	case events.VMStepFailed:
		vm.failure = data.Message
	case events.VMRestartWanted:
		vm.restarts = data.Restarts
	case events.VMBecameUnknown:
		vm.Unknown = true
	case events.VMBecameKnown:
		vm.Unknown = false
	case events.VMStaleDomainFound:
		for i := range vm.ghosts {
			if vm.ghosts[i].Epoch == data.Epoch {
				vm.ghosts[i].Ending = ghostSeen
			}
		}
	case events.VMStaleDomainEnded:
		s.dropGhost(vm, data.Host, data.Epoch)
	}
}

// ghostSeen marks a ghost whose domain was reported.
const ghostSeen = "seen"

func (s *State) foldWant(vm *VM, data events.VMRunWanted) {
	vm.Want = data.Want
	delete(s.waiting, vm.ID)
	switch {
	case vm.Grant == nil && data.Want != events.WantStopped:
		s.waiting[vm.ID] = true
	case vm.Grant != nil && data.Want == events.WantStopped:
		vm.Grant.Ending = data.Stop
		if data.Stop == events.StopShutdown && !data.Deadline.IsZero() {
			heap.Push(&s.due, deadline{at: data.Deadline, vm: vm.ID, epoch: vm.Grant.Epoch})
		}
	}
}

func (s *State) foldGrant(vm *VM, data events.VMRunGranted) {
	vm.counter = max(vm.counter, data.Epoch.Counter)
	vm.Grant = &Grant{Host: data.Host, Boot: data.Boot, Epoch: data.Epoch, MemoryMiB: data.MemoryMiB + data.OverheadMiB, VCPUs: data.VCPUs, Adopt: data.Adopt, size: sizeOf(data)}
	vm.Unknown, vm.failure, vm.restarts = false, "", 0
	vm.seen = events.VMDomainObserved{}
	delete(s.waiting, vm.ID)
	if h, ok := s.hosts[data.Host]; ok {
		h.grants[vm.ID] = true
		h.usedMiB += vm.Grant.MemoryMiB
		h.modelsMiB += vm.Grant.size.model
	}
}

func (s *State) foldGrantEnd(vm *VM, data events.VMGrantEnded) {
	g := vm.Grant
	if g == nil {
		return
	}
	vm.Grant, vm.Unknown = nil, false
	vm.seen = events.VMDomainObserved{}
	if vm.Want != events.WantStopped {
		s.waiting[vm.ID] = true
	}
	h, ok := s.hosts[g.Host]
	if !ok {
		return
	}
	delete(h.grants, vm.ID)
	if data.Proof == events.ProofOverride { // its memory stays taken: the domain may be there
		g.Ending = ""
		vm.ghosts = append(vm.ghosts, *g)
		h.ghosts[vm.ID] = true
		return
	}
	h.usedMiB -= g.MemoryMiB
	h.modelsMiB -= g.size.model
}

func (s *State) dropGhost(vm *VM, host events.MachineID, epoch events.Epoch) {
	rest, more := vm.ghosts[:0:0], false
	for _, g := range vm.ghosts {
		if g.Host == host && g.Epoch == epoch {
			if h, ok := s.hosts[host]; ok {
				h.usedMiB -= g.MemoryMiB
				h.modelsMiB -= g.size.model
			}
			continue
		}
		rest = append(rest, g)
		more = more || g.Host == host
	}
	vm.ghosts = rest
	if h, ok := s.hosts[host]; ok && !more {
		delete(h.ghosts, vm.ID)
	}
}

func (s *State) forgetVM(vm *VM) {
	delete(s.names, scope(events.KindVM, vm.Data.Account, vm.Data.Name))
	delete(s.waiting, vm.ID)
	delete(s.vms, vm.ID)
	s.own(vm.Data.Account, -1)
}

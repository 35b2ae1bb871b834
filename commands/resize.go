package commands

import (
	"encoding/hex"

	"cloudengine/events"
)

// grantSize is how large the domain of a grant is, may be, and shall be.
type grantSize struct {
	memoryMiB int // that the domain shall have
	maxMiB    int // that it can have until it is made again
	vcpus     int // as memoryMiB
	maxVCPUs  int // as maxMiB
	overhead  int // what the grant is counted with besides RAM
	model     int // MiB of the control domain's memory
	resizes   int
	domID     int // of the domain that was seen last; 0: none was
}

func sizeOf(g events.VMRunGranted) grantSize {
	return grantSize{
		memoryMiB: g.MemoryMiB, maxMiB: g.MemoryMiB, vcpus: g.VCPUs, maxVCPUs: max(g.VCPUs, g.MaxVCPUs), overhead: g.OverheadMiB, model: g.DeviceModel,
		resizes: g.Resizes,
	}
}

func (vm *VM) overhead() int {
	return Overhead(vm.Data.Type, vm.Data.MemoryMiB, max(vm.Data.VCPUs, vm.Data.MaxVCPUs))
}

func (vm *VM) deviceModel() int {
	return DeviceModel(vm.Data.Type, vm.Data.Kernel.Size, vm.Data.Ramdisk.Size)
}

// ResizeVM changes a VM's RAM and vCPUs. It takes effect at the next start; at once, if the VM runs, within what its domain was made
// with. What is 0 stays.
type ResizeVM struct {
	VM        events.VMID `json:"vm"`
	MemoryMiB int         `json:"memory_mib,omitempty"`
	VCPUs     int         `json:"vcpus,omitempty"`
	MaxVCPUs  int         `json:"max_vcpus,omitempty"` // from the next start on
}

func (a ResizeVM) check() *Rejection {
	switch {
	case a.MemoryMiB < 0 || a.MemoryMiB > maxMemoryMiB:
		return invalid("field \"memory_mib\": want 1 to %d, or 0 to leave it", maxMemoryMiB)
	case a.VCPUs < 0 || a.VCPUs > maxVCPUs:
		return invalid("field \"vcpus\": want 1 to %d, or 0 to leave them", maxVCPUs)
	case a.MaxVCPUs < 0 || a.MaxVCPUs > maxVCPUs:
		return invalid("field \"max_vcpus\": want 1 to %d, or 0 to leave it", maxVCPUs)
	}
	return checkID("vm", string(a.VM))
}

func decideResizeVM(d *decision, a ResizeVM) error {
	vm, err := d.vm(a.VM)
	if err != nil {
		return err
	}
	next := events.VMResized{MemoryMiB: vm.Data.MemoryMiB, VCPUs: vm.Data.VCPUs, Weight: vm.Data.Weight, MaxVCPUs: vm.Data.MaxVCPUs}
	now := next
	if a.MemoryMiB != 0 {
		next.MemoryMiB, next.Weight = a.MemoryMiB, Weight(a.MemoryMiB)
	}
	if a.VCPUs != 0 {
		next.VCPUs = a.VCPUs
	}
	if a.MaxVCPUs != 0 {
		next.MaxVCPUs = a.MaxVCPUs
	}
	if a.MaxVCPUs != 0 && next.MaxVCPUs < next.VCPUs {
		return reject(events.CodeInvalid, "field \"max_vcpus\": it is less than the %d vCPUs", next.VCPUs)
	}
	if next.MaxVCPUs < next.VCPUs {
		next.MaxVCPUs = 0
	}
	if t, ok := d.s.templates[vm.Data.Template]; ok && next.MemoryMiB < t.Data.MinMemory {
		return reject(events.CodeInvalid, "template %q needs at least %d MiB of RAM", t.Data.Name, t.Data.MinMemory)
	}
	if largest, known := d.s.largestHost(); known && next.MemoryMiB > largest {
		return reject(events.CodeNoCapacity, "%d MiB is more than any host has (%d MiB)", next.MemoryMiB, largest)
	}
	if next != now {
		d.add(events.KindVM, string(vm.ID), next)
	}
	d.resizeLive(vm, next)
	return nil
}

// resizeLive lets the domain of a live grant have as much of the next size as it can have without being made again. Growth is counted here
// and now, or is not given; what a domain shall give up stays counted until its host has reported that it did.
func (d *decision) resizeLive(vm *VM, next events.VMResized) {
	g := vm.Grant
	if g == nil || g.Ending != "" || vm.Unknown || vm.Want == events.WantStopped {
		return
	}
	counted := g.MemoryMiB - g.size.overhead
	to := events.VMGrantResized{
		Host: g.Host, Epoch: g.Epoch, MemoryMiB: g.size.memoryMiB, VCPUs: g.size.vcpus, Resizes: g.size.resizes + 1, Counted: counted,
	}
	h, known := d.s.hosts[g.Host]
	if next.MemoryMiB <= g.size.maxMiB && known && next.MemoryMiB-counted <= h.FreeMiB() {
		to.MemoryMiB, to.Counted = next.MemoryMiB, max(counted, next.MemoryMiB)
	}
	if next.VCPUs <= g.size.maxVCPUs {
		to.VCPUs = next.VCPUs
	}
	if to.MemoryMiB == g.size.memoryMiB && to.VCPUs == g.size.vcpus {
		return
	}
	d.add(events.KindVM, string(vm.ID), to)
	d.finish(vm.ref(), events.OperationFailed{Message: "a later size took its place"}, "resize")
	d.startOperation(vm.ref(), startTimeout)
}

// resized takes a report of a domain's size: what the grant gave up is free from here on, and the resize is done once all is as wanted.
// A report of before the last resize says nothing: the domain may have grown since.
func (r *reported) resized(vm *VM, x events.DomainReport) {
	g := vm.Grant
	if x.Resizes != g.size.resizes || g.size.resizes == 0 || x.State == events.DomainDying {
		return
	}
	if g.MemoryMiB-g.size.overhead > g.size.memoryMiB && x.MemoryMiB <= g.size.memoryMiB {
		r.d.add(events.KindVM, string(vm.ID), events.VMGrantResized{
			Host: g.Host, Epoch: g.Epoch, MemoryMiB: g.size.memoryMiB, VCPUs: g.size.vcpus, Resizes: g.size.resizes, Counted: g.size.memoryMiB,
		})
	}
	if x.MemoryMiB == g.size.memoryMiB && x.VCPUs == g.size.vcpus {
		r.d.finish(vm.ref(), events.OperationDone{Message: "the domain has its new size"}, "resize")
	}
}

func (s *State) foldGrantResized(vm *VM, data events.VMGrantResized) {
	g := vm.Grant
	if g == nil || g.Epoch != data.Epoch {
		return
	}
	mib := data.Counted + g.size.overhead
	if h, ok := s.hosts[g.Host]; ok {
		h.usedMiB += mib - g.MemoryMiB
	}
	g.MemoryMiB, g.VCPUs = mib, data.VCPUs
	g.size.memoryMiB, g.size.vcpus, g.size.resizes = data.MemoryMiB, data.VCPUs, data.Resizes
}

// foldSize: a domain that was made again was made with what the grant had then, and can have no more.
func (vm *VM) foldSize(seen events.VMDomainObserved) {
	g := vm.Grant
	if g == nil || g.Epoch != seen.Epoch || seen.DomID == 0 {
		return
	}
	if g.size.domID != 0 && g.size.domID != seen.DomID {
		g.size.maxMiB = g.size.memoryMiB
	}
	g.size.domID = seen.DomID
}

// checkTail checks what names the end of a console.
func checkTail(b events.Blob) *Rejection {
	if b == (events.Blob{}) {
		return nil
	}
	if raw, err := hex.DecodeString(b.SHA256); err != nil || len(raw) != 32 || b.Size < 1 || b.Size > events.MaxConsoleTail {
		return invalid("field \"ended.console\": want a SHA-256 and a size up to %d", events.MaxConsoleTail)
	}
	return nil
}

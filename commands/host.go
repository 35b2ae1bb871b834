package commands

import (
	"sort"

	"cloudengine/events"
)

// Host is a machine that runs domains.
type Host struct {
	ID       events.MachineID
	Name     string
	Boot     string
	Capacity events.Capacity
	Ready    bool // this boot has reported completely in the term readyIn
	Cordoned bool

	readyIn uint64

	grants    map[events.VMID]bool // live ones, also those that are ending or unknown
	ghosts    map[events.VMID]bool // ended by a human's word only: the domain may still be there
	usedMiB   int                  // of grants and ghosts, with overhead
	modelsMiB int                  // of the control domain's memory, for the device models of grants and ghosts
	orphans   map[string]orphan    // by domain UUID
}

type orphan struct {
	domain   events.DomainReport
	stopping bool
}

// takes is the room that it is counted with. Its type is not known.
func (o orphan) takes() int {
	return o.domain.MemoryMiB + Overhead(events.TypePV, o.domain.MemoryMiB, o.domain.VCPUs)
}

// FreeMiB is what placement may still give.
func (h *Host) FreeMiB() int {
	free := h.Capacity.AllocatableMiB - h.usedMiB
	for _, o := range h.orphans {
		free -= o.takes()
	}
	return free
}

// ready says whether the host's boot has reported completely in the log's present term. After a restore nobody knows what runs where.
func (s *State) ready(h *Host) bool { return h.Ready && h.readyIn == s.term }

// HostRef names a host by its machine.
type HostRef struct {
	Host events.MachineID `json:"host"`
}

func (a HostRef) check() *Rejection { return checkID("host", string(a.Host)) }

func (d *decision) host(id events.MachineID) (*Host, *Machine, error) {
	h, ok := d.s.hosts[id]
	m, known := d.s.machines[id]
	if !ok || !known {
		return nil, nil, reject(events.CodeNotFound, "there is no host %s: a machine becomes one when it enrols with the role host", id)
	}
	return h, m, d.expect(events.KindHost, h.Name)
}

func decideCordon(d *decision, a HostRef) error {
	h, _, err := d.host(a.Host)
	if err != nil || h.Cordoned {
		return err
	}
	d.add(events.KindHost, string(h.ID), events.HostCordoned{})
	return nil
}

func decideUncordon(d *decision, a HostRef) error {
	h, _, err := d.host(a.Host)
	if err != nil || !h.Cordoned {
		return err
	}
	d.add(events.KindHost, string(h.ID), events.HostUncordoned{})
	return nil
}

// StopOrphan asks for the end of a domain that is not ours.
type StopOrphan struct {
	Host events.MachineID `json:"host"`
	UUID string           `json:"uuid"`
}

func (a StopOrphan) check() *Rejection {
	return first(checkID("host", string(a.Host)), checkID("uuid", a.UUID))
}

func (d *decision) orphan(host events.MachineID, uuid string) (*Host, orphan, error) {
	h, _, err := d.host(host)
	if err != nil {
		return nil, orphan{}, err
	}
	o, ok := h.orphans[uuid]
	if !ok {
		return nil, orphan{}, reject(events.CodeNotFound, "host %q has no orphan %s", h.Name, uuid)
	}
	return h, o, nil
}

func decideStopOrphan(d *decision, a StopOrphan) error {
	h, o, err := d.orphan(a.Host, a.UUID)
	if err != nil || o.stopping {
		return err
	}
	if vm, ok := d.s.vms[o.domain.VM]; ok && d.s.lost(vm, o.domain) {
		return reject(events.CodeConflict, "the domain is VM %q's, by a grant that the log has lost: take it back (host orphan adopt), then stop the VM", vm.Data.Name)
	}
	d.add(events.KindHost, string(h.ID), events.HostOrphanStopWanted{Boot: h.Boot, UUID: a.UUID})
	return nil
}

// AdoptOrphan makes a domain that is not ours the domain of a VM that has none.
type AdoptOrphan struct {
	Host events.MachineID `json:"host"`
	UUID string           `json:"uuid"`
	VM   events.VMID      `json:"vm"`
}

func (a AdoptOrphan) check() *Rejection {
	return first(checkID("host", string(a.Host)), checkID("uuid", a.UUID), checkID("vm", string(a.VM)))
}

func decideAdoptOrphan(d *decision, a AdoptOrphan) error {
	h, o, err := d.orphan(a.Host, a.UUID)
	if err != nil {
		return err
	}
	m := d.s.machines[h.ID]
	vm, ok := d.s.vms[a.VM]
	if !ok {
		return reject(events.CodeNotFound, "there is no VM %s", a.VM)
	}
	owner, known := d.s.vms[o.domain.VM]
	lost := known && d.s.lost(owner, o.domain)
	switch {
	case lost && owner != vm:
		return reject(events.CodeConflict, "the domain is VM %q's, by a grant that the log has lost: it can only be that VM's again", owner.Data.Name)
	case !lost && (vm.Grant != nil || len(vm.ghosts) > 0):
		return reject(events.CodeConflict, "VM %q may have a domain already: it cannot adopt one", vm.Data.Name)
	case o.stopping:
		return reject(events.CodeConflict, "the orphan is being stopped")
	case !d.s.ready(h) || m.Boot != h.Boot || m.BootOver || m.Silent:
		return reject(events.CodeConflict, "host %q is silent, or has not reported completely: wait", h.Name)
	case lost:
		return d.takeBack(vm, h, o)
	case vm.Data.Type == events.TypeHVM:
		return reject(events.CodeConflict, "VM %q is of the type hvm: only a domain whose type is known to be that could be its own", vm.Data.Name)
	case o.domain.MemoryMiB != vm.Data.MemoryMiB || o.domain.VCPUs != vm.Data.VCPUs:
		return reject(events.CodeConflict, "the orphan has %d MiB and %d vCPUs, VM %q has %d MiB and %d: they must be equal",
			o.domain.MemoryMiB, o.domain.VCPUs, vm.Data.Name, vm.Data.MemoryMiB, vm.Data.VCPUs)
	}
	if need, free := vm.need("").memoryMiB, h.FreeMiB()+o.takes(); need > free {
		return reject(events.CodeNoCapacity, "as a %s domain it needs %d MiB on host %q, and %d MiB are free", vm.Data.Type, need, h.Name, max(0, free))
	}
	d.add(events.KindHost, string(h.ID), events.HostOrphanGone{Boot: h.Boot, UUID: a.UUID})
	d.add(events.KindVM, string(vm.ID), events.VMRunWanted{Want: events.WantRunning})
	d.grant(vm, h, nil, a.UUID)
	return nil
}

func (s *State) foldHost(e events.Event) {
	id := events.MachineID(e.Aggregate.ID)
	h := s.hosts[id]
	if data, ok := e.Data.(events.HostRegistered); ok {
		if h == nil {
			h = &Host{ID: id, grants: map[events.VMID]bool{}, ghosts: map[events.VMID]bool{}}
			s.hosts[id] = h
		}
		if h.Boot != data.Boot {
			h.Ready = false
			h.orphans = map[string]orphan{}
		}
		h.Name, h.Boot, h.Capacity = data.Name, data.Boot, data.Capacity
		return
	}
	if h == nil {
		return
	}
	switch data := e.Data.(type) {
	case events.HostReady:
		h.Ready, h.readyIn = data.Boot == h.Boot, data.Term
	case events.HostCordoned:
		h.Cordoned = true
	case events.HostUncordoned:
		h.Cordoned = false
	case events.HostOrphanFound:
		h.orphans[data.Domain.UUID] = orphan{domain: data.Domain, stopping: h.orphans[data.Domain.UUID].stopping}
	case events.HostOrphanGone:
		delete(h.orphans, data.UUID)
	case events.HostOrphanStopWanted:
		if o, ok := h.orphans[data.UUID]; ok {
			o.stopping = true
			h.orphans[data.UUID] = o
		}
	}
}

// grantedOn lists the VMs with a live grant on a host, by id.
func (s *State) grantedOn(id events.MachineID) []*VM {
	h, ok := s.hosts[id]
	if !ok {
		return nil
	}
	out := make([]*VM, 0, len(h.grants))
	for v := range h.grants {
		out = append(out, s.vms[v])
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

type ghostOf struct {
	vm    *VM
	ghost Grant
}

// ghostsOn lists the domains that may still be on a host although a human's word ended their grant.
func (s *State) ghostsOn(id events.MachineID) []ghostOf {
	h, ok := s.hosts[id]
	if !ok {
		return nil
	}
	var out []ghostOf
	for v := range h.ghosts {
		for _, g := range s.vms[v].ghosts {
			if g.Host == id {
				out = append(out, ghostOf{s.vms[v], g})
			}
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].vm.ID != out[j].vm.ID {
			return out[i].vm.ID < out[j].vm.ID
		}
		return out[i].ghost.Epoch.Compare(out[j].ghost.Epoch) < 0
	})
	return out
}

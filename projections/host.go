package projections

import (
	"encoding/json"
	"time"

	"cloudengine/events"
)

// Host is a row of hosts: what a machine with the role host can give, and what it has given.
type Host struct {
	ID             string          `json:"id"`
	Name           string          `json:"name"`
	Boot           string          `json:"boot"`
	Ready          bool            `json:"ready"`
	Silent         bool            `json:"silent"`
	Cordoned       bool            `json:"cordoned"`
	AllocatableMiB int64           `json:"allocatable_mib"`
	UsedMiB        int64           `json:"used_mib"`
	FreeMiB        int64           `json:"free_mib"`
	VMs            int             `json:"vms"`
	Orphans        int             `json:"orphans"`
	OrphanMiB      int64           `json:"orphan_mib"`
	ModelsMiB      int64           `json:"device_models_mib"`
	ModelsUsedMiB  int64           `json:"device_models_used_mib"`
	PCPUs          int             `json:"pcpus"`
	XenVersion     *string         `json:"xen_version"`
	Types          json.RawMessage `json:"types"`
	ChangedBy      uint64          `json:"changed_by"`
	ChangedAt      time.Time       `json:"changed_at"`
}

var hostTable = newTable[Host]("hosts")

var hosts = &Model{
	Kind: events.KindHost, Table: hostTable, Scope: ScopeNone, Named: "name", event: hostEvent,
	Reads: []string{"host.registered.v1", "host.ready.v1", "host.cordoned.v1", "host.uncordoned.v1", "machine.enrolled.v1", "machine.silent.v1",
		"machine.returned.v1", "machine.removed.v1", "vm.run_granted.v1", "vm.grant_ended.v1", "vm.grant_resized.v1",
		"vm.stale_domain_ended.v1", "host.orphan_found.v1", "host.orphan_gone.v1", "machine.power_observed.v1", "log.opened.v1"},
}

func hostEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.HostRegistered:
		return hostRegistered(f, id, d)
	case events.HostReady:
		return change(f, hostTable, id, func(h *Host) { h.Ready = h.Boot == d.Boot })
	case events.HostCordoned:
		return change(f, hostTable, id, func(h *Host) { h.Cordoned = true })
	case events.HostUncordoned:
		return change(f, hostTable, id, func(h *Host) { h.Cordoned = false })
	case events.MachineEnrolled:
		return changeIf(f, hostTable, id, func(h *Host) {
			if h.Silent = false; h.Boot != d.Boot {
				h.newBoot(d.Boot)
			}
		})
	case events.MachinePowerObserved:
		if d.Proof {
			return changeIf(f, hostTable, id, func(h *Host) { h.newBoot("") })
		}
	case events.MachineSilent:
		return changeIf(f, hostTable, id, func(h *Host) { h.Silent = true })
	case events.MachineReturned:
		return changeIf(f, hostTable, id, func(h *Host) { h.Silent = false })
	case events.MachineRemoved:
		f.delete(hostTable, id)
	case events.HostOrphanFound:
		return hostOrphanFound(f, id, d)
	case events.HostOrphanGone:
		return hostOrphanGone(f, id, d.UUID)
	case events.VMRunGranted:
		return change(f, hostTable, string(d.Host), func(h *Host) {
			h.give(d.MemoryMiB+d.OverheadMiB, 1)
			h.ModelsUsedMiB += int64(d.DeviceModel)
		})
	case events.VMGrantResized:
		return hostGrantResized(f, id, d)
	case events.VMGrantEnded:
		return hostGrantEnded(f, id, d)
	case events.VMStaleDomainEnded:
		return hostStaleEnded(f, id, d)
	case events.LogOpened:
		return hostsNotReady(f)
	}
	return nil
}

func hostRegistered(f *fold, id string, d events.HostRegistered) error {
	h, err := lookup[Host](f, hostTable, id)
	if err != nil {
		return err
	}
	if h == nil {
		h = &Host{ID: id}
	}
	if h.Boot != d.Boot {
		h.newBoot(d.Boot)
	}
	h.Name, h.PCPUs, h.XenVersion, h.Types = d.Name, d.Capacity.PCPUs, known(d.Capacity.XenVersion), asJSON(d.Capacity.Types)
	h.AllocatableMiB, h.ModelsMiB = int64(d.Capacity.AllocatableMiB), int64(d.Capacity.DeviceModels)
	h.give(0, 0)
	f.put(hostTable, id, h)
	return nil
}

// newBoot forgets what belonged to the boot before: a diskless machine keeps nothing. An empty boot: none, its power is proven off.
func (h *Host) newBoot(boot string) {
	h.Boot, h.Ready, h.Silent, h.Orphans, h.OrphanMiB = boot, false, false, 0, 0
	h.give(0, 0)
}

// give counts what a grant takes from the host, or gives back to it.
func (h *Host) give(mib, vms int) {
	h.UsedMiB += int64(mib)
	h.VMs += vms
	h.FreeMiB = h.AllocatableMiB - h.UsedMiB - h.OrphanMiB
}

func (h *Host) orphan(mib, count int) {
	h.Orphans += count
	h.OrphanMiB += int64(mib)
	h.give(0, 0)
}

// hostGrantEnded gives back what the grant took, unless its end is a human's word only: then the domain may still be there.
func hostGrantEnded(f *fold, vm string, d events.VMGrantEnded) error {
	g, err := need[Grant](f, grantTable, grantID(vm, d.Epoch))
	if err != nil {
		return err
	}
	back, model := -g.MemoryMiB-g.OverheadMiB, int64(g.DeviceModelMiB)
	if d.Proof == events.ProofOverride {
		back, model = 0, 0
	}
	return changeIf(f, hostTable, g.Host, func(h *Host) {
		h.give(back, -1)
		h.ModelsUsedMiB -= model
	})
}

func hostStaleEnded(f *fold, vm string, d events.VMStaleDomainEnded) error {
	g, err := lookup[Grant](f, grantTable, grantID(vm, d.Epoch))
	if err != nil || g == nil || !g.Stale {
		return err
	}
	return changeIf(f, hostTable, g.Host, func(h *Host) {
		h.give(-g.MemoryMiB-g.OverheadMiB, 0)
		h.ModelsUsedMiB -= int64(g.DeviceModelMiB)
	})
}

// hostGrantResized counts what a grant takes from here on. It is read before the grant's own row changes: hosts come first in the models.
func hostGrantResized(f *fold, vm string, d events.VMGrantResized) error {
	g, err := need[Grant](f, grantTable, grantID(vm, d.Epoch))
	if err != nil {
		return err
	}
	return changeIf(f, hostTable, g.Host, func(h *Host) { h.give(d.Counted-g.MemoryMiB, 0) })
}

func hostOrphanFound(f *fold, host string, d events.HostOrphanFound) error {
	o, err := lookup[Orphan](f, orphanTable, orphanID(host, d.Domain.UUID))
	if err != nil {
		return err
	}
	return change(f, hostTable, host, func(h *Host) {
		if o != nil { // found again, looking different
			h.orphan(-o.MemoryMiB, -1)
		}
		h.orphan(d.Domain.MemoryMiB, 1)
	})
}

func hostOrphanGone(f *fold, host, uuid string) error {
	o, err := lookup[Orphan](f, orphanTable, orphanID(host, uuid))
	if err != nil || o == nil {
		return err
	}
	return changeIf(f, hostTable, host, func(h *Host) { h.orphan(-o.MemoryMiB, -1) })
}

// hostsNotReady: in a new term nothing is granted on a host that has not reported completely in it.
func hostsNotReady(f *fold) error {
	rows, err := all[Host](f, hostTable)
	if err != nil {
		return err
	}
	for _, h := range rows {
		if h.Ready {
			h.Ready = false
			f.put(hostTable, h.ID, h)
		}
	}
	return nil
}

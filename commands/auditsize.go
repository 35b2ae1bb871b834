package commands

import "cloudengine/events"

// sizes is what Audit knows of the sizes of domains, and of the memory that control domains have for device models.
type sizes struct {
	room map[events.MachineID]int // MiB for device models
	used map[events.MachineID]int
	want map[events.VMID]events.VMGrantResized // the last of the live grant
	seen map[events.VMID]events.VMDomainObserved
}

func newSizes() sizes {
	return sizes{
		room: map[events.MachineID]int{}, used: map[events.MachineID]int{},
		want: map[events.VMID]events.VMGrantResized{}, seen: map[events.VMID]events.VMDomainObserved{},
	}
}

// grantedModel counts the device model of a new grant.
func (a *Audit) grantedModel(r events.Recorded, vm events.VMID, d events.VMRunGranted) {
	delete(a.sizes.want, vm)
	delete(a.sizes.seen, vm)
	if d.DeviceModel == 0 {
		return
	}
	a.sizes.used[d.Host] += d.DeviceModel
	if a.sizes.used[d.Host] > a.sizes.room[d.Host] {
		a.fail(r, "I4", "host %s has %d MiB for device models and gave %d", d.Host, a.sizes.room[d.Host], a.sizes.used[d.Host])
	}
}

// resized: a grant is counted with at least what its domain may have. It is counted with less than before only after its host has
// reported the domain as no larger.
func (a *Audit) resized(r events.Recorded, vm events.VMID, d events.VMGrantResized) {
	g, runs := a.live[vm]
	if !runs || g.Epoch != d.Epoch || g.Host != d.Host {
		a.fail(r, "I1", "VM %s: a grant was resized that is not live", vm)
		return
	}
	seen, last := a.sizes.seen[vm], a.sizes.want[vm]
	switch {
	case d.Counted < d.MemoryMiB:
		a.fail(r, "I4", "VM %s may have %d MiB and is counted with %d", vm, d.MemoryMiB, d.Counted)
	case d.Counted < g.MemoryMiB && (r.Actor != MachineActor(g.Host) || r.Verb != "report" || d.Resizes != last.Resizes):
		a.fail(r, "I5", "VM %s gives up %d MiB, which its host has not reported", vm, g.MemoryMiB-d.Counted)
	case d.Counted < g.MemoryMiB && (seen.Epoch != g.Epoch || seen.MemoryMiB > d.Counted):
		a.fail(r, "I4", "VM %s is counted with %d MiB, and its domain has %d", vm, d.Counted, seen.MemoryMiB)
	}
	a.used[g.Host] += d.Counted - g.MemoryMiB
	if d.Counted > g.MemoryMiB && a.used[g.Host] > a.room[g.Host] {
		a.fail(r, "I4", "host %s has %d MiB and gave %d", g.Host, a.room[g.Host], a.used[g.Host])
	}
	g.MemoryMiB = d.Counted
	a.live[vm], a.sizes.want[vm] = g, d
}

package projections

import (
	"time"

	"cloudengine/events"
)

// Orphan is a row of orphans: a domain on a host that no grant explains. It is left alone until someone decides.
type Orphan struct {
	ID         string    `json:"id"`
	UUID       string    `json:"uuid"`
	Host       string    `json:"host"`
	HostName   *string   `json:"host_name"`
	Boot       string    `json:"boot"`
	DomID      int       `json:"domid"`
	Name       string    `json:"name"`
	State      string    `json:"state"`
	MemoryMiB  int       `json:"memory_mib"`
	VCPUs      int       `json:"vcpus"`
	StampVM    *string   `json:"stamp_vm"`
	StampEpoch *string   `json:"stamp_epoch"`
	StopWanted bool      `json:"stop_wanted"`
	FoundAt    time.Time `json:"found_at"`
	ChangedBy  uint64    `json:"changed_by"`
	ChangedAt  time.Time `json:"changed_at"`
}

var orphanTable = newTable[Orphan]("orphans")

var orphans = &Model{
	Kind: KindOrphan, Table: orphanTable, Scope: ScopeNone, Named: "uuid", event: orphanEvent,
	Reads: []string{"host.orphan_found.v1", "host.orphan_gone.v1", "host.orphan_stop_wanted.v1", "vm.run_granted.v1", "machine.enrolled.v1", "machine.power_observed.v1",
		"machine.removed.v1"},
}

func orphanID(host, uuid string) string { return host + "." + uuid }

func orphanEvent(f *fold, e events.Event) error {
	host := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.HostOrphanFound:
		return orphanFound(f, host, d)
	case events.HostOrphanGone:
		f.delete(orphanTable, orphanID(host, d.UUID))
	case events.HostOrphanStopWanted:
		return changeIf(f, orphanTable, orphanID(host, d.UUID), func(o *Orphan) { o.StopWanted = true })
	case events.VMRunGranted:
		if d.Adopt != "" {
			f.delete(orphanTable, orphanID(string(d.Host), d.Adopt))
		}
	case events.MachineEnrolled:
		return orphansEnd(f, host, d.Boot)
	case events.MachinePowerObserved:
		if d.Proof {
			return orphansEnd(f, host, "")
		}
	case events.MachineRemoved:
		return orphansEnd(f, host, "")
	}
	return nil
}

func orphanFound(f *fold, host string, d events.HostOrphanFound) error {
	h, err := lookup[Host](f, hostTable, host)
	if err != nil {
		return err
	}
	o := &Orphan{ID: orphanID(host, d.Domain.UUID), UUID: d.Domain.UUID, Host: host, Boot: d.Boot, DomID: d.Domain.DomID, Name: d.Domain.Name,
		State: d.Domain.State, MemoryMiB: d.Domain.MemoryMiB, VCPUs: d.Domain.VCPUs, FoundAt: f.now()}
	if h != nil {
		o.HostName = &h.Name
	}
	have, err := lookup[Orphan](f, orphanTable, o.ID)
	if err != nil {
		return err
	}
	if have != nil { // found again, looking different
		o.FoundAt, o.StopWanted = have.FoundAt, have.StopWanted
	}
	if d.Domain.Stamped {
		epoch := d.Domain.Epoch.String()
		o.StampVM, o.StampEpoch = known(string(d.Domain.VM)), &epoch
	}
	f.put(orphanTable, o.ID, o)
	return nil
}

// orphansEnd: a new boot of a diskless machine has none of the domains of the boot before.
func orphansEnd(f *fold, host, boot string) error {
	rows, err := all[Orphan](f, orphanTable)
	if err != nil {
		return err
	}
	for _, o := range rows {
		if o.Host == host && o.Boot != boot {
			f.delete(orphanTable, o.ID)
		}
	}
	return nil
}

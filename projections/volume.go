package projections

import (
	"encoding/json"
	"time"

	"cloudengine/events"
)

// States of a volume.
const (
	VolumeMaking  = "making" // its record is not written yet, or it is being filled
	VolumeFailed  = "failed" // it could not be filled the last time, and is tried again
	VolumeIsReady = "ready"
	VolumeWiping  = "wiping" // deleted; its extents are nobody else's before they are wiped
)

// Volume is a row of volumes: storage that belongs to an account.
type Volume struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Account     *string         `json:"account"`
	AccountName *string         `json:"account_name"`
	State       string          `json:"state"`
	SizeMiB     int64           `json:"size_mib"`
	VM          *string         `json:"vm"`
	VMName      *string         `json:"vm_name"`
	Slot        *string         `json:"slot"`
	Pool        string          `json:"pool"`
	PoolName    string          `json:"pool_name"`
	Array       string          `json:"array"`
	Extents     int             `json:"extents"`
	Segments    json.RawMessage `json:"segments"`
	Template    *string         `json:"template"`
	Source      *string         `json:"source_sha256"`
	SourceSize  *int64          `json:"source_size"`
	SourceBytes *int64          `json:"source_bytes"`
	Golden      bool            `json:"golden"`
	CopiedFrom  *string         `json:"copied_from"`
	Message     *string         `json:"message"`
	ReadBPS     int64           `json:"read_bps"`
	WriteBPS    int64           `json:"write_bps"`
	ReadIOPS    int64           `json:"read_iops"`
	WriteIOPS   int64           `json:"write_iops"`
	CreatedAt   time.Time       `json:"created_at"`
	ChangedBy   uint64          `json:"changed_by"`
	ChangedAt   time.Time       `json:"changed_at"`
}

var volumeTable = newTable[Volume]("volumes")

var volumes = &Model{
	Kind: events.KindVolume, Table: volumeTable, Scope: ScopeOwn, Named: "name", event: volumeEvent, Private: []string{"copied_from", "message"},
	Reads: []string{"volume.created.v1", "volume.golden_created.v1", "volume.grown.v1", "volume.ready.v1", "volume.fill_failed.v1", "volume.fill_retried.v1", "volume.limited.v1", "volume.attached.v1", "volume.detached.v1", "volume.deleted.v1", "volume.wiped.v1"},
}

func extentsOf(all []events.Segment) int {
	n := 0
	for _, s := range all {
		n += s.Count
	}
	return n
}

// volumeTakes tells how many extents an event of a volume takes from its array, or gives back to it. It must run before the volume's own row
// is changed.
func volumeTakes(f *fold, e events.Event, each func(v *Volume, extents int) error) error {
	switch d := e.Data.(type) {
	case events.VolumeCreated:
		return each(&Volume{Pool: string(d.Pool), Array: string(d.Array)}, extentsOf(d.Segments))
	case events.GoldenCreated:
		return each(&Volume{Pool: string(d.Pool), Array: string(d.Array)}, extentsOf(d.Segments))
	case events.VolumeGrown:
		v, err := need[Volume](f, volumeTable, e.Aggregate.ID)
		if err != nil {
			return err
		}
		return each(v, extentsOf(d.Segments)-v.Extents)
	case events.VolumeWiped:
		v, err := need[Volume](f, volumeTable, e.Aggregate.ID)
		if err != nil {
			return err
		}
		return each(v, -v.Extents)
	}
	return nil
}

func volumeEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.VolumeCreated:
		return volumeCreated(f, id, d, false)
	case events.GoldenCreated:
		return volumeCreated(f, id, d.Volume(), true)
	case events.VolumeWiped:
		f.delete(volumeTable, id)
		return nil
	case events.VolumeAttached:
		vm, err := need[VM](f, vmTable, string(d.VM))
		if err != nil {
			return err
		}
		return change(f, volumeTable, id, func(v *Volume) { v.VM, v.VMName, v.Slot = &vm.ID, &vm.Name, known(d.Slot) })
	}
	return change(f, volumeTable, id, func(v *Volume) {
		switch d := e.Data.(type) {
		case events.VolumeGrown:
			each := v.SizeMiB / int64(v.Extents)
			v.Extents, v.Segments = extentsOf(d.Segments), asJSON(d.Segments)
			v.SizeMiB = each * int64(v.Extents)
		case events.VolumeLimited:
			v.ReadBPS, v.WriteBPS, v.ReadIOPS, v.WriteIOPS = d.ReadBPS, d.WriteBPS, d.ReadIOPS, d.WriteIOPS
		case events.VolumeReady:
			v.State, v.Message = VolumeIsReady, nil
		case events.VolumeFillFailed:
			v.State, v.Message = VolumeFailed, known(d.Message)
		case events.VolumeFillRetried:
			v.State, v.Message = VolumeMaking, nil
		case events.VolumeDetached:
			v.VM, v.VMName, v.Slot = nil, nil, nil
		case events.VolumeDeleted:
			v.State, v.Message = VolumeWiping, nil
		}
	})
}

func volumeCreated(f *fold, id string, d events.VolumeCreated, golden bool) error {
	p, err := need[Pool](f, poolTable, string(d.Pool))
	if err != nil {
		return err
	}
	account, err := lookup[Account](f, accountTable, string(d.Account))
	if err != nil {
		return err
	}
	n := extentsOf(d.Segments)
	v := &Volume{ID: id, Name: d.Name, Account: known(string(d.Account)), State: VolumeMaking, Extents: n, Segments: asJSON(d.Segments),
		SizeMiB: int64(n * p.ExtentMiB), Pool: p.ID, PoolName: p.Name, Array: string(d.Array), CreatedAt: f.now(),
		Template: known(string(d.Template)), Source: known(d.Source.SHA256), SourceSize: known(d.Source.Size), SourceBytes: known(d.SourceBytes),
		Golden: golden, CopiedFrom: known(string(d.From))}
	if account != nil {
		v.AccountName = &account.Name
	}
	f.put(volumeTable, id, v)
	return nil
}

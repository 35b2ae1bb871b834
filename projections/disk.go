package projections

import (
	"encoding/json"
	"time"

	"cloudengine/events"
)

// Disk is a row of disks: a disk of a storage node.
type Disk struct {
	ID            string          `json:"id"`
	Serial        string          `json:"serial"`
	Node          string          `json:"node"`
	NodeName      *string         `json:"node_name"`
	Bytes         int64           `json:"bytes"`
	Model         *string         `json:"model"`
	Signature     *string         `json:"signature"`
	Health        string          `json:"health"`
	Gone          bool            `json:"gone"`
	Array         *string         `json:"array"`
	ArrayName     *string         `json:"array_name"`
	Slot          *int            `json:"slot"`
	Wiping        *string         `json:"wiping"`
	ExportState   *string         `json:"export_state"`
	ExportEpoch   *string         `json:"export_epoch"`
	ExportTo      json.RawMessage `json:"export_to"`
	ExportMessage *string         `json:"export_message"`
	FoundAt       time.Time       `json:"found_at"`
	ChangedBy     uint64          `json:"changed_by"`
	ChangedAt     time.Time       `json:"changed_at"`
}

var diskTable = newTable[Disk]("disks")

var disks = &Model{
	Kind: events.KindDisk, Table: diskTable, Scope: ScopeNone, Named: "serial", event: diskEvent,
	Reads: []string{"disk.found.v1", "disk.gone.v1", "disk.exported.v1", "disk.released.v1", "array.created.v1", "array.deleted.v1",
		"array.leg_replacing.v1", "array.leg_replacement_ended.v1", "array.leg_replaced.v1"},
}

func diskEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.DiskFound:
		return diskFound(f, id, d)
	case events.DiskGone:
		return change(f, diskTable, id, func(x *Disk) {
			x.Gone, x.ExportState, x.ExportEpoch, x.ExportTo, x.ExportMessage = true, nil, nil, nil, nil
		})
	case events.DiskExported:
		return change(f, diskTable, id, func(x *Disk) {
			epoch := d.Epoch.String()
			x.ExportState, x.ExportEpoch, x.ExportTo, x.ExportMessage = known(d.State), &epoch, asJSON(d.To), known(d.Message)
		})
	case events.DiskReleased:
		return change(f, diskTable, id, func(x *Disk) { x.Wiping = nil })
	case events.ArrayCreated:
		for _, l := range d.Legs {
			err := change(f, diskTable, string(l.Disk), func(x *Disk) { x.Array, x.ArrayName, x.Slot = &id, &d.Name, &l.Slot })
			if err != nil {
				return err
			}
		}
	case events.ArrayLegReplacing, events.ArrayLegReplacementEnded, events.ArrayLegReplaced:
		return diskFollows(f, id, d)
	case events.ArrayDeleted:
		a, err := need[Array](f, arrayTable, id)
		if err != nil {
			return err
		}
		legs, err := a.disks()
		if err != nil {
			return err
		}
		for _, l := range legs {
			err := changeIf(f, diskTable, string(l.Disk), func(x *Disk) {
				x.Array, x.ArrayName, x.Slot = nil, nil, nil
				if d.Wipe {
					x.Wiping = &a.Name
				}
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func diskFound(f *fold, id string, d events.DiskFound) error {
	name, err := machineNameOf(f, d.Node)
	if err != nil {
		return err
	}
	x, err := lookup[Disk](f, diskTable, id)
	if err != nil {
		return err
	}
	if x == nil {
		x = &Disk{ID: id, FoundAt: f.now()}
	}
	x.Serial, x.Node, x.NodeName, x.Bytes, x.Model, x.Signature, x.Health, x.Gone = d.Serial, string(d.Node), name, d.Bytes, known(d.Model), known(d.Signature), d.Health, false
	f.put(diskTable, id, x)
	return nil
}

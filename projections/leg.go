package projections

import (
	"encoding/json"
	"fmt"
	"time"

	"cloudengine/events"
)

// Replacing says, in a row of arrays, which leg is being replaced.
type Replacing struct {
	Slot      int           `json:"slot"`
	Old       events.DiskID `json:"old"`
	New       events.DiskID `json:"new"`
	OldSerial string        `json:"old_serial"`
	NewSerial string        `json:"new_serial"`
	Node      string        `json:"node"` // id of the new one's storage node
	Since     time.Time     `json:"since"`
	Cancelled bool          `json:"cancelled,omitempty"`
}

func arrayReplacing(f *fold, id string, d events.ArrayLegReplacing) error {
	now, err := need[Disk](f, diskTable, string(d.Old))
	if err != nil {
		return err
	}
	next, err := need[Disk](f, diskTable, string(d.New))
	if err != nil {
		return err
	}
	return change(f, arrayTable, id, func(a *Array) {
		a.Replacing = asJSON(Replacing{Slot: d.Slot, Old: d.Old, New: d.New, OldSerial: now.Serial, NewSerial: next.Serial, Node: string(d.Node), Since: f.now()})
	})
}

func arrayReplaced(a *Array, data events.Payload) {
	var r Replacing
	_ = json.Unmarshal(a.Replacing, &r) // what this has written
	switch d := data.(type) {
	case events.ArrayLegReplacementCancelled:
		r.Cancelled = true
		a.Replacing = asJSON(r)
	case events.ArrayLegReplacementEnded:
		a.Replacing = nil
	case events.ArrayLegReplaced:
		a.Replacing = nil
		legs, err := a.legs()
		if err != nil {
			return // it was written by this
		}
		for i := range legs {
			if legs[i].Slot == d.Slot {
				legs[i].Disk, legs[i].Node = d.New, d.Node
			}
		}
		a.Legs = asJSON(legs)
	}
}

// disks lists the legs of an array and the disk that follows one of them.
func (a *Array) disks() ([]events.Leg, error) {
	out, err := a.legs()
	if err != nil || len(a.Replacing) == 0 {
		return out, err
	}
	var r Replacing
	if err := json.Unmarshal(a.Replacing, &r); err != nil {
		return nil, fmt.Errorf("read replacement of array %s: %w", a.ID, err)
	}
	return append(out, events.Leg{Slot: r.Slot, Disk: r.New}), nil
}

// diskFollows: a disk that follows a leg is the array's, in the slot of that leg; one that is let go of is to be wiped.
func diskFollows(f *fold, array string, data events.Payload) error {
	a, err := need[Array](f, arrayTable, array)
	if err != nil {
		return err
	}
	leave := func(x *Disk) { x.Array, x.ArrayName, x.Slot, x.Wiping = nil, nil, nil, &a.Name }
	switch d := data.(type) {
	case events.ArrayLegReplacing:
		return change(f, diskTable, string(d.New), func(x *Disk) { x.Array, x.ArrayName, x.Slot = &array, &a.Name, &d.Slot })
	case events.ArrayLegReplacementEnded:
		return change(f, diskTable, string(d.New), leave)
	case events.ArrayLegReplaced:
		return change(f, diskTable, string(d.Old), leave)
	}
	return nil
}

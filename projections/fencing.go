package projections

import (
	"encoding/json"

	"cloudengine/events"
)

// FencingLeg is a leg of an array that is being fenced off from its owner.
type FencingLeg struct {
	Serial string        `json:"serial"` // of its disk
	Node   string        `json:"node"`   // name of the storage node that must say that it is closed
	Closed bool          `json:"closed"` // it has
	Disk   events.DiskID `json:"disk"`
}

func fencing(d events.ArrayFencingBegan) json.RawMessage {
	legs := make([]FencingLeg, 0, len(d.Legs))
	for _, l := range d.Legs {
		legs = append(legs, FencingLeg{Serial: l.Serial, Node: l.NodeName, Disk: l.Disk})
	}
	return asJSON(legs)
}

// closeLeg notes whether a leg is closed.
func closeLeg(list json.RawMessage, disk events.DiskID, closed bool) json.RawMessage {
	var legs []FencingLeg
	_ = json.Unmarshal(list, &legs) // nil, or what fencing has written
	for i := range legs {
		if legs[i].Disk == disk {
			legs[i].Closed = closed
		}
	}
	if len(legs) == 0 {
		return nil
	}
	return asJSON(legs)
}

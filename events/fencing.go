package events

// ProofFenced ends an owner's grant: every leg of the array is closed to it, says the storage node of each, in its present boot.
const ProofFenced = "fenced"

// ArrayFencingBegan says that every leg of the array is to be closed to its owner, which stays the owner until all storage nodes have said
// that theirs are. It is not taken back: it ends with the owner's grant, by whatever proof comes first.
type ArrayFencingBegan struct {
	Epoch Epoch        `json:"epoch"`        // of the owner
	To    MachineID    `json:"to,omitempty"` // proxy that shall have it next; empty: as was said before, or any
	Legs  []FencingLeg `json:"legs"`         // that are to be closed, and where they were then
}

// EventType gives the wire name.
func (ArrayFencingBegan) EventType() string { return "array.fencing_began.v1" }

// FencingLeg is a leg that is to be closed.
type FencingLeg struct {
	Disk     DiskID    `json:"disk"`
	Serial   string    `json:"serial"`    // of the disk
	Node     MachineID `json:"node"`      // storage node that must say so
	NodeName string    `json:"node_name"` // its name then
}

// ArrayLegFenced is the word of a storage node: one leg of an array that is being fenced is given to nobody, and no command of anybody is
// under way there, as a document asks that was made after the fencing began.
type ArrayLegFenced struct {
	Epoch      Epoch      `json:"epoch"` // of the owner
	Disk       DiskID     `json:"disk"`
	Node       MachineID  `json:"node"`
	Boot       string     `json:"boot"`       // of that storage node: the word of one boot says nothing of another
	Generation Generation `json:"generation"` // of the document
}

// EventType gives the wire name.
func (ArrayLegFenced) EventType() string { return "array.leg_fenced.v1" }

// ArrayLegUnfenced takes the word of a storage node back while the fencing is under way: it has booted anew, or says something else now.
type ArrayLegUnfenced struct {
	Epoch Epoch     `json:"epoch"` // of the owner
	Disk  DiskID    `json:"disk"`
	Node  MachineID `json:"node"`
}

// EventType gives the wire name.
func (ArrayLegUnfenced) EventType() string { return "array.leg_unfenced.v1" }

// ArrayFencedOwnerGone says that a boot of a proxy, from which the array was taken by fencing, has given it up or is over: nothing of it is left
// there that could be written once a leg is opened again. Until then the proxy cannot have the array.
type ArrayFencedOwnerGone struct {
	Proxy MachineID `json:"proxy"`
	Boot  string    `json:"boot"`
	Epoch Epoch     `json:"epoch"` // under which it was fenced
}

// EventType gives the wire name.
func (ArrayFencedOwnerGone) EventType() string { return "array.fenced_owner_gone.v1" }

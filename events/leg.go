package events

// ArrayLegReplacing begins the replacement of a leg: from now on the new disk belongs to the array too. It is filled while the old one is still
// there, and follows it when md has it in sync. There is one replacement at a time in an array.
type ArrayLegReplacing struct {
	Slot int       `json:"slot"` // in md
	Old  DiskID    `json:"old"`  // leg that is replaced
	New  DiskID    `json:"new"`  // that follows it
	Node MachineID `json:"node"` // storage node that had the new one when it was chosen; never that of the other copies
}

// EventType gives the wire name.
func (ArrayLegReplacing) EventType() string { return "array.leg_replacing.v1" }

// ArrayLegReplacementCancelled says that the new disk shall not follow. It belongs to the array until the owner has let go of it, and follows
// all the same if it was in sync before the owner knew.
type ArrayLegReplacementCancelled struct {
	Slot int    `json:"slot"` // in md
	New  DiskID `json:"new"`  // disk that does not follow
}

// EventType gives the wire name.
func (ArrayLegReplacementCancelled) EventType() string { return "array.leg_replacement_cancelled.v1" }

// ArrayLegReplacementEnded says that the owner has let go of the new disk: the old one stays the leg. The new one is free once DiskReleased
// says so.
type ArrayLegReplacementEnded struct {
	Slot int    `json:"slot"` // in md
	New  DiskID `json:"new"`  // disk that does not follow
}

// EventType gives the wire name.
func (ArrayLegReplacementEnded) EventType() string { return "array.leg_replacement_ended.v1" }

// ArrayLegReplaced says that the new disk is the leg: the owner has it in sync, and has nothing of the old one any more. The old one is free once
// DiskReleased says so, and is never taken back as a leg before.
type ArrayLegReplaced struct {
	Slot int       `json:"slot"` // in md
	Old  DiskID    `json:"old"`  // was the leg
	New  DiskID    `json:"new"`  // is the leg
	Node MachineID `json:"node"` // storage node of the new one
}

// EventType gives the wire name.
func (ArrayLegReplaced) EventType() string { return "array.leg_replaced.v1" }

// MachineDrainBegan takes a storage node out of the choice of disks; its legs are replaced by disks of others, one after another.
type MachineDrainBegan struct{}

// EventType gives the wire name.
func (MachineDrainBegan) EventType() string { return "machine.drain_began.v1" }

// MachineDrainEnded lets a storage node's disks be chosen again.
type MachineDrainEnded struct{}

// EventType gives the wire name.
func (MachineDrainEnded) EventType() string { return "machine.drain_ended.v1" }

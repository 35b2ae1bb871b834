package events

// DiskFound says that a storage node has a disk. It comes again when the disk is on another node, or looks different.
type DiskFound struct {
	Node      MachineID `json:"node"`
	Boot      string    `json:"boot"`
	Serial    string    `json:"serial"`
	Bytes     int64     `json:"bytes"`               // size
	Model     string    `json:"model,omitempty"`     // as the disk says
	Signature string    `json:"signature,omitempty"` // of what is on it and is not ours, as blkid calls it: ext4, LVM2_member …; empty: nothing was found
	Health    string    `json:"health"`              // DiskHealthy …
}

// EventType gives the wire name.
func (DiskFound) EventType() string { return "disk.found.v1" }

// Health of a disk, as its own self-assessment has it.
const (
	DiskHealthy = "healthy"
	DiskFailing = "failing"
	DiskUnknown = "unknown" // it does not say
)

// DiskGone says that a disk is not in a complete report of its storage node any more.
type DiskGone struct {
	Node MachineID `json:"node"`
	Boot string    `json:"boot"`
}

// EventType gives the wire name.
func (DiskGone) EventType() string { return "disk.gone.v1" }

// StorageReady says that a machine's boot has reported its storage completely, in a term: from now on it may own arrays, or its disks be
// used.
type StorageReady struct {
	Boot string `json:"boot"`
	Term uint64 `json:"term"`
}

// EventType gives the wire name.
func (StorageReady) EventType() string { return "machine.storage_ready.v1" }

// DiskExported says to whom the storage node gives the disk now. A change of it under an epoch is the proof that nobody else writes there.
type DiskExported struct {
	Node    MachineID   `json:"node"`
	Boot    string      `json:"boot"`
	Array   ArrayID     `json:"array"` // that it is exported for
	Epoch   Epoch       `json:"epoch"` // of the array's owner that the document named
	To      []MachineID `json:"to"`    // initiators that are admitted
	State   string      `json:"state"` // ExportThere …
	Message string      `json:"message,omitempty"`
}

// EventType gives the wire name.
func (DiskExported) EventType() string { return "disk.exported.v1" }

// States of an export.
const (
	ExportThere   = "there"
	ExportAbsent  = "absent"
	ExportFailed  = "failed"  // Message says why
	ExportWiping  = "wiping"  // nobody is given it any more, and the marks of its deleted array are on it
	ExportWiped   = "wiped"   // nothing that is known is on it
	ExportForeign = "foreign" // it was to be wiped of an array, and holds something else: it was left alone
)

// DiskReleased says that nothing of a deleted array is on one of its disks any more, and that nobody is given it: it is free.
type DiskReleased struct {
	Node  MachineID `json:"node"` // which says so
	Boot  string    `json:"boot"`
	Array ArrayID   `json:"array"` // that was deleted
	Wiped bool      `json:"wiped"` // the disk is blank; otherwise it holds something that is not the array's, and was left alone
}

// EventType gives the wire name.
func (DiskReleased) EventType() string { return "disk.released.v1" }

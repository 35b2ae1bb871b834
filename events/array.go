package events

// Leg is one disk of an array.
type Leg struct {
	Slot int       `json:"slot"` // in md; slots 2i and 2i+1 hold the same data
	Disk DiskID    `json:"disk"` // that it is
	Node MachineID `json:"node"` // storage node that had it when it was chosen; never that of its copies
}

// ArrayCreated decides an md RAID 10 over disks of several storage nodes. It has no owner yet.
type ArrayCreated struct {
	Pool     PoolID `json:"pool"` // that it is part of
	Name     string `json:"name"`
	Legs     []Leg  `json:"legs"`      // by slot
	ChunkKiB int    `json:"chunk_kib"` // md's chunk size
	Extents  int    `json:"extents"`   // that volumes can have; of the pool's extent size
	StartMiB int    `json:"start_mib"` // where the first extent begins on the array
}

// EventType gives the wire name.
func (ArrayCreated) EventType() string { return "array.created.v1" }

// ArrayOwnerGranted lets one boot of one proxy assemble and write the array, under an epoch. There is never a second live one.
type ArrayOwnerGranted struct {
	Proxy     MachineID `json:"proxy"`
	ProxyName string    `json:"proxy_name"` // its name then
	Boot      string    `json:"boot"`
	Epoch     Epoch     `json:"epoch"`
}

// EventType gives the wire name.
func (ArrayOwnerGranted) EventType() string { return "array.owner_granted.v1" }

// ArrayOwnerRevoked tells the owner to give the array up. It is the owner until a proof says that it is not.
type ArrayOwnerRevoked struct {
	Epoch Epoch     `json:"epoch"`
	To    MachineID `json:"to,omitempty"` // proxy that shall have it next

	Retire bool `json:"retire,omitempty"` // nobody shall have it next: it is to be deleted
}

// EventType gives the wire name.
func (ArrayOwnerRevoked) EventType() string { return "array.owner_revoked.v1" }

// ArrayOwnerEnded says that an owner's grant is over, and what proves it: ProofCleanEnd, ProofPowerOff, ProofNewBoot,
// ProofFenced or ProofOverride.
type ArrayOwnerEnded struct {
	Proxy MachineID `json:"proxy"`
	Boot  string    `json:"boot"`
	Epoch Epoch     `json:"epoch"`
	Proof string    `json:"proof"` // what says so
}

// EventType gives the wire name.
func (ArrayOwnerEnded) EventType() string { return "array.owner_ended.v1" }

// ArrayObserved says what the owner sees of the array. Recorded when it changes; progress of a resync is not in it.
type ArrayObserved struct {
	Proxy    MachineID `json:"proxy"`
	Epoch    Epoch     `json:"epoch"`
	State    string    `json:"state"`            // ArrayActive …
	Made     bool      `json:"made"`             // its superblocks are written: it is never created again
	Degraded int       `json:"degraded"`         // legs that are missing
	Legs     []string  `json:"legs"`             // by slot: LegInSync …
	Events   uint64    `json:"events,omitempty"` // md's event count, at least: an older leg must not be assembled
	Message  string    `json:"message,omitempty"`
}

// EventType gives the wire name.
func (ArrayObserved) EventType() string { return "array.observed.v1" }

// States of an array on a proxy.
const (
	ArrayActive   = "active"
	ArrayStandby  = "standby" // exported, and answers with an error: the owner is elsewhere
	ArrayAbsent   = "absent"
	ArrayBroken   = "broken"  // md gave up: no copy of some extent can be reached, or its key was taken
	ArrayWaiting  = "waiting" // for legs; Message says which
	LegInSync     = "in_sync"
	LegFaulty     = "faulty"
	LegRecovering = "recovering"
	LegMissing    = "missing"

	LegNoReservations = "no_reservations" // it is there, and cannot be reserved: it is not used
	LegReserved       = "reserved"        // it is there, and a later owner, or somebody else, has reserved it
)

// ArrayDeleted ends an array that has no volumes and no owner.
type ArrayDeleted struct {
	Wipe bool `json:"wipe,omitempty"` // its disks hold its marks: each is free once DiskReleased says so. Otherwise they are free now
}

// EventType gives the wire name.
func (ArrayDeleted) EventType() string { return "array.deleted.v1" }

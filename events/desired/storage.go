package desired

import "cloudengine/events"

// The kinds of objects of storage.
const (
	KindFabric events.Kind = "fabric" // to each member; id: the fabric's; body Fabric
	KindExport events.Kind = "export" // to a storage node; id: the disk's; body Export
	KindArray  events.Kind = "array"  // to a proxy; id: the array's; body Array
	KindPath   events.Kind = "path"   // to a host; id: the array's; body Path
)

// Fabric tells a member how it is attached.
type Fabric struct {
	Fabric    events.FabricID `json:"fabric"`
	Transport string          `json:"transport"` // srp or iscsi
	MAC       string          `json:"mac"`       // of its card
	Address   string          `json:"address"`   // in CIDR form
	MTU       int             `json:"mtu"`       // bytes
	Want      string          `json:"want"`      // There or Absent
}

// There is what is wanted of what is not started or stopped.
const There = "there"

// Peer is a machine on a fabric, as an initiator or a target sees it. Its names follow from its id (see events.InitiatorIQN).
type Peer struct {
	Machine events.MachineID `json:"machine"`
	Address string           `json:"address"`       // IPv4
	MAC     string           `json:"mac,omitempty"` // of its card there: an SRP port's name follows from it
}

// Export tells a storage node to whom it gives a disk: to these machines and to nobody else. Without a document nothing is given.
type Export struct {
	Disk       events.DiskID   `json:"disk"`
	Serial     string          `json:"serial"`      // finds it
	UnitSerial string          `json:"unit_serial"` // under which it is exported
	Fabric     events.FabricID `json:"fabric"`
	Array      events.ArrayID  `json:"array"`
	Epoch      events.Epoch    `json:"epoch"` // of the array's owner that To follows from
	To         []Peer          `json:"to"`    // initiators; empty: nobody
	Want       string          `json:"want"`  // There, Absent or Wiped
}

// Wiped is what is wanted of a disk whose array is deleted: nobody is given it, and what md and LVM have written of that array is removed.
const Wiped = "wiped"

// What a proxy shall be to an array.
const (
	Active  = "active"  // its owner under Epoch: assemble it, export it
	Standby = "standby" // export it so that it answers with an error: never touch its legs
)

// Array is what a proxy shall do about an array: Active, Standby or Absent.
type Array struct {
	Array      events.ArrayID  `json:"array"`
	Name       string          `json:"name"`
	Fabric     events.FabricID `json:"fabric"`
	Want       string          `json:"want"`                 // active, standby or absent
	Epoch      events.Epoch    `json:"epoch"`                // of the owner; a proxy that obeys a lower one gives the array up at once
	Create     bool            `json:"create"`               // it was never made: make it. Otherwise it is assembled or left alone
	Legs       []Leg           `json:"legs,omitempty"`       // by slot
	Copies     int             `json:"copies,omitempty"`     // of each chunk: md's near layout
	ChunkKiB   int             `json:"chunk_kib,omitempty"`  // md's chunk size
	ExtentMiB  int             `json:"extent_mib,omitempty"` // size of an extent
	StartMiB   int             `json:"start_mib,omitempty"`  // of the first extent on the array
	MinEvents  uint64          `json:"min_events,omitempty"` // md's event count was at least this: an older leg is not assembled
	Sectors    uint64          `json:"sectors,omitempty"`    // size under which it is exported, in units of 512 bytes: the same on every proxy, for ever
	UnitSerial string          `json:"unit_serial"`          // under which it is exported: the same on every proxy
	Group      int             `json:"group"`                // of ALUA: another one on each proxy, from 1
	To         []Peer          `json:"to"`                   // hosts
	Volumes    []Volume        `json:"volumes,omitempty"`    // that have extents of it
	Resync     Resync          `json:"resync,omitzero"`      // how its owner copies and compares

	// Disks that follow a leg once they are full. They need no version of their own: an agent that does not know of them keeps the legs as they
	// are, and what it writes makes the superblock of a disk that was being filled an old one.
	Replacements []Replacement `json:"replacements,omitempty"`
}

// Replacement is a disk that shall follow the leg in its slot: it is filled while that one is there, and is the leg when md has it in sync.
type Replacement struct {
	Leg
	Want string `json:"want"` // There, or Absent: let go of it, unless it is the leg already
}

// Resync tells the owner of an array how it may copy to legs that are behind, and compare copies. An agent that does not know of it does as
// the kernel does by itself, which harms nobody's data.
type Resync struct {
	LimitKiB int             `json:"limit_kib,omitempty"` // per second, at most; 0: as the kernel has it
	Hold     string          `json:"hold,omitempty"`      // why nothing is copied or compared now; empty: it may be
	Check    events.IntentID `json:"check,omitempty"`     // the check that is to be done, when nothing is to be copied
}

// NoLimitKiB is a limit that is none: the largest that md takes.
const NoLimitKiB = 1<<31 - 1

// Reasons to hold.
const (
	HoldPaused = "paused" // a human has said so
	HoldBehind = "behind" // another array on its storage nodes is at it
)

// Leg is one disk of an array, and how it is reached.
type Leg struct {
	Slot int           `json:"slot"` // in md
	Disk events.DiskID `json:"disk"`
	NAA  string        `json:"naa"` // as the proxy sees it
	At   Peer          `json:"at"`  // its storage node
}

// Volume is what the owner of an array does for a volume: keep its record, fill it from its source, and wipe it in the end.
type Volume struct {
	Volume      events.VolumeID  `json:"volume"`
	Segments    []events.Segment `json:"segments"`               // in the order of the volume
	Source      events.Blob      `json:"source,omitzero"`        // image that is unpacked onto it first: one stream of Zstandard
	SourceBytes int64            `json:"source_bytes,omitempty"` // that the image has when it is unpacked; what follows is zero
	Keep        int              `json:"keep,omitempty"`         // extents from its beginning on that were ready once: never zeroed or filled again
	Want        string           `json:"want"`                   // There, or Absent: wipe it

	// An agent that does not know of these fetches the image for each volume, and looks at the digest of what it fetched alone.
	SourceContent string          `json:"source_content_sha256,omitempty"` // digest of the image when it is unpacked; empty: not known
	From          events.VolumeID `json:"from,omitempty"`                  // volume of the same array that has the image: it is copied from there, once that has its record
	Try           int             `json:"try,omitempty"`                   // so often another try was asked for after a failure
}

// Path tells a host that it needs an array: from all these proxies.
type Path struct {
	Array  events.ArrayID  `json:"array"`
	Fabric events.FabricID `json:"fabric"`
	NAA    string          `json:"naa"`  // as the host sees it
	From   []Peer          `json:"from"` // proxies
	Want   string          `json:"want"` // There or Absent
}

// Disk is a disk of a domain: segments of an array, one after the other.
type Disk struct {
	Slot      string           `json:"slot"` // events.SlotPrimary …
	Volume    events.VolumeID  `json:"volume"`
	Array     events.ArrayID   `json:"array"`
	NAA       string           `json:"naa"`        // of its array, as a host sees it
	ExtentMiB int              `json:"extent_mib"` // size of an extent
	StartMiB  int              `json:"start_mib"`  // of the first extent on the array
	Segments  []events.Segment `json:"segments"`   // in the order of the disk

	// What the VM may do with it at most. It needs no version of its own: an agent that does not know of limits runs the domain without them,
	// which harms nobody's data.
	Limits events.DiskLimits `json:"limits,omitzero"`
}

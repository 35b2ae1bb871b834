package events

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/google/uuid"
)

// Roles of machines that store.
const (
	RoleStorageNode = "storage_node" // exports disks
	RoleProxy       = "proxy"        // joins disks of storage nodes into arrays, and exports those
)

// RoleGateway is of machines that connect networks of accounts with an external one.
const RoleGateway = "gateway"

// Ids of storage.
type (
	FabricID string
	DiskID   string // follows from the disk's serial number
	PoolID   string
	ArrayID  string // also its md UUID
	VolumeID string // also the name of its record in LVM
)

// The kinds of storage aggregates.
const (
	KindFabric Kind = "fabric"
	KindDisk   Kind = "disk"
	KindPool   Kind = "pool"
	KindArray  Kind = "array"
	KindVolume Kind = "volume"
)

// DiskIDOf gives the id of the disk with a serial number: the same wherever it is plugged in.
func DiskIDOf(serial string) DiskID {
	return DiskID(uuid.NewSHA1(intentSpace, []byte("disk\x00"+serial)).String())
}

// UnitSerial gives the SCSI unit serial number under which a disk or an array is exported: 25 hex digits. LIO makes the NAA identifier of
// it (see NAA), so it is the same over every transport and on every proxy.
func UnitSerial(kind Kind, id string) string { return digestOf("unit", string(kind), id)[:25] }

// NAA gives the identifier by which an initiator finds what is exported under a unit serial number, as in /sys/block/*/device/wwid after
// "naa.": LIO's OUI, then the digits of the serial.
func NAA(unitSerial string) string { return "6001405" + unitSerial }

// InitiatorIQN names a machine as an iSCSI initiator (RFC 7143, 4.2.7.4).
func InitiatorIQN(m MachineID) string { return "iqn.2026-11.org.cloudengine:" + string(m) }

// TargetIQN names a machine as an iSCSI target.
func TargetIQN(m MachineID) string { return InitiatorIQN(m) + ":target" }

// InitiatorSRP gives the first half of a machine's SRP initiator port identifier (initiator_ext), 16 hex digits.
func InitiatorSRP(m MachineID) string { return digestOf("initiator", string(m))[:16] }

// TargetSRP gives the service GUID of a machine as an SRP target (id_ext and ioc_guid), 16 hex digits.
func TargetSRP(m MachineID) string { return digestOf("target", string(m))[:16] }

func digestOf(words ...string) string {
	h := sha256.New()
	for _, w := range words {
		h.Write([]byte(w))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// StorageReport is the body of rep.<machine>.storage: what a machine sees of storage. A complete one lists all that is there.
type StorageReport struct {
	Machine  MachineID      `json:"machine"`
	Boot     string         `json:"boot"`
	Counter  uint64         `json:"counter"`           // rises with each new report of this boot; the same while it is repeated
	Complete bool           `json:"complete"`          // all that is there is listed
	Term     uint64         `json:"term,omitempty"`    // with complete: nothing will be done any more that a document of a lower term asked for
	Disks    []DiskReport   `json:"disks,omitempty"`   // a storage node's
	Exports  []ExportReport `json:"exports,omitempty"` // a storage node's
	Arrays   []ArrayReport  `json:"arrays,omitempty"`  // a proxy's
	Paths    []PathReport   `json:"paths,omitempty"`   // a host's
}

// DiskReport is one disk of a storage node.
type DiskReport struct {
	Serial    string `json:"serial"`
	Bytes     int64  `json:"bytes"`               // size
	Model     string `json:"model,omitempty"`     // as the disk says
	Signature string `json:"signature,omitempty"` // of what is on it and is not ours
	Health    string `json:"health"`              // healthy, failing or unknown
}

// ExportReport is what a storage node gives to whom.
type ExportReport struct {
	Disk       DiskID      `json:"disk"`
	Array      ArrayID     `json:"array"`
	Epoch      Epoch       `json:"epoch"`               // of the document that it obeys
	Generation Generation  `json:"generation,omitzero"` // of that document; zero: none, or one without an opinion
	To         []MachineID `json:"to"`                  // machines that are admitted, or of which a command may be under way
	State      string      `json:"state"`
	Message    string      `json:"message,omitempty"`
}

// ArrayReport is what a proxy sees of one array.
type ArrayReport struct {
	Array      ArrayID    `json:"array"`
	Epoch      Epoch      `json:"epoch"`      // of the document that it obeys
	Generation Generation `json:"generation"` // of that document
	State      string     `json:"state"`
	Made       bool       `json:"made,omitempty"`     // its superblocks are written
	Degraded   int        `json:"degraded,omitempty"` // legs that are missing
	Legs       []string   `json:"legs,omitempty"`     // by slot
	Events     uint64     `json:"events,omitempty"`
	Sync       string     `json:"sync,omitempty"`       // md's sync_action, "" for idle
	SyncDone   int        `json:"sync_done,omitempty"`  // per mille
	SyncKiB    int        `json:"sync_kib,omitempty"`   // per second; in answers to questions only
	SyncETA    int        `json:"sync_eta,omitempty"`   // seconds until it is done at this rate; in answers to questions only
	Needs      string     `json:"needs,omitempty"`      // what it has to copy, also while that is held: SyncRecover or SyncResync
	Checked    IntentID   `json:"checked,omitempty"`    // the check that is done
	Sectors    uint64     `json:"sectors,omitempty"`    // that were compared by it
	Mismatches uint64     `json:"mismatches,omitempty"` // that it found
	Ready      []VolumeID `json:"ready,omitempty"`      // volumes whose records are written and that are filled
	Wiped      []VolumeID `json:"wiped,omitempty"`      // deleted volumes whose extents are wiped

	Failed []FillFailure  `json:"failed,omitempty"` // volumes that could not be filled the last time
	Fills  []FillProgress `json:"fills,omitempty"`  // volumes that are being filled; in answers to questions only

	Disks   []DiskID `json:"disks,omitempty"`  // by slot: the one that md has there; empty: none. Left out while md has one that is not known
	Beside  []DiskID `json:"beside,omitempty"` // others that md has: being filled in the place of a leg, or faulty
	Message string   `json:"message,omitempty"`
}

// FillFailure says why a volume could not be filled. It is tried again later.
type FillFailure struct {
	Volume  VolumeID `json:"volume"`
	Message string   `json:"message"`
}

// What is done to fill a volume.
const (
	FillZero  = "zero"  // its extents are zeroed first
	FillFetch = "fetch" // its image is fetched and unpacked
	FillCopy  = "copy"  // it is copied from a golden volume
	FillWait  = "wait"  // for its golden volume, or for the next try
)

// FillProgress is how far the filling of a volume is.
type FillProgress struct {
	Volume VolumeID `json:"volume"`
	What   string   `json:"what"`          // that is done: FillZero …
	Done   int64    `json:"done"`          // bytes
	Bytes  int64    `json:"bytes"`         // when it is done
	Rate   int64    `json:"rate"`          // bytes per second since it began; 0: not known
	ETA    int      `json:"eta,omitempty"` // seconds until it is done at this rate; 0: not known
}

// PathReport is what a host sees of one array.
type PathReport struct {
	Array   ArrayID `json:"array"`
	Paths   int     `json:"paths"`  // that are there
	Usable  int     `json:"usable"` // of them
	Message string  `json:"message,omitempty"`
}

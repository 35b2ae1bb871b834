package proxy

import (
	"context"
	"io"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/dm"
	"cloudengine/workers/md"
	"cloudengine/workers/reserve"
)

// Node is a storage node as this machine logs in to it.
type Node struct {
	Transport string // srp or iscsi
	Machine   events.MachineID
	Address   string // IPv4
}

// Session is a login that the kernel has.
type Session struct {
	Node Node // Machine is empty if it is not known
	Live bool // commands are answered, as far as the kernel knows
}

// LUN is a disk of a storage node that the kernel has.
type LUN struct {
	NAA   string // without "naa."
	Dev   string // sda
	Bytes int64
	State string // running, blocked, offline, transport-offline
	Node  Node
}

// Initiator logs in to storage nodes, and reserves their disks.
type Initiator interface {
	Login(ctx context.Context, n Node) error  // no error if it is logged in
	Logout(ctx context.Context, n Node) error // no error if it is not
	Rescan(ctx context.Context, n Node) error // finds new LUNs
	Sessions(ctx context.Context) ([]Session, error)
	LUNs(ctx context.Context) ([]LUN, error)
	Reservation(ctx context.Context, dev string) (reserve.Seen, error) // of a LUN, by kernel name; or reserve.ErrUnsupported
	Reserve(ctx context.Context, dev string, o reserve.Out) error      // or reserve.ErrConflict
}

// States of an export, for hosts (ALUA).
const (
	ExportActive      = "active"
	ExportStandby     = "standby"
	ExportUnavailable = "unavailable"
)

// Export is an array as hosts are given it.
type Export struct {
	Array      events.ArrayID  `json:"array"`
	Fabric     events.FabricID `json:"fabric"`    // not told by Exports
	Transport  string          `json:"transport"` // srp or iscsi
	Device     string          `json:"device"`    // path of the front
	UnitSerial string          `json:"unit_serial"`
	Group      int             `json:"group"` // of ALUA
	State      string          `json:"state"`
	To         []string        `json:"to"` // initiators that are admitted, sorted: what Worker.Name makes of peers
	Peers      []desired.Peer  `json:"peers,omitempty"`
}

// Target exports arrays to hosts.
type Target interface {
	Exports(ctx context.Context) ([]Export, error)                          // of arrays, as the kernel has them
	Set(ctx context.Context, e Export) error                                // makes it so, and has read it back
	SetState(ctx context.Context, array events.ArrayID, state string) error // nothing but the state
	Remove(ctx context.Context, array events.ArrayID) error                 // no error if it is not there
}

// Arrays is the md driver (workers/md.Kernel).
type Arrays interface {
	Arrays(root string) ([]md.Array, error)
	Create(ctx context.Context, s md.Spec) (string, error)
	Assemble(ctx context.Context, w md.Wanted, members []md.Candidate) (string, error)
	Stop(ctx context.Context, name string) error
	Fail(ctx context.Context, name, dev string) error
	Remove(ctx context.Context, name, dev string) error
	Join(ctx context.Context, name, dev string, slot int) error
	Replace(ctx context.Context, name, dev string, slot int) error
	Thaw(ctx context.Context, name string) error
	Freeze(ctx context.Context, name string) error
	SetSpeed(ctx context.Context, name string, limitKiB int) error
	Check(ctx context.Context, name string) error
}

// Mapper is device-mapper (workers/dm).
type Mapper interface {
	List() ([]dm.Device, error)
	Create(name, uuid string, table []dm.Target) error
	Reload(name string, table []dm.Target) error
	Remove(name string) error
}

// Record is what LVM's metadata on an array say.
type Record struct {
	Found     bool // there is a volume group
	ExtentMiB int
	StartMiB  int
	Extents   int
	Volumes   map[events.VolumeID][]events.Segment
}

// Records keeps volumes in LVM's metadata. device is the path of the array's owner device.
type Records interface {
	Read(ctx context.Context, array events.ArrayID, device string) (Record, error)
	Init(ctx context.Context, array events.ArrayID, device string, startMiB, extentMiB int) error
	// Extend adds extents to a record that has so many, or makes it (have is 0). Extents that a record has are an error.
	Extend(ctx context.Context, array events.ArrayID, device string, v events.VolumeID, have int, more []events.Segment) error
	Remove(ctx context.Context, array events.ArrayID, device string, v events.VolumeID) error
}

// Blocks reads and writes block devices.
type Blocks interface {
	Super(dev string) (md.Super, error)                                                  // of a leg, past all caches
	Zero(ctx context.Context, path string, offset, length int64) error                   // bytes; durable when it returns
	Fill(ctx context.Context, path string, runs []Run, from io.Reader, size int64) error // the runs, which are zeroed, one after the other; durable when it returns
	Open(path string, runs []Run) (io.ReadCloser, error)                                 // what the runs hold, one after the other, past all caches
}

// Run is a part of a device, in bytes.
type Run struct {
	Offset int64
	Length int64
}

// Fetch opens the content of a blob. The caller closes it.
type Fetch func(ctx context.Context, b events.Blob) (io.ReadCloser, error)

// mapper is Mapper by workers/dm.
type mapper struct{}

func (mapper) List() ([]dm.Device, error)                        { return dm.List() }
func (mapper) Create(name, uuid string, table []dm.Target) error { return dm.Create(name, uuid, table) }
func (mapper) Reload(name string, table []dm.Target) error       { return dm.Reload(name, table) }
func (mapper) Remove(name string) error                          { return dm.Remove(name) }

package host

import (
	"context"
	"errors"
)

// Toolstack is what is asked of the hypervisor's tools. XL is the real one; workertest.Host passes the same suite.
type Toolstack interface {
	Info(ctx context.Context) (Info, error)
	// List gives every domain but dom0, or an error: never a part.
	List(ctx context.Context) ([]Domain, error)
	// Create makes a domain that is paused and stays when it shuts down, reboots or crashes. A second of the same name is refused.
	Create(ctx context.Context, c Config) error
	// Act does one thing to a domain. Destroying one that is gone is no error.
	Act(ctx context.Context, a Action, domid int) error
	SetWeight(ctx context.Context, domid, weight int) error
	// SetMemory lets a domain have so many MiB of RAM from now on, at most what it was made with. Less is given back by its guest,
	// in its own time or never; it cannot take it again.
	SetMemory(ctx context.Context, domid, mib int) error
	// SetVCPUs says how many vCPUs a guest shall use, at most what its domain was made with.
	SetVCPUs(ctx context.Context, domid, vcpus int) error
	// DeviceModels lists the domains that have a device model, sorted; also those of domains that are gone.
	DeviceModels(ctx context.Context) ([]int, error)
	// EndModel ends the device model of a domain that is gone. It is no error if there is none.
	EndModel(ctx context.Context, domid int) error
	// Release ends what someone else has left behind to act at the end of the domain of that name. It is no error if there is nothing.
	Release(ctx context.Context, name string) error
}

// Action is what can be done to a domain.
type Action string

// The actions. ActShutdown asks the guest and does not wait.
const (
	ActPause    Action = "pause"
	ActUnpause  Action = "unpause"
	ActShutdown Action = "shutdown"
	ActDestroy  Action = "destroy"
)

// Store is xenstore. Paths are absolute.
type Store interface {
	// Read gives a node's value, or ErrNoNode.
	Read(ctx context.Context, path string) (string, error)
	Write(ctx context.Context, path, value string) error
	// Remove takes a node and all below it away. One that is not there is no error.
	Remove(ctx context.Context, path string) error
	// Children lists the names below a node, sorted. One that is not there has none.
	Children(ctx context.Context, path string) ([]string, error)
}

// ErrNoNode says that there is no such node in xenstore.
var ErrNoNode = errors.New("no such node")

// Blobs keeps the files that domains boot from.
type Blobs interface {
	// Have lists the digests that are here, sorted.
	Have() ([]string, error)
	// Fetch makes a file be here, with the right digest. Size in bytes; 0 = not known.
	Fetch(ctx context.Context, digest string, size int64) error
	Path(digest string) string
}

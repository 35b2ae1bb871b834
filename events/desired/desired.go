// Package desired is the vocabulary of the DESIRED stream: the documents that tell a machine what should be there.
//
// A document is complete for one object on one machine, is bound to a boot id, and is ordered by its generation. No message means
// no opinion; absence is said. The package does no I/O and renders nothing.
package desired

import (
	"encoding/json"
	"errors"
	"fmt"

	"cloudengine/events"
)

// Versions of documents. One that says nothing that version 1 could not say is of version 1, so that an agent that knows no more understands
// it; one that an older agent would carry out wrongly is of a version that it refuses.
const (
	Version      = 1
	VersionDisks = 2 // a domain with disks
	VersionBoot  = 3 // a domain that boots from a disk, or is told who it is
	VersionNICs  = 4 // a domain with NICs

	newest = VersionNICs
)

// KindDomain and KindOrphan are the kinds of objects on a host.
const (
	KindDomain events.Kind = "domain" // id: the VM's; body Domain
	KindOrphan events.Kind = "orphan" // id: the domain's UUID; body Orphan
	KindTerm   events.Kind = "term"   // id: the machine's; body Term
)

// Document is the body of a message on desired.<machine>.<kind>.<id>.
type Document struct {
	Version    int               `json:"version"`
	Machine    events.MachineID  `json:"machine"`
	Boot       string            `json:"boot"` // a document for another boot is ignored
	Kind       events.Kind       `json:"kind"`
	ID         string            `json:"id"`
	Generation events.Generation `json:"generation"`
	Body       json.RawMessage   `json:"body"`
}

// What is wanted of a domain.
const (
	Running  = "running"
	Paused   = "paused"
	Shutdown = "shutdown" // ask the guest; once it has shut down, as Absent
	Absent   = "absent"   // no domain of this VM with a stamp up to Epoch; report its end
)

// Domain is what should be there of one VM. All but Want, VM and Epoch may be empty when it is Absent.
type Domain struct {
	VM        events.VMID      `json:"vm"`
	Name      string           `json:"name"`
	Account   events.AccountID `json:"account"`
	Want      string           `json:"want"`
	Epoch     events.Epoch     `json:"epoch"`    // a domain with a lower stamp is paused at once, reported and destroyed
	Restarts  int              `json:"restarts"` // a domain stamped with fewer is made again
	Type      string           `json:"type"`
	VCPUs     int              `json:"vcpus"`
	MemoryMiB int              `json:"memory_mib"`
	Weight    int              `json:"weight"`
	Kernel    events.Blob      `json:"kernel"`
	Ramdisk   events.Blob      `json:"ramdisk,omitzero"`
	Cmdline   string           `json:"cmdline,omitempty"`
	Adopt     string           `json:"adopt,omitempty"` // UUID of an unstamped domain that is to be stamped instead of made

	Resizes int    `json:"resizes,omitempty"` // a domain stamped with fewer is given MemoryMiB and VCPUs while it runs
	Disks   []Disk `json:"disks,omitempty"`   // the document is of version 2 then

	MaxVCPUs int `json:"max_vcpus,omitempty"` // that the domain is made with, so that more can be switched on later; 0: VCPUs

	Boot string `json:"boot,omitempty"` // BootDisk: from its xvda, by a boot loader of the boot image; empty: Kernel. VersionBoot
	Seed *Seed  `json:"seed,omitempty"` // what the guest's cloud-init is told; nil: nothing. VersionBoot
	NICs []NIC  `json:"nics,omitempty"` // by slot. VersionNICs
}

// BootDisk in Domain.Boot: the guest's own boot loader configuration on xvda says what is booted; Kernel and Ramdisk are empty.
const BootDisk = "disk"

// Seed is what a guest learns of itself from a small read-only disk in the form of cloud-init's NoCloud data source.
type Seed struct {
	Hostname string   `json:"hostname"`       // its own name
	Keys     []string `json:"keys,omitempty"` // SSH public keys, each a line of authorized_keys(5)
}

// Orphan is what should become of a domain that is not ours. Absent is all that can be wanted.
type Orphan struct {
	UUID string `json:"uuid"`
	Want string `json:"want"`
}

// Term tells a machine that the log is in a new term. Its generation alone has an effect: all documents of lower terms end.
type Term struct {
	Term uint64 `json:"term"` // that the log is in
}

// ErrVersion says that a document is of a version that this program does not read.
var ErrVersion = errors.New("document version is not known")

// Decode reads a document. What it returns has a machine, a boot, a kind and an id.
func Decode(b []byte) (Document, error) {
	var d Document
	if err := json.Unmarshal(b, &d); err != nil {
		return Document{}, fmt.Errorf("read document: %w", err)
	}
	if d.Version < 1 || d.Version > newest {
		return Document{}, fmt.Errorf("read document of version %d: %w", d.Version, ErrVersion)
	}
	if d.Machine == "" || d.Boot == "" || d.Kind == "" || d.ID == "" {
		return Document{}, errors.New("read document: machine, boot, kind and id must not be empty")
	}
	return d, nil
}

// Domain reads the body of a document of KindDomain.
func (d Document) Domain() (Domain, error) {
	var b Domain
	if d.Kind != KindDomain {
		return b, fmt.Errorf("read document %s/%s: not a domain", d.Kind, d.ID)
	}
	if err := json.Unmarshal(d.Body, &b); err != nil {
		return b, fmt.Errorf("read domain document %s: %w", d.ID, err)
	}
	return b, nil
}

package events

import (
	"encoding/json"
	"time"
)

// MaxRequest is the largest request body in bytes that the bus endpoints take; a larger one is answered with an error.
const MaxRequest = 256 << 10

// Expect is what the client saw when it resolved a name to an id. The decider refuses (code "changed") when it no longer holds.
type Expect struct {
	Name string `json:"name,omitempty"`
}

// Request is the body of an intent on do.<actor>.<kind>.<verb>.
type Request struct {
	ID          IntentID        `json:"id"` // UUIDv7 made by the client; the same again gives the first outcome again
	Args        json.RawMessage `json:"args"`
	Expect      *Expect         `json:"expect,omitempty"`
	Override    []string        `json:"override,omitempty"` // guards to override; needs a reason
	Cause       string          `json:"cause,omitempty"`
	Correlation string          `json:"correlation,omitempty"`
	Reason      string          `json:"reason,omitempty"` // permanent; no personal data
	DryRun      bool            `json:"dry_run,omitempty"`
}

// Answer is the reply to a Request or a report. It is sent after the decision was stored.
type Answer struct {
	ID      IntentID  `json:"id"`
	Number  uint64    `json:"number,omitempty"` // of the decision; 0 if nothing was stored (schema error, dry run, report of nothing new)
	Time    time.Time `json:"time,omitzero"`
	Outcome Outcome   `json:"outcome"`
	Events  []Event   `json:"events,omitempty"` // dry run: what would follow
}

// Codes of outcomes that are answered and not stored.
const (
	CodeInvalid      = "invalid"       // the request does not fit its schema; the message names the field
	CodeUnauthorized = "unauthorized"  // the actor may not do this at all
	CodeBusy         = "busy"          // the queue or the actor's rate is full: ask again with the same id
	CodeUnavailable  = "unavailable"   // no dispatcher decides now: ask again with the same id
	CodeIDReused     = "id_reused"     // the same id came with another body
	CodeIDTooOld     = "id_too_old"    // a UUIDv7 older than the index, and not found
	CodeNotFound     = "not_found"     // stored: the object does not exist
	CodeNameTaken    = "name_taken"    // stored
	CodeChanged      = "changed"       // stored: expect does not hold
	CodeConflict     = "conflict"      // stored: the object's state does not allow it
	CodeGuard        = "guard"         // stored: refused by the guard that Outcome.Guard names
	CodeNoCapacity   = "no_capacity"   // stored
	CodeForbidden    = "forbidden"     // stored: the actor's role or account does not allow it
	CodeStale        = "stale"         // a report of an older boot or counter
	CodeContradicts  = "contradicts"   // a report that contradicts a grant; stored
	CodeBadToken     = "bad_token"     // enrolment without a token that we served
	CodeTwoMachines  = "two_machines"  // a second machine claims an identity that is in use
	CodeNotSupported = "not_supported" // this version cannot do it
)

// ReadRequest is the body of read.<actor>.<kind>.<get|list>.
type ReadRequest struct {
	ID      string            `json:"id,omitempty"` // get: id, unique prefix of it, or name
	Account string            `json:"account,omitempty"`
	Filter  map[string]string `json:"filter,omitempty"`   // list: column = value
	Limit   int               `json:"limit,omitempty"`    // list: 1…1000, 0 = 100
	After   string            `json:"after,omitempty"`    // list: page on after this id
	WaitFor uint64            `json:"wait_for,omitempty"` // answer only when this decision is applied (read your writes)
	At      string            `json:"at,omitempty"`       // what was after the decision with this number, or at this time (RFC 3339); "now": at the log's end
}

// ReadAnswer is the reply to a ReadRequest.
type ReadAnswer struct {
	Applied uint64            `json:"applied"` // number of the last decision in what was read
	Items   []json.RawMessage `json:"items"`
	Next    string            `json:"next,omitempty"`
	Error   *Outcome          `json:"error,omitempty"`
}

// Enrol is the body of rep.<machine>.enrol: a machine's first word after a boot. The endpoint replaces Token by TokenSHA256.
type Enrol struct {
	Machine     MachineID `json:"machine"`
	Token       string    `json:"token,omitempty"`
	TokenSHA256 string    `json:"token_sha256,omitempty"`
	Boot        string    `json:"boot"` // /proc/sys/kernel/random/boot_id
	Key         string    `json:"key"`  // public nkey of this boot
	Image       string    `json:"image"`
	Inventory   Inventory `json:"inventory"`
}

// Report is the body of rep.<machine>.state: what a machine sees. A complete one lists every domain that is there.
type Report struct {
	Machine  MachineID      `json:"machine"`
	Boot     string         `json:"boot"`
	Counter  uint64         `json:"counter"` // rises with each new report of this boot; the same while it is repeated
	Complete bool           `json:"complete"`
	Term     uint64         `json:"term,omitempty"` // with Complete: nothing will be done any more that a document of a lower term asked for
	Capacity *Capacity      `json:"capacity,omitempty"`
	Domains  []DomainReport `json:"domains,omitempty"`
	Ended    []DomainEnded  `json:"ended,omitempty"`
	Steps    []StepFailed   `json:"steps,omitempty"`
}

// DomainReport is one domain as its host sees it. The stamp (VM, Epoch, Boot, Restarts) is read from xenstore, where no guest can write it.
type DomainReport struct {
	UUID           string `json:"uuid"`
	DomID          int    `json:"domid"`
	Name           string `json:"name"`
	Stamped        bool   `json:"stamped"`
	VM             VMID   `json:"vm,omitempty"`
	Epoch          Epoch  `json:"epoch,omitzero"`
	Boot           string `json:"boot,omitempty"`
	Restarts       int    `json:"restarts,omitempty"`
	State          string `json:"state"`                     // DomainRunning …
	ShutdownReason string `json:"shutdown_reason,omitempty"` // poweroff, reboot, suspend, crash, watchdog
	MemoryMiB      int    `json:"memory_mib"`
	VCPUs          int    `json:"vcpus"`
	Weight         int    `json:"weight,omitempty"`
	Resizes        int    `json:"resizes,omitempty"` // of its document, that were carried out
	Stale          bool   `json:"stale,omitempty"`   // its stamp is below the VM's epoch in DESIRED: it was paused at once and is being destroyed
}

// What a domain is seen to do.
const (
	DomainRunning  = "running" // runs or waits for an event
	DomainPaused   = "paused"
	DomainShutdown = "shutdown" // has shut down and is preserved; ShutdownReason says why
	DomainCrashed  = "crashed"
	DomainDying    = "dying"
	DomainAbsent   = "absent" // granted, and not in a complete report: said by the decider, never by a machine
)

// DomainEnded says that a domain of a grant is gone from this machine and that none of this grant will be made again.
// It is sent only by the boot that held the grant, after the toolstack was asked and answered.
type DomainEnded struct {
	VM         VMID       `json:"vm"`
	Epoch      Epoch      `json:"epoch"`
	Generation Generation `json:"generation"` // of the document that it obeyed
	How        string     `json:"how"`        // EndedDestroyed …

	Console Blob `json:"console,omitzero"` // the end of what its console printed: sent apart, see ReportConsole
}

// MaxConsoleTail bounds ConsoleTail.Data, in bytes.
const MaxConsoleTail = 64 << 10

// ConsoleTail is the end of what a VM's domains printed under one grant. A machine sends it before the report of that grant's end, which
// names it by its digest. What a guest prints is never stored in the log.
type ConsoleTail struct {
	Boot  string `json:"boot"`
	VM    VMID   `json:"vm"`
	Epoch Epoch  `json:"epoch"`
	Data  []byte `json:"data"`
}

// How a domain ended.
const (
	EndedDestroyed = "destroyed"
	EndedShutdown  = "shutdown" // the guest shut down in an orderly way first
	EndedAbsent    = "absent"   // there was none
)

// StepFailed tells of a step that a worker could not do.
type StepFailed struct {
	Object     Ref        `json:"object"`
	Generation Generation `json:"generation"`
	Step       string     `json:"step"`
	Message    string     `json:"message"`
	Retryable  bool       `json:"retryable"`
}

// Capacity is what a host can give to domains.
type Capacity struct {
	AllocatableMiB int      `json:"allocatable_mib"` // free in Xen after dom0 is up, minus the reserve
	PCPUs          int      `json:"pcpus"`
	XenVersion     string   `json:"xen_version"`
	Types          []string `json:"types"` // pv, pvh, hvm

	DeviceModels int `json:"device_models_mib,omitempty"` // of the control domain's memory, for all device models together
}

// Inventory is what a machine is made of.
type Inventory struct {
	Serial    string    `json:"serial,omitempty"`
	Product   string    `json:"product,omitempty"`
	CPUModel  string    `json:"cpu_model,omitempty"`
	CPUs      int       `json:"cpus"`
	MemoryMiB int       `json:"memory_mib"`
	NICs      []NIC     `json:"nics,omitempty"`
	Kernel    string    `json:"kernel,omitempty"`
	Capacity  *Capacity `json:"capacity,omitempty"` // a host's
}

// NIC is one network interface as ethtool tells of it.
type NIC struct {
	Name      string `json:"name"`
	MAC       string `json:"mac"`
	Driver    string `json:"driver,omitempty"`
	Link      bool   `json:"link"`
	SpeedMbps int    `json:"speed_mbps,omitempty"` // 0 = not known
}

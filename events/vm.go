package events

import "time"

// Domain types.
const (
	TypePV  = "pv"
	TypePVH = "pvh"
	TypeHVM = "hvm" // a whole emulated machine: it needs a device model in the host's control domain
)

// What is wanted of a VM. It is stored apart from the grant: a grant ends, the wish stays.
const (
	WantRunning = "running"
	WantPaused  = "paused"
	WantStopped = "stopped"
)

// How a VM is stopped.
const (
	StopShutdown = "shutdown" // the guest is asked; after the deadline it is destroyed
	StopDestroy  = "destroy"
)

// BootDisk in VMCreated.Boot: the guest boots from its SlotPrimary, by what is on that disk. Kernel, Ramdisk and Cmdline are empty.
const BootDisk = "disk"

// VMCreated makes a VM. It is stopped.
type VMCreated struct {
	Name         string     `json:"name"`
	Account      AccountID  `json:"account"`
	Type         string     `json:"type"`
	VCPUs        int        `json:"vcpus"`
	MemoryMiB    int        `json:"memory_mib"`
	Weight       int        `json:"weight"` // credit scheduler: GiB of RAM, rounded up, at least 1
	Template     TemplateID `json:"template"`
	TemplateName string     `json:"template_name"`
	Kernel       Blob       `json:"kernel"`
	Ramdisk      Blob       `json:"ramdisk,omitzero"`
	Cmdline      string     `json:"cmdline,omitempty"`
	MaxVCPUs     int        `json:"max_vcpus,omitempty"` // up to which vCPUs can be added while it runs; 0: VCPUs
	Boot         string     `json:"boot,omitempty"`      // BootDisk; empty: Kernel is started
	Keys         []string   `json:"keys,omitempty"`      // SSH public keys that the guest is told, each a line of authorized_keys(5)
}

// EventType gives the wire name.
func (VMCreated) EventType() string { return "vm.created.v1" }

// VMDeleted ends a VM that has no grant.
type VMDeleted struct{}

// EventType gives the wire name.
func (VMDeleted) EventType() string { return "vm.deleted.v1" }

// VMRunWanted says what is wanted from now on. Once WantStopped was said of a live grant, that grant is ending and never runs again:
// a later WantRunning is for the next grant.
type VMRunWanted struct {
	Want string `json:"want"`
	Stop string `json:"stop,omitempty"` // WantStopped: how
	By   string `json:"by,omitempty"`   // guest: the guest shut itself down; empty: the actor

	Deadline time.Time `json:"deadline,omitzero"` // StopShutdown: when the domain is destroyed if the guest has not shut down
}

// EventType gives the wire name.
func (VMRunWanted) EventType() string { return "vm.run_wanted.v1" }

// VMRunGranted lets one boot of one host run the VM, under an epoch. There is never a second live one.
type VMRunGranted struct {
	Host        MachineID `json:"host"`
	HostName    string    `json:"host_name"`
	Boot        string    `json:"boot"`
	Epoch       Epoch     `json:"epoch"`
	MemoryMiB   int       `json:"memory_mib"`
	OverheadMiB int       `json:"overhead_mib"` // what the hypervisor needs on top
	VCPUs       int       `json:"vcpus"`
	MaxVCPUs    int       `json:"max_vcpus,omitempty"`        // that its domain is made with; 0: VCPUs
	DeviceModel int       `json:"device_model_mib,omitempty"` // of the control domain's memory, for an HVM domain's device model
	Resizes     int       `json:"resizes,omitempty"`          // that its domain has had: of a grant that is taken back
	Adopt       string    `json:"adopt,omitempty"`            // UUID of an orphan that becomes this VM's domain
	Scores      []Score   `json:"scores,omitempty"`           // why this host; at most 16
	Rest        int       `json:"rest,omitempty"`             // hosts that are not listed
}

// Score is one host's row in a placement.
type Score struct {
	Host    MachineID `json:"host"`
	Name    string    `json:"name"`
	FreeMiB int       `json:"free_mib"`
	Score   int       `json:"score"`             // higher is better; 0 with Refused
	Refused string    `json:"refused,omitempty"` // why not
}

// EventType gives the wire name.
func (VMRunGranted) EventType() string { return "vm.run_granted.v1" }

// Proofs that a grant is over.
const (
	ProofCleanEnd = "clean_end" // reported by the boot that held it
	ProofPowerOff = "power_off" // read back twice through a BMC proven healthy earlier
	ProofNewBoot  = "new_boot"  // a new boot of the machine, proven by us
	ProofOverride = "override"  // a human's word, by name
)

// VMGrantEnded says that the grant is over, and what proves it.
type VMGrantEnded struct {
	Host  MachineID `json:"host"`
	Boot  string    `json:"boot"`
	Epoch Epoch     `json:"epoch"`
	Proof string    `json:"proof"`
	How   string    `json:"how,omitempty"` // clean end: EndedDestroyed …

	Console Blob `json:"console,omitzero"` // the end of what its console printed, as its host says; kept for a while outside the log
}

// EventType gives the wire name.
func (VMGrantEnded) EventType() string { return "vm.grant_ended.v1" }

// VMDomainObserved says what the host sees of the VM's domain, recorded when it changes.
type VMDomainObserved struct {
	Host           MachineID `json:"host"`
	Epoch          Epoch     `json:"epoch"`
	DomID          int       `json:"domid"`
	State          string    `json:"state"` // DomainRunning …
	ShutdownReason string    `json:"shutdown_reason,omitempty"`
	MemoryMiB      int       `json:"memory_mib"`
	VCPUs          int       `json:"vcpus"`
	Weight         int       `json:"weight,omitempty"`
	Restarts       int       `json:"restarts,omitempty"`
}

// EventType gives the wire name.
func (VMDomainObserved) EventType() string { return "vm.domain_observed.v1" }

// VMStepFailed says that the host could not do a step for the VM. Recorded when the message changes.
type VMStepFailed struct {
	Host      MachineID `json:"host"`
	Epoch     Epoch     `json:"epoch"`
	Step      string    `json:"step"`
	Message   string    `json:"message"`
	Retryable bool      `json:"retryable"`
}

// EventType gives the wire name.
func (VMStepFailed) EventType() string { return "vm.step_failed.v1" }

// VMRestartWanted asks for one more restart under the same grant: a level, not an edge.
type VMRestartWanted struct {
	Restarts int `json:"restarts"`
}

// EventType gives the wire name.
func (VMRestartWanted) EventType() string { return "vm.restart_wanted.v1" }

// VMBecameUnknown says that nobody knows what the VM's domain does: its host is silent. It counts as running.
type VMBecameUnknown struct {
	Host MachineID `json:"host"`
}

// EventType gives the wire name.
func (VMBecameUnknown) EventType() string { return "vm.became_unknown.v1" }

// VMBecameKnown says that a VM is not Unknown any more: its host reports again, from the same boot.
type VMBecameKnown struct {
	Host MachineID `json:"host"`
}

// EventType gives the wire name.
func (VMBecameKnown) EventType() string { return "vm.became_known.v1" }

// VMStaleDomainFound says that a host runs, or ran, a domain of this VM under an older epoch. The host pauses and destroys it at once. Loud.
type VMStaleDomainFound struct {
	Host  MachineID `json:"host"`
	Boot  string    `json:"boot"`
	Epoch Epoch     `json:"epoch"` // of its stamp
	State string    `json:"state"`
}

// EventType gives the wire name.
func (VMStaleDomainFound) EventType() string { return "vm.stale_domain_found.v1" }

// VMStaleDomainEnded says that a domain of an older epoch is gone.
type VMStaleDomainEnded struct {
	Host  MachineID `json:"host"`
	Boot  string    `json:"boot"`
	Epoch Epoch     `json:"epoch"`
}

// EventType gives the wire name.
func (VMStaleDomainEnded) EventType() string { return "vm.stale_domain_ended.v1" }

package projections

import (
	"encoding/json"
	"time"

	"cloudengine/events"
)

// What a VM does, as far as is known.
const (
	VMStopped  = "stopped"  // no grant, none wanted
	VMWaiting  = "waiting"  // wanted, but no host may run it yet: no proof of the last end, or no capacity
	VMStarting = "starting" // granted; its domain does not run yet, or is being made again
	VMRunning  = "running"
	VMPaused   = "paused"
	VMStopping = "stopping" // its end is wanted, or it has shut down and its domain is being removed
	VMCrashed  = "crashed"
	VMUnknown  = "unknown" // its host is silent; it counts as running
)

// What a VM boots from.
const (
	BootsKernel = "kernel" // its template's kernel and ramdisk
	BootsDisk   = "disk"   // its disk xvda
)

// VM is a row of vms.
type VM struct {
	ID              string          `json:"id"`
	Name            string          `json:"name"`
	Account         string          `json:"account"`
	AccountName     *string         `json:"account_name"`
	State           string          `json:"state"`
	Wanted          string          `json:"wanted"`
	Ending          *string         `json:"ending"`
	WantedBy        *string         `json:"wanted_by"`
	Type            string          `json:"type"`
	VCPUs           int             `json:"vcpus"`
	MemoryMiB       int             `json:"memory_mib"`
	Weight          int             `json:"weight"`
	Template        string          `json:"template"`
	TemplateName    string          `json:"template_name"`
	Cmdline         *string         `json:"cmdline"`
	Host            *string         `json:"host"`
	HostName        *string         `json:"host_name"`
	Boot            *string         `json:"boot"`
	Epoch           *string         `json:"epoch"`
	OverheadMiB     *int            `json:"overhead_mib"`
	DomID           *int            `json:"domid"`
	DomainState     *string         `json:"domain_state"`
	ShutdownReason  *string         `json:"shutdown_reason"`
	DomainMemoryMiB *int            `json:"domain_memory_mib"`
	DomainVCPUs     *int            `json:"domain_vcpus"`
	DomainWeight    *int            `json:"domain_weight"`
	MaxVCPUs        *int            `json:"max_vcpus"`
	ConsoleSHA256   *string         `json:"console_sha256"`
	ConsoleSize     *int64          `json:"console_size"`
	ConsoleAt       *time.Time      `json:"console_at"`
	Restarts        int             `json:"restarts"`
	RestartsWanted  int             `json:"restarts_wanted"`
	RunningSince    *time.Time      `json:"running_since"`
	UnknownSince    *time.Time      `json:"unknown_since"`
	StaleHost       *string         `json:"stale_host"`
	Message         *string         `json:"message"`
	BootsFrom       string          `json:"boots_from"`
	Keys            json.RawMessage `json:"ssh_keys"`
	CreatedAt       time.Time       `json:"created_at"`
	ChangedBy       uint64          `json:"changed_by"`
	ChangedAt       time.Time       `json:"changed_at"`
}

var vmTable = newTable[VM]("vms")

var vms = &Model{
	Kind: events.KindVM, Table: vmTable, Scope: ScopeOwn, Named: "name", event: vmEvent,
	Reads: []string{"vm.created.v1", "vm.deleted.v1", "vm.run_wanted.v1", "vm.run_granted.v1", "vm.grant_ended.v1", "vm.domain_observed.v1",
		"vm.step_failed.v1", "vm.restart_wanted.v1", "vm.became_unknown.v1", "vm.became_known.v1", "vm.stale_domain_found.v1", "vm.stale_domain_ended.v1", "vm.resized.v1"},
}

func vmEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.VMCreated:
		return vmCreated(f, id, d)
	case events.VMDeleted:
		f.delete(vmTable, id)
		return nil
	}
	return change(f, vmTable, id, func(v *VM) {
		vmChanged(v, e.Data, f.now())
		v.State = vmState(v)
	})
}

func vmCreated(f *fold, id string, d events.VMCreated) error {
	account, err := lookup[Account](f, accountTable, string(d.Account))
	if err != nil {
		return err
	}
	v := &VM{ID: id, Name: d.Name, Account: string(d.Account), State: VMStopped, Wanted: events.WantStopped, Type: d.Type, VCPUs: d.VCPUs,
		MemoryMiB: d.MemoryMiB, Weight: d.Weight, Template: string(d.Template), TemplateName: d.TemplateName, Cmdline: known(d.Cmdline), CreatedAt: f.now(), MaxVCPUs: known(d.MaxVCPUs), BootsFrom: BootsKernel}
	if d.Boot == events.BootDisk {
		v.BootsFrom, v.Keys = BootsDisk, asJSON(d.Keys)
	}
	if account != nil {
		v.AccountName = &account.Name
	}
	f.put(vmTable, id, v)
	return nil
}

func vmChanged(v *VM, data events.Payload, now time.Time) {
	switch d := data.(type) {
	case events.VMRunWanted:
		v.Wanted, v.WantedBy = d.Want, known(d.By)
		if d.Want == events.WantStopped && v.Host != nil { // a grant that was told to end never runs again
			v.Ending = &d.Stop
		}
	case events.VMRunGranted:
		vmNoDomain(v)
		epoch, overhead := d.Epoch.String(), d.OverheadMiB
		v.Host, v.HostName, v.Boot, v.Epoch, v.OverheadMiB = known(string(d.Host)), known(d.HostName), known(d.Boot), &epoch, &overhead
		v.Message = nil
	case events.VMGrantEnded:
		vmNoDomain(v)
		v.Host, v.HostName, v.Boot, v.OverheadMiB = nil, nil, nil, nil // the epoch stays: it is the last one
		v.ConsoleSHA256, v.ConsoleSize, v.ConsoleAt = known(d.Console.SHA256), known(d.Console.Size), nil
		if d.Console.SHA256 != "" {
			v.ConsoleAt = &now
		}
	case events.VMResized:
		v.MemoryMiB, v.VCPUs, v.Weight, v.MaxVCPUs = d.MemoryMiB, d.VCPUs, d.Weight, known(d.MaxVCPUs)
	case events.VMDomainObserved:
		vmObserved(v, d, now)
	case events.VMStepFailed:
		v.Message = known(d.Step + ": " + d.Message)
	case events.VMRestartWanted:
		v.RestartsWanted = d.Restarts
	case events.VMBecameUnknown:
		v.UnknownSince = &now
	case events.VMBecameKnown:
		v.UnknownSince = nil
	case events.VMStaleDomainFound:
		v.StaleHost = known(string(d.Host))
	case events.VMStaleDomainEnded:
		v.StaleHost = nil
	}
}

// vmNoDomain forgets what was seen of the VM's domain.
func vmNoDomain(v *VM) {
	v.DomID, v.DomainState, v.ShutdownReason, v.DomainMemoryMiB, v.DomainVCPUs, v.DomainWeight = nil, nil, nil, nil, nil, nil
	v.Restarts, v.RestartsWanted, v.RunningSince, v.UnknownSince, v.Ending = 0, 0, nil, nil, nil
}

func vmObserved(v *VM, d events.VMDomainObserved, now time.Time) {
	if v.Host == nil || v.Epoch == nil || *v.Epoch != d.Epoch.String() {
		return // of a grant that is over
	}
	v.DomID, v.DomainState, v.ShutdownReason = &d.DomID, known(d.State), known(d.ShutdownReason)
	if d.State == events.DomainAbsent {
		v.DomID = nil
	}
	v.DomainMemoryMiB, v.DomainVCPUs, v.DomainWeight = known(d.MemoryMiB), known(d.VCPUs), known(d.Weight)
	if d.Restarts != v.Restarts {
		v.RunningSince = nil
	}
	v.Restarts = d.Restarts
	if d.State == events.DomainRunning {
		v.Message = nil
		if v.RunningSince == nil {
			v.RunningSince = &now
		}
	}
}

// vmState sums up what is known in one word.
func vmState(v *VM) string {
	switch {
	case v.Host == nil && v.Wanted == events.WantStopped:
		return VMStopped
	case v.Host == nil:
		return VMWaiting
	case v.UnknownSince != nil:
		return VMUnknown
	case v.Ending != nil:
		return VMStopping
	case v.DomainState == nil:
		return VMStarting
	}
	switch *v.DomainState {
	case events.DomainRunning:
		return VMRunning
	case events.DomainPaused:
		if v.Wanted == events.WantRunning && v.RunningSince == nil {
			return VMStarting // made paused, not let run yet
		}
		return VMPaused
	case events.DomainCrashed:
		return VMCrashed
	case events.DomainAbsent:
		return VMStarting // its host has the grant, and makes it again
	case events.DomainShutdown:
		return vmShutState(v)
	}
	return VMStopping
}

func vmShutState(v *VM) string {
	if v.ShutdownReason == nil {
		return VMStopping
	}
	switch *v.ShutdownReason {
	case "reboot":
		return VMStarting
	case "crash", "watchdog":
		return VMCrashed
	}
	return VMStopping
}

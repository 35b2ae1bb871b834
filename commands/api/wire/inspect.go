package wire

import "cloudengine/events"

// InspectSubject is where a host is asked live.
func InspectSubject(actor string) string { return "console." + actor + ".host" }

// InspectRequest is the body of console.<actor>.host.
type InspectRequest struct {
	Host    events.MachineID `json:"host"`              // id, unique beginning of one, or name
	Usage   bool             `json:"usage,omitempty"`   // tell only what its processors did, and list no domains
	All     bool             `json:"all,omitempty"`     // tell all that the machine knows
	Storage bool             `json:"storage,omitempty"` // tell what it sees of storage, and list no domains

	Networks bool `json:"networks,omitempty"` // tell what it sees of networks, and list no domains
}

// InspectAnswer is the reply: every domain but dom0 as the host's tools and xenstore say now.
type InspectAnswer struct {
	Host    events.MachineID      `json:"host,omitempty"`
	Boot    string                `json:"boot,omitempty"`
	Domains []events.DomainReport `json:"domains"`
	Usage   *Usage                `json:"usage,omitempty"`   // if it was asked for
	Whole   *Whole                `json:"whole,omitempty"`   // if all was asked for, by an agent that knows the question
	Storage *events.StorageReport `json:"storage,omitempty"` // if it was asked for, by an agent that knows the question
	Maps    []events.MappedReport `json:"maps,omitzero"`     // with it, by a host: devices of volumes, perhaps none
	Error   *events.Outcome       `json:"error,omitempty"`

	Networks *events.NetworksReport `json:"networks,omitempty"` // if it was asked for, by an agent that knows the question
}

// Usage says what a host's processors did so far, in milliseconds.
type Usage struct {
	UptimeMS int64 `json:"uptime_ms"` // since the machine's boot
	AgentMS  int64 `json:"agent_ms"`  // CPU time of the agent, since its start
	ToolsMS  int64 `json:"tools_ms"`  // CPU time of the programs that it ran (xl)
	Dom0MS   int64 `json:"dom0_ms"`   // CPU time of the whole control domain; 0 on a modelled host
	GuestsMS int64 `json:"guests_ms"` // CPU time of the domains that are there now
	PCPUs    int   `json:"pcpus"`
}

// Whole is what a host tells beside its domains when all is asked for.
type Whole struct {
	Stamps     []events.StampReport    `json:"stamps"`         // all, also those whose domain is gone
	Documents  []events.DocumentReport `json:"documents"`      // that the agent holds and obeys
	Busy       []events.Ref            `json:"busy,omitempty"` // objects whose steps were under way just before the look
	Hypervisor events.HypervisorReport `json:"hypervisor"`
	Image      string                  `json:"image"` // version of the boot image
}

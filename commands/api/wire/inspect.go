package wire

import "cloudengine/events"

// InspectSubject is where a host is asked live.
func InspectSubject(actor string) string { return "console." + actor + ".host" }

// InspectRequest is the body of console.<actor>.host.
type InspectRequest struct {
	Host events.MachineID `json:"host"` // id, unique beginning of one, or name
}

// InspectAnswer is the reply: every domain but dom0 as the host's tools and xenstore say now.
type InspectAnswer struct {
	Host    events.MachineID      `json:"host,omitempty"`
	Boot    string                `json:"boot,omitempty"`
	Domains []events.DomainReport `json:"domains"`
	Error   *events.Outcome       `json:"error,omitempty"`
}

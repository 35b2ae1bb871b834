package events

// HostRegistered says what a host can give, found at the enrolment of a boot or changed later.
type HostRegistered struct {
	Name     string   `json:"name"` // of the machine
	Boot     string   `json:"boot"`
	Capacity Capacity `json:"capacity"`
}

// EventType gives the wire name.
func (HostRegistered) EventType() string { return "host.registered.v1" }

// HostReady says that a host's boot has reported completely: from now on grants may be given on it.
type HostReady struct {
	Boot string `json:"boot"`
	Term uint64 `json:"term"`
}

// EventType gives the wire name.
func (HostReady) EventType() string { return "host.ready.v1" }

// HostCordoned takes a host out of placement; what runs goes on.
type HostCordoned struct{}

// EventType gives the wire name.
func (HostCordoned) EventType() string { return "host.cordoned.v1" }

// HostUncordoned puts a host back into placement.
type HostUncordoned struct{}

// EventType gives the wire name.
func (HostUncordoned) EventType() string { return "host.uncordoned.v1" }

// HostOrphanFound says that a domain is there that has no stamp, or a stamp that we do not know. It is left alone. It comes again when
// the domain looks different.
type HostOrphanFound struct {
	Boot   string       `json:"boot"`
	Domain DomainReport `json:"domain"`
}

// EventType gives the wire name.
func (HostOrphanFound) EventType() string { return "host.orphan_found.v1" }

// HostOrphanGone says that an orphan is not there any more, by a complete report.
type HostOrphanGone struct {
	Boot string `json:"boot"`
	UUID string `json:"uuid"`
}

// EventType gives the wire name.
func (HostOrphanGone) EventType() string { return "host.orphan_gone.v1" }

// HostOrphanStopWanted asks for the end of an orphan.
type HostOrphanStopWanted struct {
	Boot string `json:"boot"`
	UUID string `json:"uuid"`
}

// EventType gives the wire name.
func (HostOrphanStopWanted) EventType() string { return "host.orphan_stop_wanted.v1" }

package events

// VMResized says how large the VM shall be from its next start on.
type VMResized struct {
	MemoryMiB int `json:"memory_mib"`
	VCPUs     int `json:"vcpus"`
	Weight    int `json:"weight"`
	MaxVCPUs  int `json:"max_vcpus,omitempty"` // 0: VCPUs
}

// EventType gives the wire name.
func (VMResized) EventType() string { return "vm.resized.v1" }

// VMGrantResized changes what a live grant's domain shall have, and what the grant is counted with. What is counted rises in the very
// decision that lets the domain grow, and falls only when the host has reported the domain as smaller.
type VMGrantResized struct {
	Host      MachineID `json:"host"`
	Epoch     Epoch     `json:"epoch"`
	MemoryMiB int       `json:"memory_mib"` // that its domain shall have
	VCPUs     int       `json:"vcpus"`
	Resizes   int       `json:"resizes"`     // how often this grant was resized: a report that knows of fewer says nothing about this size
	Counted   int       `json:"counted_mib"` // RAM that the grant is counted with, besides its overhead: never less than the domain may have
}

// EventType gives the wire name.
func (VMGrantResized) EventType() string { return "vm.grant_resized.v1" }

package events

// Whether a host can reach an array.
const (
	PathUsable = "usable" // I/O gets there
	PathLost   = "lost"   // it did, and gets nowhere now: it waits
)

// ArrayPathObserved says whether a host can reach the array. The first word of a host under an owner is that it can: one that is still
// logging in has lost nothing. What was said counts no more under another owner, or after the host's boot.
type ArrayPathObserved struct {
	Host  MachineID `json:"host"`
	Boot  string    `json:"boot"`
	State string    `json:"state"` // PathUsable or PathLost
}

// EventType gives the wire name.
func (ArrayPathObserved) EventType() string { return "array.path_observed.v1" }

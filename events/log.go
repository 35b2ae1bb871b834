package events

// LogOpened starts a term of the log: the first decision of all, and the first after a restore or a reopening after loss.
// After a new term nothing is granted on a machine that has not reported completely.
type LogOpened struct {
	Term  uint64 `json:"term"`
	Cause string `json:"cause"` // created, restored, reopened
}

// EventType gives the wire name.
func (LogOpened) EventType() string { return "log.opened.v1" }

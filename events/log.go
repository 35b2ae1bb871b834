package events

// LogOpened starts a term of the log: the first decision of all, and the first after a restore or a reopening after loss.
// After a new term nothing is granted on a machine that has not reported completely.
type LogOpened struct {
	Term  uint64 `json:"term"`
	Cause string `json:"cause"` // created, restored, reopened
}

// EventType gives the wire name.
func (LogOpened) EventType() string { return "log.opened.v1" }

// Causes of a new term.
const (
	CauseCreated  = "created"
	CauseRestored = "restored" // from a backup: what was decided after it is lost
	CauseReopened = "reopened" // after the loss of the log's end
)

// LogSettled ends the time after a restore or a reopening in which nothing is started: all machines have said what they run, and what the
// lost part of the log had granted is dealt with, or a human says so.
type LogSettled struct {
	Term       uint64      `json:"term"`
	Unreported []MachineID `json:"unreported,omitempty"` // enrolled, and not heard of in this term: a human's word stands for them
}

// EventType gives the wire name.
func (LogSettled) EventType() string { return "log.settled.v1" }

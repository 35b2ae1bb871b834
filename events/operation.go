package events

import "time"

// OperationStarted says that what an accepted intent asked for goes on. The operation has the intent's id.
type OperationStarted struct {
	Object   Ref       `json:"object"`
	Verb     string    `json:"verb"`
	Deadline time.Time `json:"deadline"` // then it times out; a time-out ends the operation, never a grant
}

// EventType gives the wire name.
func (OperationStarted) EventType() string { return "operation.started.v1" }

// OperationDone says that what the operation was for is so now.
type OperationDone struct {
	Message string `json:"message,omitempty"`
}

// EventType gives the wire name.
func (OperationDone) EventType() string { return "operation.done.v1" }

// OperationFailed says that what the operation was for will not come, and why.
type OperationFailed struct {
	Message string `json:"message"`
}

// EventType gives the wire name.
func (OperationFailed) EventType() string { return "operation.failed.v1" }

// OperationTimedOut says that the deadline of an operation has passed. The wish stays, and may still come true.
type OperationTimedOut struct{}

// EventType gives the wire name.
func (OperationTimedOut) EventType() string { return "operation.timed_out.v1" }

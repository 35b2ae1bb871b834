package wire

import (
	"cloudengine/events"
	"cloudengine/projections/history"
)

// HistoryRequest is the body of read.<actor>.log.history.
type HistoryRequest struct {
	Kind  events.Kind `json:"kind"`            // vm, machine, host, template, account or operation
	ID    string      `json:"id"`              // whole
	After uint64      `json:"after,omitempty"` // page on after this decision
	Limit int         `json:"limit,omitempty"` // 1…1000, 0 = 100

	Last   int    `json:"last,omitempty"`   // 1…1000: the last so many, in the place of after and limit
	Before uint64 `json:"before,omitempty"` // with last: of those before this decision
}

// WhyRequest is the body of read.<actor>.log.why: number, or intent, or kind and id of an object.
type WhyRequest struct {
	Number uint64          `json:"number,omitempty"`
	Intent events.IntentID `json:"intent,omitempty"`
	Kind   events.Kind     `json:"kind,omitempty"`
	ID     string          `json:"id,omitempty"`
	After  uint64          `json:"after,omitempty"` // page on after this decision
	Limit  int             `json:"limit,omitempty"` // 1…1000, 0 = 100
}

// HistoryAnswer is the reply to both.
type HistoryAnswer struct {
	Applied uint64          `json:"applied"`          // number of the last decision that was read
	Target  uint64          `json:"target,omitempty"` // why: the decision that is explained
	Items   []history.Entry `json:"items"`            // in the order of the log
	Next    uint64          `json:"next,omitempty"`   // ask again with after = next; 0: that was all
	Prev    uint64          `json:"prev,omitempty"`   // with last: ask again with before = prev for what was earlier; 0: that was all
	Error   *events.Outcome `json:"error,omitempty"`
}

// HistorySubject is where a user asks what happened to an object.
func HistorySubject(actor string) string { return "read." + actor + ".log.history" }

// WhySubject is where a user asks why something is so.
func WhySubject(actor string) string { return "read." + actor + ".log.why" }

package wire

import (
	"time"

	"cloudengine/events"
)

// ProjectionStatusSubject is where operators of the platform ask how the read models are. The body is {}.
func ProjectionStatusSubject(actor string) string { return "read." + actor + ".projection.status" }

// ParkedSubject is where operators of the platform ask which events are parked or were dropped.
func ParkedSubject(actor string) string { return "read." + actor + ".projection.parked" }

// ProjectionSubject is where administrators of the platform have the read models rebuilt or forked, and parked events retried or dropped.
func ProjectionSubject(actor string) string { return "put." + actor + ".projection" }

// What a ProjectionRequest can ask for.
const (
	ProjectionRebuild  = "rebuild"   // build the read models anew beside the present ones, and swap
	ProjectionFork     = "fork"      // build those of a moment in another schema
	ProjectionDropFork = "drop_fork" // remove such a schema
	ProjectionRetry    = "retry"     // rebuild, if a parked object goes on then
	ProjectionDrop     = "drop"      // rebuild without the event that parked an object
)

// ProjectionRequest is the body of put.<actor>.projection. The work goes on after the answer; the status tells of it.
type ProjectionRequest struct {
	ID     string      `json:"id"` // that you make: asked for again with the same one, the same work is told of
	Action string      `json:"action"`
	Schema string      `json:"schema,omitempty"` // fork, drop_fork
	Until  string      `json:"until,omitempty"`  // fork: number of a decision, or time in RFC 3339
	Kind   events.Kind `json:"kind,omitempty"`   // retry, drop: the parked object
	Object string      `json:"object,omitempty"` // its id
	Reason string      `json:"reason,omitempty"` // drop: why; kept with the event
}

// ProjectionAnswer is the reply: what was begun.
type ProjectionAnswer struct {
	Job   *ProjectionJob  `json:"job,omitempty"`
	Error *events.Outcome `json:"error,omitempty"`
}

// ProjectionJob is work on the read models. One runs at a time.
type ProjectionJob struct {
	ID      string            `json:"id"` // of its request
	Request ProjectionRequest `json:"request"`
	By      string            `json:"by"`
	Began   time.Time         `json:"began"`
	Phase   string            `json:"phase"`               // fold, load, catch up, swap, done
	Done    bool              `json:"done"`                // it is over; with an error, nothing was changed
	Number  uint64            `json:"decisions,omitempty"` // last decision that is in the new tables
	Head    uint64            `json:"head,omitempty"`      // decisions that the log had when it began
	Loaded  uint64            `json:"loaded,omitempty"`    // rows
	Rows    uint64            `json:"rows,omitempty"`      // rows to load; 0: not known yet
	Rate    float64           `json:"rate,omitempty"`      // decisions per second; while loading, rows
	Took    float64           `json:"took_s"`              // seconds
	Left    float64           `json:"left_s,omitempty"`    // seconds until it is over, as it seems; 0: not known
	Parked  int               `json:"parked,omitempty"`    // objects that are parked in the new tables
	Error   *events.Outcome   `json:"error,omitempty"`
}

// ProjectionModel says how one read model is.
type ProjectionModel struct {
	Kind   events.Kind `json:"kind"`
	Table  string      `json:"table"`
	Rows   uint64      `json:"rows"`
	Parked int         `json:"parked"` // objects
}

// ProjectionForkInfo is a schema with the read models of a moment.
type ProjectionForkInfo struct {
	Schema string     `json:"schema"`
	Until  uint64     `json:"until"` // 0: it is not whole
	Made   *time.Time `json:"made_at,omitempty"`
}

// ProjectionStatus is the reply about the read models of the server that answers.
type ProjectionStatus struct {
	Schema       string               `json:"schema"`
	Applied      uint64               `json:"applied"` // last decision in the rows
	Head         uint64               `json:"head"`    // last decision in the log
	LagDecisions uint64               `json:"lag_decisions"`
	LagSeconds   float64              `json:"lag_seconds"` // age of the first decision that is not in the rows
	Version      string               `json:"version"`     // digest of the tables and of the events that they know
	Wanted       string               `json:"wanted_version"`
	Models       []ProjectionModel    `json:"models"`
	Parked       int                  `json:"parked"`  // objects
	Waiting      int                  `json:"waiting"` // parked events
	Dropped      int                  `json:"dropped"` // events that were given up
	Forks        []ProjectionForkInfo `json:"forks"`
	Job          *ProjectionJob       `json:"job,omitempty"` // the present one, or the last since the server started
	Error        *events.Outcome      `json:"error,omitempty"`
}

// ParkedRequest is the body of read.<actor>.projection.parked.
type ParkedRequest struct {
	Kind   events.Kind `json:"kind,omitempty"`   // with Object: all parked events of one object
	Object string      `json:"object,omitempty"` // id, or unique beginning of one
	Limit  int         `json:"limit,omitempty"`  // 1…1000, 0 = 100
}

// ParkedEvent is an event that could not be applied.
type ParkedEvent struct {
	Number  uint64      `json:"number"` // of the decision
	Index   int         `json:"index"`  // of the event in it; -1: the decision itself
	Kind    events.Kind `json:"kind"`
	Object  string      `json:"object"`
	Type    string      `json:"type"`
	Error   string      `json:"error"` // why it could not be applied
	First   bool        `json:"first"` // it is why its object is parked
	Behind  int         `json:"behind,omitempty"`
	Time    *time.Time  `json:"time,omitempty"`       // of the decision
	Dropped *time.Time  `json:"dropped_at,omitempty"` // it was given up
	By      string      `json:"dropped_by,omitempty"`
	Reason  string      `json:"reason,omitempty"` // why it was given up
}

// ParkedAnswer is the reply: of each parked object the event that parked it, or all events of one object; and what was dropped.
type ParkedAnswer struct {
	Items   []ParkedEvent   `json:"items"`
	Dropped []ParkedEvent   `json:"dropped"`
	More    bool            `json:"more,omitempty"` // there are more than the limit
	Error   *events.Outcome `json:"error,omitempty"`
}

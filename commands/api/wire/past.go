package wire

import (
	"cloudengine/events"
	"cloudengine/projections/read"
)

// DiffSubject is where a user asks what differs between two moments.
func DiffSubject(actor string) string { return "read." + actor + ".log.diff" }

// EventsSubject is where a user asks for events of the log, page by page.
func EventsSubject(actor string) string { return "read." + actor + ".log.events" }

// DiffRequest is the body of read.<actor>.log.diff: kind and id of an object, or an account, or neither for all.
type DiffRequest struct {
	Kind    events.Kind      `json:"kind,omitempty"`
	ID      string           `json:"id,omitempty"` // whole
	Account events.AccountID `json:"account,omitempty"`
	From    string           `json:"from"`            // number of a decision, time in RFC 3339, or "now"
	To      string           `json:"to,omitempty"`    // the same; empty: now
	After   string           `json:"after,omitempty"` // page on: the next of the page before
	Limit   int              `json:"limit,omitempty"` // 1…1000, 0 = 100
}

// DiffAnswer is the reply.
type DiffAnswer struct {
	From  uint64          `json:"from"` // the decisions whose states were compared
	To    uint64          `json:"to"`
	Items []read.RowDiff  `json:"items"`          // by kind, then by id
	Next  string          `json:"next,omitempty"` // ask again with after = next, and with from and to of this answer; empty: that was all
	Error *events.Outcome `json:"error,omitempty"`
}

// EventsRequest is the body of read.<actor>.log.events.
type EventsRequest struct {
	From  string      `json:"from"`            // begin with the decision of this number, at this time (RFC 3339), or after the last one: "now"
	Index int         `json:"index,omitempty"` // begin with this event of the first decision
	Kind  events.Kind `json:"kind,omitempty"`  // only events of objects of this kind
	ID    string      `json:"id,omitempty"`    // and of this one (whole)
	Limit int         `json:"limit,omitempty"` // 1…1000 events, 0 = 100
}

// EventsAnswer is the reply. Items may be empty before the end of the log: one answer looks at a part of it.
type EventsAnswer struct {
	Items []events.FeedMessage `json:"items"`           // in the order of the log, as on FEED
	Next  uint64               `json:"next"`            // ask again with from = next and index, for what follows and what is to come
	Index int                  `json:"index,omitempty"` // with next
	End   bool                 `json:"end,omitempty"`   // that was all, for now
	Time  string               `json:"time,omitempty"`  // RFC 3339: of the last decision that was looked at
	Feed  bool                 `json:"feed,omitempty"`  // who asks may go on with FEED
	Error *events.Outcome      `json:"error,omitempty"`
}

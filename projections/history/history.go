// Package history selects from the log what happened to one object, and explains what led to a decision and what followed from it.
//
// It promises that nothing is inferred: an object's history is what its events say and what was refused about it by name, and a
// decision follows from another only if it names that one's number, operation, run epoch, boot token or boot. Who belongs to an account
// is shown only what is the account's (Scope). Links are between whole decisions: one that tells of several runs, such as a new boot of a
// host, joins their explanations. The package does no I/O, keeps no copy of the log and knows no names of objects; its
// types are for one goroutine at a time.
package history

import (
	"encoding/json"
	"time"

	"cloudengine/events"
)

// Entry is one decision as it is shown to someone.
type Entry struct {
	Number uint64    `json:"number"`
	Term   uint64    `json:"term"`
	Time   time.Time `json:"time"`
	events.Decision
	Withheld bool   `json:"withheld,omitempty"` // parts are left out: they are not for who asks, or too large for one answer
	From     []Link `json:"from,omitempty"`     // the decisions that this one follows from; only in an explanation
}

func entryOf(r events.Recorded) Entry {
	return Entry{Number: r.Number, Term: r.Term, Time: r.Time, Decision: r.Decision}
}

// Of gives the decision's events of one object.
func (e *Entry) Of(object events.Ref) []events.Event {
	var out []events.Event
	for _, ev := range e.Events {
		if ev.Aggregate == object {
			out = append(out, ev)
		}
	}
	return out
}

// About says whether a decision belongs to the history of an object: it has events of it, or changed nothing and names it in its
// arguments. An operation's history begins with its own intent.
func (e *Entry) About(object events.Ref) bool {
	if len(e.Of(object)) > 0 {
		return true
	}
	if object.Kind == events.KindOperation && string(e.Intent) == object.ID {
		return true
	}
	return len(e.Events) == 0 && aim(e.Args, object.Kind) == object.ID
}

// aim gives the object of a kind that arguments name; empty: none.
func aim(args json.RawMessage, kind events.Kind) string {
	var all map[string]json.RawMessage
	var id string
	if json.Unmarshal(args, &all) != nil || json.Unmarshal(all[string(kind)], &id) != nil {
		return "" // arguments of another shape name no object
	}
	return id
}

// Slim leaves out what makes an entry too large for one answer: first the arguments, then the events.
func (e *Entry) Slim(fits func(*Entry) bool) {
	if fits(e) {
		return
	}
	e.Args, e.Withheld = nil, true
	if !fits(e) {
		e.Events = nil
	}
}

package alerts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"cloudengine/events"
)

// Edges of an alert, of which people are told.
const (
	Raised  = "raised"
	Cleared = "cleared"
)

// Record is an alert in the book: what was raised, whether it is over, and who was told.
type Record struct {
	ID       string     `json:"id"` // for ever; a receiver drops an (id, edge) that it has
	Key      string     `json:"key"`
	Rule     string     `json:"rule"`
	Object   events.Ref `json:"object"`
	Severity Severity   `json:"severity"`
	Message  string     `json:"message"`
	Actor    string     `json:"actor,omitempty"`
	Reason   string     `json:"reason,omitempty"`

	Number uint64    `json:"number,omitempty"` // of the decision that raised it; 0: a measure did
	Index  int       `json:"index,omitempty"`
	Raised time.Time `json:"raised"`
	Stays  bool      `json:"stays,omitempty"` // it is open until it is acknowledged
	Times  int       `json:"times"`           // how often it was raised while it was open
	Last   Place     `json:"last"`            // of the event that was counted last

	Cleared    *time.Time `json:"cleared,omitempty"` // nil: it is open
	ClearedWhy string     `json:"cleared_why,omitempty"`

	Acked     *time.Time `json:"acked,omitempty"`
	AckedBy   string     `json:"acked_by,omitempty"`
	AckReason string     `json:"ack_reason,omitempty"`

	Sent []Sending `json:"sent,omitempty"`
}

// Place is where an event stands in the log.
type Place struct {
	Number uint64 `json:"number"`
	Index  int    `json:"index"`
}

func (p Place) before(q Place) bool {
	return p.Number < q.Number || p.Number == q.Number && p.Index < q.Index
}

// Sending is one message to one receiver.
type Sending struct {
	Sender   string    `json:"sender"`
	Edge     string    `json:"edge"`
	Attempts int       `json:"attempts"`
	Next     time.Time `json:"next,omitzero"` // not before
	Done     time.Time `json:"done,omitzero"`
	Dead     bool      `json:"dead,omitempty"` // given up; "alert retry" begins anew
	Error    string    `json:"error,omitempty"`
}

func (s Sending) pending() bool { return s.Done.IsZero() && !s.Dead }

// Open says whether the alert is not over.
func (r *Record) Open() bool { return r.Cleared == nil }

// earlier orders alerts by when they were raised.
func (r *Record) earlier(than *Record) bool {
	if c := r.Raised.Compare(than.Raised); c != 0 {
		return c < 0
	}
	return Place{r.Number, r.Index}.before(Place{than.Number, than.Index})
}

// idOf gives the id of an alert: the same whenever the same event raises it, and another for each event or time.
func idOf(c Change) string {
	place := fmt.Sprintf("%d.%d", c.Number, c.Index)
	if c.Number == 0 {
		place = c.Time.UTC().Format(time.RFC3339Nano)
	}
	sum := sha256.Sum256([]byte(c.Key() + "@" + place))
	return hex.EncodeToString(sum[:10])
}

func newRecord(c Change, senders []string) *Record {
	r := &Record{
		ID: idOf(c), Key: c.Key(), Rule: c.Rule, Object: c.Object, Severity: c.Severity, Message: c.Message, Actor: c.Actor, Reason: c.Reason,
		Number: c.Number, Index: c.Index, Raised: c.Time, Stays: c.Stays, Times: 1, Last: Place{c.Number, c.Index},
	}
	r.tell(Raised, senders)
	return r
}

func (r *Record) tell(edge string, senders []string) {
	for _, s := range senders {
		r.Sent = append(r.Sent, Sending{Sender: s, Edge: edge})
	}
}

// hold puts off what is to be sent.
func (r *Record) hold(until time.Time) {
	for i := range r.Sent {
		r.Sent[i].Next = until
	}
}

// clear ends the alert. Who was told of it is told; who was not yet told of something old need not be.
func (r *Record) clear(at time.Time, why string) {
	r.Cleared, r.ClearedWhy = &at, why
	r.Sent = slices.DeleteFunc(r.Sent, func(s Sending) bool { return s.Attempts == 0 && !s.Next.IsZero() })
	var told []string
	for _, s := range r.Sent {
		if s.Edge == Raised {
			told = append(told, s.Sender)
		}
	}
	r.tell(Cleared, told)
}

// next gives the sending that is due from a sender, and when to look again. A clearing waits for its raise.
func (r *Record) next(sender string, now time.Time) (due *Sending, again time.Time) {
	for i := range r.Sent {
		s := &r.Sent[i]
		if s.Sender != sender || !s.pending() {
			continue
		}
		if s.Next.After(now) {
			return nil, s.Next
		}
		return s, time.Time{}
	}
	return nil, time.Time{}
}

func (r *Record) clone() *Record {
	c := *r
	c.Sent = append([]Sending(nil), r.Sent...)
	return &c
}

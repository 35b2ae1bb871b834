package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

// place is where an event stands: the number of its decision and its index in it. Places are ordered.
type place struct {
	number uint64
	index  int
}

// id is the message id of the event at p. It is the same in every FEED that is derived from the log.
func (p place) id() string { return fmt.Sprintf("%d.%d", p.number, p.index) }

// render makes the FEED message of the i-th event of a decision.
func render(r events.Recorded, i int) (*nats.Msg, error) {
	p := place{r.Number, i}
	body, err := json.Marshal(events.FeedMessage{
		Number: r.Number, Index: i, Time: r.Time.UTC().Format(time.RFC3339Nano),
		Intent: r.Intent, Actor: r.Actor, Reason: r.Reason, Cause: r.Cause, Event: r.Events[i],
	})
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", p.id(), err)
	}
	m := nats.NewMsg(events.FeedSubject(r.Events[i]))
	m.Data = body
	m.Header.Set(events.HeaderNumber, strconv.FormatUint(r.Number, 10))
	m.Header.Set(events.HeaderIndex, strconv.Itoa(i))
	m.Header.Set(headerTerm, strconv.FormatUint(r.Term, 10))
	m.Header.Set(middleware.CorrelationIDMetadataKey, correlation(r))
	m.Header.Set(jetstream.MsgIDHeader, p.id())
	return m, nil
}

// headerTerm carries the term of the log in which the decision was made.
const headerTerm = "Ce-Term"

// correlation is what the client gave, or else the intent itself.
func correlation(r events.Recorded) string {
	if r.Correlation != "" && isHeaderValue(r.Correlation) {
		return r.Correlation
	}
	return string(r.Intent)
}

// isHeaderValue says whether s can stand in a header as it is.
func isHeaderValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return len(s) <= 256
}

// placeOf reads where a stored FEED message stands, and in which term it was decided.
func placeOf(h nats.Header) (place, uint64, error) {
	number, err1 := strconv.ParseUint(h.Get(events.HeaderNumber), 10, 64)
	index, err2 := strconv.ParseUint(h.Get(events.HeaderIndex), 10, 31)
	term, err3 := strconv.ParseUint(h.Get(headerTerm), 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return place{}, 0, fmt.Errorf("read headers of a FEED message: %w", err)
	}
	return place{number, int(index)}, term, nil
}

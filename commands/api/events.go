package api

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/history"
	"cloudengine/projections/moment"

	"github.com/nats-io/nats.go"
)

// maxLook is how many decisions one page of events looks at.
const maxLook = 20_000

// events answers a page of the log's events, from any decision on.
func (s *Service) events(ctx context.Context, m *nats.Msg) any {
	var q wire.EventsRequest
	u, bad := s.question(m, &q)
	switch {
	case bad != nil:
		return eventsError(*bad)
	case s.cfg.Moments == nil:
		return eventsError(refusal(events.CodeNotSupported, "the past cannot be asked here"))
	case q.From == "":
		return eventsError(refusal(events.CodeInvalid, "field \"from\": want the number of a decision, or a time"))
	case q.Limit < 0 || q.Limit > 1000 || q.Index < 0:
		return eventsError(refusal(events.CodeInvalid, "field \"limit\": want 1 to 1000, or 0 for 100; field \"index\": at least 0"))
	case q.ID != "" && q.Kind == "":
		return eventsError(refusal(events.CodeInvalid, "field \"kind\": want the kind of the object"))
	case !s.past.begin(u.Name):
		return eventsError(refusal(events.CodeBusy, "a question of %s about the past is being answered already: ask again", u.Name))
	}
	defer s.past.end(u.Name)
	from, err := s.begin(ctx, q.From)
	if err != nil {
		return eventsError(notThen("from", err))
	}
	p := &eventPage{q: q, from: from, EventsAnswer: wire.EventsAnswer{Items: []events.FeedMessage{}, Next: from, Index: q.Index, Feed: u.Account == ""}}
	if p.q.Limit == 0 {
		p.q.Limit = 100
	}
	if err := s.look(ctx, u, from, p); err != nil {
		return eventsError(notThen("from", err))
	}
	return p.EventsAnswer
}

// begin gives the first decision of a number or a time; it may be the one after the log's last.
func (s *Service) begin(ctx context.Context, text string) (uint64, error) {
	end, err := s.cfg.Moments.Resolve(ctx, "now")
	if err != nil {
		return 0, err
	}
	if n, err := strconv.ParseUint(text, 10, 64); text == "now" || err == nil && n == end+1 {
		return end + 1, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		n, err := s.cfg.Moments.Resolve(ctx, t.Add(-time.Nanosecond).Format(time.RFC3339Nano))
		return n + 1, err
	}
	return s.cfg.Moments.Resolve(ctx, text)
}

// look shows a page the log from a decision on, as far as a user may see it.
func (s *Service) look(ctx context.Context, u User, from uint64, p *eventPage) error {
	scope, err := s.scopeAt(ctx, u, from)
	if err != nil {
		return err
	}
	at, err := s.cfg.Moments.Before(ctx, from)
	if err != nil {
		return err
	}
	p.End = true
	_, err = s.cfg.Journal.Load(ctx, at, func(_ events.Position, b *events.Block) error {
		for _, r := range b.Recorded() {
			if r.Number < from {
				continue
			}
			if err := p.add(scope, r); err != nil {
				p.End = false
				return err
			}
		}
		return ctx.Err()
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// scopeAt gives what a user may see of the log from a decision on.
func (s *Service) scopeAt(ctx context.Context, u User, from uint64) (*history.Scope, error) {
	switch {
	case u.Account == "":
		return history.Everything(), nil
	case from <= 1:
		return history.Within(u.Name, u.Account), nil
	}
	m, err := s.cfg.Moments.Moment(ctx, from-1)
	if err != nil {
		return nil, err
	}
	own, err := ownAt(m, u)
	return history.WithinFrom(u.Name, u.Account, own), err
}

// ownAt lists what belongs to a user's account at a moment, and the operations that go on and are for him to see.
func ownAt(m *moment.Moment, u User) ([]events.Ref, error) {
	var own []events.Ref
	for _, kind := range []events.Kind{events.KindVM, events.KindTemplate, events.KindVolume, events.KindOperation} {
		model := projections.ByKind(kind)
		needles := [][]string{{`"` + string(u.Account) + `"`, `"actor":"` + u.Name + `"`}}
		err := m.Scan(model.Table, "", needles, func(id string, row any) (bool, error) {
			if belongs(row, u) {
				own = append(own, events.Ref{Kind: kind, ID: id})
			}
			return true, nil
		})
		if err != nil {
			return nil, err
		}
	}
	return own, nil
}

func belongs(row any, u User) bool {
	mine := func(a *string) bool { return a != nil && *a == string(u.Account) }
	switch r := row.(type) {
	case *projections.VM:
		return mine(&r.Account)
	case *projections.Template:
		return mine(r.Account)
	case *projections.Operation:
		return r.State == projections.OperationRunning && (mine(r.Account) || r.Actor == u.Name)
	}
	return false
}

// eventPage is an answer in the making.
type eventPage struct {
	wire.EventsAnswer
	q      wire.EventsRequest
	from   uint64
	size   int
	looked int
}

// add takes the events of the next decision; errEnough: the page is full.
func (p *eventPage) add(scope *history.Scope, r events.Recorded) error {
	if p.looked++; p.looked > maxLook {
		return errEnough
	}
	e, ok := scope.See(r)
	time := r.Time.UTC().Format(time.RFC3339Nano)
	for i, ev := range r.Events {
		ev, shown := shownOf(e, ev)
		if r.Number == p.from && i < p.q.Index || !ok || !shown || !p.wants(ev) {
			continue
		}
		m := events.FeedMessage{Number: r.Number, Index: i, Time: time, Intent: e.Intent, Actor: e.Actor, Reason: e.Reason, Cause: e.Cause, Event: ev}
		raw, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if len(p.Items) > 0 && (len(p.Items) == p.q.Limit || p.size+len(raw) > maxReadAnswer) {
			p.Next, p.Index = r.Number, i
			return errEnough
		}
		p.Items, p.size = append(p.Items, m), p.size+len(raw)+1
	}
	p.Next, p.Index, p.Time = r.Number+1, 0, time
	return nil
}

func (p *eventPage) wants(e events.Event) bool {
	return (p.q.Kind == "" || e.Aggregate.Kind == p.q.Kind) && (p.q.ID == "" || e.Aggregate.ID == p.q.ID)
}

// shownOf gives an event as someone may see it, if he may.
func shownOf(e history.Entry, ev events.Event) (events.Event, bool) {
	for _, x := range e.Events {
		if x.Aggregate == ev.Aggregate && x.Version == ev.Version {
			return x, true
		}
	}
	return ev, false
}

// notThen says why the past could not be told.
func notThen(field string, err error) events.Outcome {
	switch {
	case errors.Is(err, moment.ErrNoMoment):
		return refusal(events.CodeInvalid, "field %q: %s", field, strings.TrimPrefix(err.Error(), moment.ErrNoMoment.Error()+": "))
	case errors.Is(err, moment.ErrNotYet):
		return refusal(events.CodeUnavailable, "%v: ask again", err)
	}
	return unread(err)
}

func eventsError(o events.Outcome) wire.EventsAnswer {
	return wire.EventsAnswer{Items: []events.FeedMessage{}, Error: &o}
}

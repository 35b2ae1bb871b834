package api

import (
	"context"
	"encoding/json"
	"errors"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/events/feed/alerts"

	"github.com/nats-io/nats.go"
)

// Alerts is the book of alerts.
type Alerts interface {
	List(all bool) []alerts.Record
	Ack(ctx context.Context, id, by, reason string) (alerts.Record, error)
	Retry(ctx context.Context, id string) (alerts.Record, error)
}

// alertHandlers are the endpoints of the book. It is asked for at each request: this server may just have become the active one.
func (s *Service) alertHandlers() map[string]handler {
	if s.cfg.Alerts == nil {
		return nil
	}
	return map[string]handler{"read.*.alert.all": s.listAlerts, "put.*.alert": s.putAlert}
}

const noBook = "the book of alerts is not open yet: ask again"

func (s *Service) listAlerts(_ context.Context, m *nats.Msg) any {
	fail := func(o events.Outcome) any { return wire.AlertsAnswer{Items: []alerts.Record{}, Error: &o} }
	var q wire.AlertsRequest
	u, bad := s.question(m, &q)
	if bad != nil {
		return fail(*bad)
	}
	if u.Account != "" {
		return fail(refusal(events.CodeForbidden, "alerts tell of all accounts: only users of the platform may ask for them"))
	}
	book := s.cfg.Alerts()
	if book == nil {
		return fail(refusal(events.CodeUnavailable, noBook))
	}
	answer, size := wire.AlertsAnswer{Items: []alerts.Record{}}, 0
	for i, r := range book.List(q.All) {
		raw, err := json.Marshal(r)
		if size += len(raw) + 1; err != nil || size > maxReadAnswer {
			answer.More = len(book.List(q.All)) - i
			break
		}
		answer.Items = append(answer.Items, r)
	}
	return answer
}

func (s *Service) putAlert(ctx context.Context, m *nats.Msg) any {
	fail := func(o events.Outcome) any { return wire.AlertAnswer{Error: &o} }
	u, bad := s.who(m.Subject, events.RoleOperate)
	if bad != nil {
		return fail(*bad)
	}
	if u.Account != "" {
		return fail(refusal(events.CodeForbidden, "alerts are for users of the platform"))
	}
	var r wire.AlertRequest
	if err := strict(m.Data, &r); err != nil {
		return fail(refusal(events.CodeInvalid, "%v", err))
	}
	if len(r.Reason) > 1000 {
		return fail(refusal(events.CodeInvalid, "field \"reason\": at most 1000 bytes"))
	}
	book := s.cfg.Alerts()
	if book == nil {
		return fail(refusal(events.CodeUnavailable, noBook))
	}
	var now alerts.Record
	var err error
	switch r.Action {
	case wire.AlertAck:
		now, err = book.Ack(ctx, r.ID, u.Name, r.Reason)
	case wire.AlertRetry:
		now, err = book.Retry(ctx, r.ID)
	default:
		return fail(refusal(events.CodeInvalid, "field \"action\": want %s or %s", wire.AlertAck, wire.AlertRetry))
	}
	switch {
	case errors.Is(err, alerts.ErrNoAlert):
		return fail(refusal(events.CodeNotFound, "%v", err))
	case errors.Is(err, alerts.ErrMany):
		return fail(refusal(events.CodeInvalid, "%v", err))
	case err != nil:
		return fail(refusal(events.CodeUnavailable, "the alert could not be changed now (%v): ask again", err))
	}
	return wire.AlertAnswer{Alert: &now}
}

package api

import (
	"context"
	"errors"

	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// Projections looks after the read models of this server. Its errors are outcomes; an error of another kind means that the database or
// the log cannot be asked now.
type Projections interface {
	Status(ctx context.Context) (wire.ProjectionStatus, error)
	Parked(ctx context.Context, q wire.ParkedRequest) (wire.ParkedAnswer, error)
	Begin(ctx context.Context, by string, q wire.ProjectionRequest) (wire.ProjectionJob, error)
}

// Refused is an error that says what to answer.
type Refused struct{ Outcome events.Outcome }

// Error gives the message.
func (r *Refused) Error() string { return r.Outcome.Message }

// platform finds who asks; it must be a user of the platform, of no account, with a role.
func (s *Service) platform(m *nats.Msg, role string, into any) (User, *events.Outcome) {
	u, bad := s.question(m, into)
	if bad != nil {
		return u, bad
	}
	if u.Account != "" || rank[u.Role] < rank[role] {
		o := refusal(events.CodeForbidden, "the read models are looked after by users of the platform with the role %s", role)
		return u, &o
	}
	if s.cfg.Projections == nil {
		o := refusal(events.CodeUnavailable, "this server has no read models")
		return u, &o
	}
	return u, nil
}

func (s *Service) projectionStatus(ctx context.Context, m *nats.Msg) any {
	var q struct{}
	if _, bad := s.platform(m, events.RoleRead, &q); bad != nil {
		return wire.ProjectionStatus{Error: bad}
	}
	a, err := s.cfg.Projections.Status(ctx)
	if err != nil {
		return wire.ProjectionStatus{Error: s.outcomeOf(err)}
	}
	return a
}

func (s *Service) parked(ctx context.Context, m *nats.Msg) any {
	var q wire.ParkedRequest
	_, bad := s.platform(m, events.RoleRead, &q)
	if bad == nil && (q.Limit < 0 || q.Limit > 1000) {
		o := refusal(events.CodeInvalid, "field \"limit\": want 1 to 1000, or 0 for 100")
		bad = &o
	}
	if bad == nil && (q.Kind == "") != (q.Object == "") {
		o := refusal(events.CodeInvalid, "fields \"kind\" and \"object\" belong together")
		bad = &o
	}
	if bad != nil {
		return wire.ParkedAnswer{Error: bad}
	}
	if q.Limit == 0 {
		q.Limit = 100
	}
	a, err := s.cfg.Projections.Parked(ctx, q)
	if err != nil {
		return wire.ParkedAnswer{Error: s.outcomeOf(err)}
	}
	return a
}

// projection begins work on the read models. It decides nothing and enters nothing into the log: what is derived can be derived again.
func (s *Service) projection(ctx context.Context, m *nats.Msg) any {
	u, bad := s.who(m.Subject, events.RoleAdmin)
	if bad == nil && u.Account != "" {
		o := refusal(events.CodeForbidden, "the read models are looked after by administrators of the platform")
		bad = &o
	}
	if bad == nil && s.cfg.Projections == nil {
		o := refusal(events.CodeUnavailable, "this server has no read models")
		bad = &o
	}
	if bad != nil {
		return wire.ProjectionAnswer{Error: bad}
	}
	var q wire.ProjectionRequest
	if err := strict(m.Data, &q); err != nil {
		o := refusal(events.CodeInvalid, "%v", err)
		return wire.ProjectionAnswer{Error: &o}
	}
	if len(q.Reason) > 1000 {
		o := refusal(events.CodeInvalid, "field \"reason\": at most 1000 bytes")
		return wire.ProjectionAnswer{Error: &o}
	}
	job, err := s.cfg.Projections.Begin(ctx, u.Name, q)
	if err != nil {
		return wire.ProjectionAnswer{Error: s.outcomeOf(err)}
	}
	return wire.ProjectionAnswer{Job: &job}
}

// outcomeOf makes the answer of an error.
func (s *Service) outcomeOf(err error) *events.Outcome {
	var no *Refused
	if errors.As(err, &no) {
		return &no.Outcome
	}
	s.cfg.Log.Error("a question about the read models cannot be answered", "error", err)
	o := refusal(events.CodeUnavailable, "the read models cannot be asked now: ask again")
	return &o
}

package api

import (
	"context"

	"cloudengine/commands"
	"cloudengine/events"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// do takes an intent: it is checked for form here, and for everything else by the decider.
func (s *Service) do(ctx context.Context, m *nats.Msg) any {
	c, dryRun, refused := s.intent(m)
	if refused != nil {
		return refused
	}
	a := s.submit(ctx, c, dryRun)
	a.Events = s.shown(c.Actor, a.Events)
	return a
}

// intent reads the command in a message, or says why there is none.
func (s *Service) intent(m *nats.Msg) (c commands.Command, dryRun bool, refused any) {
	actor, kind, verb, err := events.SplitDo(m.Subject)
	if err != nil {
		return c, false, events.Answer{Outcome: refusal(events.CodeInvalid, "%v", err)}
	}
	if !events.IsToken(actor) { // also keeps "machine:…" and "system:…" out
		return c, false, events.Answer{Outcome: refusal(events.CodeUnauthorized, "%q is no name of a user", actor)}
	}
	if !s.limits.allow(actor, s.cfg.ActorRate) {
		return c, false, busyAnswer(m.Subject, "more than "+perSecond(s.cfg.ActorRate)+" requests of "+actor+": ask again with the same id")
	}
	var r events.Request
	if err := strict(m.Data, &r); err != nil {
		return c, false, events.Answer{ID: r.ID, Outcome: refusal(events.CodeInvalid, "%v", err)}
	}
	if u, err := uuid.Parse(string(r.ID)); err != nil || u.String() != string(r.ID) {
		return c, false, events.Answer{ID: r.ID, Outcome: refusal(events.CodeInvalid, "field \"id\": want a UUID in lower case, best of version 7")}
	}
	return commands.Command{
		Intent: r.ID, Actor: actor, Kind: kind, Verb: verb, Args: r.Args, Expect: r.Expect, Override: r.Override,
		Cause: r.Cause, Correlation: r.Correlation, Reason: r.Reason,
	}, r.DryRun, nil
}

func (s *Service) submit(ctx context.Context, c commands.Command, dryRun bool) events.Answer {
	a, err := s.cfg.Decider.Submit(ctx, c, dryRun)
	if err != nil {
		return events.Answer{ID: c.Intent, Outcome: unavailable(err)}
	}
	a.ID = c.Intent
	return a
}

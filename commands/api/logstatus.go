package api

import (
	"context"

	"cloudengine/commands"
	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// maxListed bounds the lists of an answer about the log.
const maxListed = 1000

// logStatus says in which term the log is, and what a restore has left to be found out. For users of the platform.
func (s *Service) logStatus(_ context.Context, m *nats.Msg) any {
	actor, _, _, err := events.SplitDo(m.Subject)
	if err != nil {
		return logStatusError(refusal(events.CodeInvalid, "%v", err))
	}
	u, ok := s.cfg.Users.User(actor)
	if !ok || u.Account != "" {
		return logStatusError(refusal(events.CodeForbidden, "the state of the log is for users of the platform"))
	}
	return s.cfg.LogStatus()
}

func logStatusError(o events.Outcome) wire.LogStatus { return wire.LogStatus{Error: &o} }

// LogStatusOf tells it from the fold.
func LogStatusOf(s *commands.State) wire.LogStatus {
	a := wire.LogStatus{Applied: s.Next() - 1, Term: s.Term(), Cause: s.Cause(), Settled: s.Settled(), Level: s.Level(),
		Servers: []wire.Server{}, Unreported: []string{}, Lost: []wire.LostGrant{}}
	for _, v := range s.Servers() {
		a.Servers = append(a.Servers, wire.Server(v))
	}
	if a.Settled && a.Term == 1 {
		return a
	}
	for _, m := range s.Unreported() {
		if len(a.Unreported) < maxListed {
			a.Unreported = append(a.Unreported, m.Name)
		}
	}
	for _, l := range s.Lost() {
		if len(a.Lost) < maxListed {
			a.Lost = append(a.Lost, wire.LostGrant(l))
		}
	}
	return a
}

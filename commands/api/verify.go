package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloudengine/commands"
	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// verifyTime bounds the reading of the whole log.
const verifyTime = 10 * time.Minute

// maxBroken bounds how many broken invariants are told.
const maxBroken = 100

// Log is the log, as far as it is verified: Load gives the blocks after a position, in order, and checks the chain on the way.
type Log interface {
	Load(ctx context.Context, from events.Position, f func(events.Position, *events.Block) error) (events.Position, error)
}

// verify reads the whole log, and has its chain and its invariants checked. One at a time.
func (s *Service) verify(ctx context.Context, m *nats.Msg) any {
	actor, _, _, err := events.SplitDo(m.Subject)
	if err != nil {
		return verifyError(refusal(events.CodeInvalid, "%v", err))
	}
	u, ok := s.cfg.Users.User(actor)
	if !ok || u.Account != "" || u.Role != events.RoleAdmin {
		return verifyError(refusal(events.CodeForbidden, "the log is verified by administrators of the platform"))
	}
	if !s.verifying.TryLock() {
		return verifyError(refusal(events.CodeBusy, "the log is being verified already: ask again later"))
	}
	defer s.verifying.Unlock()
	a, err := Verify(ctx, s.cfg.Journal)
	if errors.Is(err, events.ErrBroken) {
		a.Broken = append(a.Broken, err.Error())
	} else if err != nil {
		return verifyError(refusal(events.CodeUnavailable, "the log cannot be read now (%v): ask again", err))
	}
	return a
}

// Verify reads a log from its start and says which invariants it breaks. The error is that of the log: events.ErrBroken for a gap or a
// broken chain, others when it cannot be read.
func Verify(ctx context.Context, log Log) (wire.VerifyAnswer, error) {
	audit, answer := commands.NewAudit(), wire.VerifyAnswer{Broken: []string{}}
	end, err := log.Load(ctx, events.Position{}, func(_ events.Position, b *events.Block) error {
		for _, r := range b.Recorded() {
			audit.Add(r)
		}
		return nil
	})
	answer.Blocks, answer.Decisions, answer.Term, answer.Head = end.Seq, end.Number, end.Term, end.Digest
	answer.LiveRuns = audit.Live()
	answer.Broken = append(answer.Broken, audit.Broken()...)
	if n := len(answer.Broken); n > maxBroken {
		answer.Broken = append(answer.Broken[:maxBroken], fmt.Sprintf("and %d more", n-maxBroken))
	}
	return answer, err
}

func verifyError(o events.Outcome) wire.VerifyAnswer {
	return wire.VerifyAnswer{Broken: []string{}, Error: &o}
}

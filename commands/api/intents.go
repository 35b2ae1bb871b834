package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"cloudengine/commands"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// asyncDecider is a Decider that calls back instead of having a goroutine wait for each intent.
type asyncDecider interface {
	SubmitFunc(c commands.Command, dryRun bool, until time.Time, done func(events.Answer, error))
}

// subscribeIntents takes intents without a goroutine for each: they are many and short. What is malformed is answered at once.
func (s *Service) subscribeIntents(ctx context.Context, d asyncDecider) error {
	sub, err := s.cfg.Bus.Subscribe("do.*.*.*", func(m *nats.Msg) {
		if m.Reply == "" {
			return
		}
		leave, ok := s.admit(m.Subject, func(text string) { s.answer(m, busyAnswer(m.Subject, text)) })
		if !ok {
			return
		}
		select {
		case s.slots <- struct{}{}:
		default:
			s.answer(m, busyAnswer(m.Subject, "the server has too many requests under way: ask again with the same id"))
			leave(nil)
			return
		}
		c, dryRun, refused := s.intent(m)
		if refused != nil {
			<-s.slots
			leave(nil)
			s.answer(m, refused)
			return
		}
		// Close does not wait for these: the loop calls it when it ceases to decide, and answers what waits afterwards.
		d.SubmitFunc(c, dryRun, time.Now().Add(requestTime), func(a events.Answer, err error) {
			defer func() { <-s.slots }()
			a.ID = c.Intent
			if err != nil {
				a = events.Answer{ID: c.Intent, Outcome: unavailable(err)}
			}
			leave(a)
			a.Events = s.shown(c.Actor, a.Events)
			s.reply(m, a)
		})
	})
	if err != nil {
		return fmt.Errorf("subscribe to intents: %w", err)
	}
	s.subs = append(s.subs, sub)
	return sub.SetPendingLimits(-1, 256<<20)
}

// reply sends an answer, without reflection where it is short.
func (s *Service) reply(m *nats.Msg, a events.Answer) {
	if len(a.Events) > 0 || a.Outcome.Message != "" || a.Number == 0 {
		s.answer(m, a)
		return
	}
	out := make([]byte, 0, 192)
	out = append(out, `{"id":"`...)
	out = append(out, a.ID...) // a UUID
	out = append(out, `","number":`...)
	out = strconv.AppendUint(out, a.Number, 10)
	if !a.Time.IsZero() {
		out = append(out, `,"time":"`...)
		out = a.Time.AppendFormat(out, time.RFC3339Nano)
		out = append(out, '"')
	}
	out = append(out, `,"outcome":{"status":"`...)
	out = append(out, a.Outcome.Status...)
	out = append(out, `"}}`...)
	if err := m.Respond(out); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		s.cfg.Log.Warn("answer request", "subject", m.Subject, "error", err)
	}
}

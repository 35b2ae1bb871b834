package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

// subjectPosition keeps how far the log was looked through for what was refused.
const subjectPosition = "alertlog.position"

// positionEvery is after how many decisions the position is stored, when nothing is found.
const positionEvery = 5000

// Log gives the decisions of the log after one, in order, and follows it.
type Log interface {
	Follow(ctx context.Context, from uint64, each func([]events.Recorded) error) error
}

// Contradictions raises alerts for reports and enrolments that were refused because they contradict the log: a refused decision has no
// event, so FEED does not tell of it. It begins where it was before, the first time at last, and works until ctx ends or something fails.
func (b *Book) Contradictions(ctx context.Context, log Log, last uint64) error {
	at, err := b.position(ctx, last)
	if err != nil {
		return err
	}
	stored := at
	err = log.Follow(ctx, at, func(list []events.Recorded) error {
		found := false
		for _, r := range list {
			if c, is := contradiction(r); is {
				found = true
				if err := b.Take(ctx, c); err != nil {
					return err
				}
			}
			at = r.Number
		}
		if found || at-stored >= positionEvery {
			stored = at
			return b.storePosition(ctx, at)
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// contradiction says whether a decision refused what cannot be.
func contradiction(r events.Recorded) (Change, bool) {
	id, is := strings.CutPrefix(r.Actor, "machine:")
	if !is || r.Outcome.Code != events.CodeContradicts && r.Outcome.Code != events.CodeTwoMachines {
		return Change{}, false
	}
	c := happened(RuleContradiction, r.Outcome.Code, "refused, because it contradicts the log (%s): %s", r.Outcome.Code, r.Outcome.Message)[0]
	c.Object, c.Actor, c.Number, c.Time = events.Ref{Kind: events.KindMachine, ID: id}, r.Actor, r.Number, r.Time
	return c, true
}

func (b *Book) position(ctx context.Context, last uint64) (uint64, error) {
	s, err := b.js.Stream(ctx, StreamAlerts)
	if err != nil {
		return 0, fmt.Errorf("read position of alerts: %w", err)
	}
	m, err := s.GetLastMsgForSubject(ctx, subjectPosition)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return last, b.storePosition(ctx, last)
	}
	var at uint64
	if err == nil {
		err = json.Unmarshal(m.Data, &at)
	}
	if err != nil {
		return 0, fmt.Errorf("read position of alerts: %w", err)
	}
	return min(at, last), nil // the log was restored to an earlier end
}

func (b *Book) storePosition(ctx context.Context, at uint64) error {
	if _, err := b.js.Publish(ctx, subjectPosition, fmt.Append(nil, at)); err != nil {
		return fmt.Errorf("store position of alerts: %w", err)
	}
	return nil
}

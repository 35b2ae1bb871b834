package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"cloudengine/commands"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// own takes commands of the control plane's own components, from servers that are not active. Its subject is in no export of the
// bus account, so nobody but a server can send it.
func (s *Service) own(ctx context.Context, m *nats.Msg) any {
	p := strings.Split(m.Subject, ".")
	if len(p) != 4 {
		return events.Answer{Outcome: refusal(events.CodeInvalid, "subject %q: want four tokens", m.Subject)}
	}
	var r events.Request
	if err := strict(m.Data, &r); err != nil {
		return events.Answer{Outcome: refusal(events.CodeInvalid, "%v", err)}
	}
	return s.submit(ctx, commands.Command{
		Intent: r.ID, Actor: p[1], Kind: events.Kind(p[2]), Verb: p[3], Args: r.Args, Cause: r.Cause, Correlation: r.Correlation,
	}, false)
}

// ErrNobodyDecides says that no server took a command of our own; the same may be sent again.
var ErrNobodyDecides = errors.New("no server decides now")

// Everywhere submits commands of our own components to the active server, wherever it is. It is safe for concurrent use.
type Everywhere struct {
	Here   Decider
	Active func() bool // whether the decider here is the active one
	Bus    *nats.Conn  // in the account of the control plane
}

// Submit submits here if this server is active, else over the bus. Outcomes that only say "later" are errors (ErrNobodyDecides).
func (e Everywhere) Submit(ctx context.Context, c commands.Command) (events.Answer, error) {
	if e.Active() {
		a, err := e.Here.Submit(ctx, c, false)
		if err == nil && !isLater(a.Outcome.Code) {
			return a, nil
		}
		if err == nil {
			err = errors.New(a.Outcome.Message)
		}
		return a, fmt.Errorf("submit %s.%s: %w: %w", c.Kind, c.Verb, ErrNobodyDecides, err)
	}
	body, err := json.Marshal(events.Request{ID: c.Intent, Args: c.Args, Cause: c.Cause, Correlation: c.Correlation})
	if err != nil {
		return events.Answer{}, fmt.Errorf("encode %s.%s: %w", c.Kind, c.Verb, err)
	}
	reply, err := e.Bus.RequestWithContext(ctx, "own."+c.Actor+"."+string(c.Kind)+"."+c.Verb, body)
	if err != nil {
		return events.Answer{}, fmt.Errorf("submit %s.%s: %w: %w", c.Kind, c.Verb, ErrNobodyDecides, err)
	}
	var a events.Answer
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return a, fmt.Errorf("read answer of %s.%s: %w", c.Kind, c.Verb, err)
	}
	if isLater(a.Outcome.Code) {
		return a, fmt.Errorf("submit %s.%s: %w: %s", c.Kind, c.Verb, ErrNobodyDecides, a.Outcome.Message)
	}
	return a, nil
}

func isLater(code string) bool { return code == events.CodeBusy || code == events.CodeUnavailable }

package client

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// Option changes the request that Do sends.
type Option func(*events.Request)

// WithID gives the intent's id instead of a new UUIDv7.
func WithID(id events.IntentID) Option { return func(r *events.Request) { r.ID = id } }

// WithName makes the decider refuse when the object has another name by now.
func WithName(name string) Option {
	return func(r *events.Request) { r.Expect = &events.Expect{Name: name} }
}

// WithReason says why. It is kept for ever.
func WithReason(reason string) Option { return func(r *events.Request) { r.Reason = reason } }

// WithOverride names guards that must not refuse this intent. It needs a reason.
func WithOverride(guards ...string) Option {
	return func(r *events.Request) { r.Override = append(r.Override, guards...) }
}

// WithDryRun asks what would be decided now. Nothing is stored.
func WithDryRun() Option { return func(r *events.Request) { r.DryRun = true } }

// WithCause and WithCorrelation carry the caller's own words into the log.
func WithCause(cause string) Option { return func(r *events.Request) { r.Cause = cause } }

// WithCorrelation names what several intents belong to.
func WithCorrelation(id string) Option { return func(r *events.Request) { r.Correlation = id } }

// Refusal is the outcome of an intent that was refused, or of a question that could not be answered, as an error.
type Refusal struct {
	ID      events.IntentID
	Number  uint64 // of the decision; 0 if it was not stored
	Outcome events.Outcome
}

// Error gives the outcome's message.
func (r *Refusal) Error() string {
	text := r.Outcome.Message
	if text == "" {
		text = r.Outcome.Code
	}
	if r.Outcome.Guard != "" {
		text += fmt.Sprintf(" (guard %s)", r.Outcome.Guard)
	}
	return text
}

// Do sends an intent and waits until its outcome is stored. The request is repeated with the same id while nobody answers, or the
// answer is busy or unavailable, until ctx ends (ErrNoAnswer). A refusal is an outcome: err is nil; see Check.
func (c *Client) Do(ctx context.Context, kind events.Kind, verb string, args any, opts ...Option) (events.Answer, error) {
	var answer events.Answer
	raw, err := encode(args)
	if err != nil {
		return answer, fmt.Errorf("encode arguments of %s.%s: %w", kind, verb, err)
	}
	r := events.Request{ID: NewID(), Args: raw}
	for _, o := range opts {
		o(&r)
	}
	body, err := encode(r)
	if err != nil {
		return answer, fmt.Errorf("encode %s.%s: %w", kind, verb, err)
	}
	return c.answer(ctx, &nats.Msg{Subject: events.DoSubject(c.actor, kind, verb), Data: body})
}

// Check gives a *Refusal if the intent was refused.
func Check(a events.Answer) error {
	if a.Outcome.Status == events.Refused {
		return &Refusal{a.ID, a.Number, a.Outcome}
	}
	return nil
}

// answer sends msg until an Answer comes that is not an invitation to ask again.
func (c *Client) answer(ctx context.Context, msg *nats.Msg) (events.Answer, error) {
	var a events.Answer
	reply, err := c.ask(ctx, msg, func(m *nats.Msg) bool {
		var a events.Answer
		return json.Unmarshal(m.Data, &a) == nil && isLater(a.Outcome.Code)
	})
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return a, fmt.Errorf("read answer of %s: %w", msg.Subject, err)
	}
	return a, nil
}

func isLater(code string) bool { return code == events.CodeBusy || code == events.CodeUnavailable }

// Read asks a read model. verb is get or list. An answer that holds an error comes back as a *Refusal too.
func (c *Client) Read(ctx context.Context, kind events.Kind, verb string, q events.ReadRequest) (events.ReadAnswer, error) {
	var a events.ReadAnswer
	body, err := encode(q)
	if err != nil {
		return a, fmt.Errorf("encode question for %s: %w", kind, err)
	}
	msg := &nats.Msg{Subject: events.ReadSubject(c.actor, kind, verb), Data: body}
	reply, err := c.ask(ctx, msg, func(m *nats.Msg) bool {
		var a events.ReadAnswer
		return json.Unmarshal(m.Data, &a) == nil && a.Error != nil && isLater(a.Error.Code)
	})
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return a, fmt.Errorf("read answer of %s: %w", msg.Subject, err)
	}
	if a.Error != nil {
		return a, &Refusal{Outcome: *a.Error}
	}
	return a, nil
}

// List reads all pages of a list.
func (c *Client) List(ctx context.Context, kind events.Kind, q events.ReadRequest) (items []json.RawMessage, applied uint64, err error) {
	for {
		a, err := c.Read(ctx, kind, "list", q)
		if err != nil {
			return nil, 0, err
		}
		items = append(items, a.Items...)
		if a.Next == "" {
			return items, a.Applied, nil
		}
		q.After = a.Next
		if q.At != "" { // all pages are of one moment
			q.At = strconv.FormatUint(a.Applied, 10)
		}
	}
}

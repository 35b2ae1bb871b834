package client

import (
	"context"
	"encoding/json"
	"fmt"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/events/feed/alerts"

	"github.com/nats-io/nats.go"
)

// Alerts asks for the open alerts and those of which somebody could not be told, or for all.
func (c *Client) Alerts(ctx context.Context, all bool) (wire.AlertsAnswer, error) {
	var a wire.AlertsAnswer
	err := c.askBook(ctx, wire.AlertsSubject(c.actor), wire.AlertsRequest{All: all}, &a)
	return a, err
}

// Alert acknowledges an alert (wire.AlertAck), or has it sent again (wire.AlertRetry). Repeating it is harmless.
func (c *Client) Alert(ctx context.Context, id, action, reason string) (alerts.Record, error) {
	var a wire.AlertAnswer
	err := c.askBook(ctx, wire.AlertSubject(c.actor), wire.AlertRequest{ID: id, Action: action, Reason: reason}, &a)
	if err != nil || a.Alert == nil {
		return alerts.Record{}, err
	}
	return *a.Alert, nil
}

// askBook asks until there is an answer. One that holds an error comes back as a *Refusal.
func (c *Client) askBook(ctx context.Context, subject string, q, into any) error {
	body, err := encode(q)
	if err != nil {
		return fmt.Errorf("encode question about alerts: %w", err)
	}
	failed := func(m *nats.Msg) *events.Outcome {
		var a struct {
			Error *events.Outcome `json:"error"`
		}
		if json.Unmarshal(m.Data, &a) != nil {
			return nil
		}
		return a.Error
	}
	reply, err := c.ask(ctx, &nats.Msg{Subject: subject, Data: body}, func(m *nats.Msg) bool {
		o := failed(m)
		return o != nil && isLater(o.Code)
	})
	if err != nil {
		return err
	}
	if o := failed(reply); o != nil {
		return &Refusal{Outcome: *o}
	}
	if err := json.Unmarshal(reply.Data, into); err != nil {
		return fmt.Errorf("read answer of %s: %w", subject, err)
	}
	return nil
}

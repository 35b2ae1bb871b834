package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
)

// Diff asks for a page of what differs between two moments. It is asked for again while the log cannot be read, until ctx ends.
func (c *Client) Diff(ctx context.Context, q wire.DiffRequest) (wire.DiffAnswer, error) {
	return askPast(ctx, c, wire.DiffSubject(c.actor), q, func(a *wire.DiffAnswer) *events.Outcome { return a.Error })
}

// Events asks for a page of the log's events, as Diff.
func (c *Client) Events(ctx context.Context, q wire.EventsRequest) (wire.EventsAnswer, error) {
	return askPast(ctx, c, wire.EventsSubject(c.actor), q, func(a *wire.EventsAnswer) *events.Outcome { return a.Error })
}

// askPast asks until there is an answer that is not an invitation to ask again.
func askPast[A any](ctx context.Context, c *Client, subject string, q any, refused func(*A) *events.Outcome) (A, error) {
	var none A
	body, err := encode(q)
	if err != nil {
		return none, fmt.Errorf("encode question about the log: %w", err)
	}
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		var a A
		reply, err := c.nc.RequestWithContext(ctx, subject, body)
		if err == nil {
			err = json.Unmarshal(reply.Data, &a)
		}
		if err != nil {
			err = fmt.Errorf("ask about the log: %w", err)
		} else if o := refused(&a); o != nil {
			err = &Refusal{Outcome: *o}
		}
		if err == nil || !isLaterError(err) {
			return a, err
		}
		select {
		case <-ctx.Done():
			return none, fmt.Errorf("ask about the log: %w (%w)", ctx.Err(), err)
		case <-time.After(pause):
		}
	}
}

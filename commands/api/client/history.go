package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"cloudengine/commands/api/wire"
)

// History asks for a page of what happened to one object: the decisions that changed it, and those about it that changed nothing. The
// server reads the log for it, which may take minutes. It is asked for again while the log cannot be read, until ctx ends.
func (c *Client) History(ctx context.Context, q wire.HistoryRequest) (wire.HistoryAnswer, error) {
	return c.askLog(ctx, wire.HistorySubject(c.actor), q)
}

// Why asks for a page of what led to a decision and what followed from it, as History.
func (c *Client) Why(ctx context.Context, q wire.WhyRequest) (wire.HistoryAnswer, error) {
	return c.askLog(ctx, wire.WhySubject(c.actor), q)
}

func (c *Client) askLog(ctx context.Context, subject string, q any) (wire.HistoryAnswer, error) {
	body, err := encode(q)
	if err != nil {
		return wire.HistoryAnswer{}, fmt.Errorf("encode question about the log: %w", err)
	}
	for {
		a, err := c.askLogOnce(ctx, subject, body)
		if err == nil || !isLaterError(err) {
			return a, err
		}
		select {
		case <-ctx.Done():
			return a, fmt.Errorf("ask about the log: %w (%w)", ctx.Err(), err)
		case <-time.After(time.Second):
		}
	}
}

func (c *Client) askLogOnce(ctx context.Context, subject string, body []byte) (wire.HistoryAnswer, error) {
	var a wire.HistoryAnswer
	reply, err := c.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return a, fmt.Errorf("ask about the log: %w", err)
	}
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return a, fmt.Errorf("read answer about the log: %w", err)
	}
	if a.Error != nil {
		return a, &Refusal{Outcome: *a.Error}
	}
	return a, nil
}

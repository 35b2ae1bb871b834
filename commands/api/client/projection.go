package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"cloudengine/commands/api/wire"

	"github.com/nats-io/nats.go"
)

// ProjectionStatus tells how the read models of the active server are. It is asked for again while no server answers, until ctx ends.
func (c *Client) ProjectionStatus(ctx context.Context) (wire.ProjectionStatus, error) {
	var a wire.ProjectionStatus
	err := c.about(ctx, wire.ProjectionStatusSubject(c.actor), struct{}{}, func(raw []byte) error {
		a = wire.ProjectionStatus{}
		if err := json.Unmarshal(raw, &a); err != nil || a.Error == nil {
			return err
		}
		return &Refusal{Outcome: *a.Error}
	})
	return a, err
}

// Parked tells which events are parked, and which were dropped.
func (c *Client) Parked(ctx context.Context, q wire.ParkedRequest) (wire.ParkedAnswer, error) {
	var a wire.ParkedAnswer
	err := c.about(ctx, wire.ParkedSubject(c.actor), q, func(raw []byte) error {
		a = wire.ParkedAnswer{}
		if err := json.Unmarshal(raw, &a); err != nil || a.Error == nil {
			return err
		}
		return &Refusal{Outcome: *a.Error}
	})
	return a, err
}

// Projection begins work on the read models, and asks again until a server answers or ctx ends. Other work that is under way is a conflict.
func (c *Client) Projection(ctx context.Context, q wire.ProjectionRequest) (wire.ProjectionJob, error) {
	var a wire.ProjectionAnswer
	q.ID = string(NewID())
	body, err := encode(q)
	if err != nil {
		return wire.ProjectionJob{}, fmt.Errorf("encode request: %w", err)
	}
	var bad error
	_, err = c.ask(ctx, &nats.Msg{Subject: wire.ProjectionSubject(c.actor), Data: body}, func(m *nats.Msg) bool {
		a = wire.ProjectionAnswer{}
		bad = json.Unmarshal(m.Data, &a)
		return bad == nil && a.Error != nil && isLater(a.Error.Code)
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return wire.ProjectionJob{}, fmt.Errorf("ask for %s of the read models: %w", q.Action, err)
	}
	if a.Error != nil {
		return wire.ProjectionJob{}, &Refusal{Outcome: *a.Error}
	}
	if a.Job == nil {
		return wire.ProjectionJob{}, fmt.Errorf("read answer about the read models: it says nothing")
	}
	return *a.Job, nil
}

// about asks a question again until it is answered by something else than "later", or ctx ends.
func (c *Client) about(ctx context.Context, subject string, q any, read func([]byte) error) error {
	body, err := encode(q)
	if err != nil {
		return fmt.Errorf("encode question about the read models: %w", err)
	}
	for {
		reply, err := c.nc.RequestWithContext(ctx, subject, body)
		if err == nil {
			err = read(reply.Data)
		}
		if err == nil || !isLaterError(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("ask about the read models: %w (%w)", ctx.Err(), err)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

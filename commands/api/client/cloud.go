package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"cloudengine/commands/api/wire"
)

// VerifyCloud has the server hold the whole cloud against its log, and waits for the end. For operators of the platform. said, if not nil,
// is told of the progress about once a second.
func (c *Client) VerifyCloud(ctx context.Context, q wire.CloudVerifyRequest, said func(wire.VerifyProgress)) (wire.CloudVerifyAnswer, error) {
	if said != nil {
		inner, cancel := context.WithCancel(ctx)
		over := make(chan struct{})
		go func() { defer close(over); c.followVerify(inner, said) }()
		defer func() { cancel(); <-over }()
	}
	for {
		var a wire.CloudVerifyAnswer
		err := c.askJSON(ctx, wire.CloudVerifySubject(c.actor), q, &a)
		if err == nil && a.Error != nil {
			err = &Refusal{Outcome: *a.Error}
		}
		switch {
		case err == nil && !a.Running:
			return a, nil
		case err == nil:
			q = wire.CloudVerifyRequest{Run: a.Run}
			continue
		case !isLaterError(err):
			return a, fmt.Errorf("verify the cloud: %w", err)
		}
		select {
		case <-ctx.Done():
			return a, fmt.Errorf("verify the cloud: %w (%w)", ctx.Err(), err)
		case <-time.After(time.Second):
		}
	}
}

// followVerify tells of progress until ctx ends. What cannot be had is left out: the verification itself tells of errors.
func (c *Client) followVerify(ctx context.Context, said func(wire.VerifyProgress)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var p wire.VerifyProgress
		try, cancel := context.WithTimeout(ctx, attempt)
		err := c.askJSON(try, wire.CloudProgressSubject(c.actor), struct{}{}, &p)
		cancel()
		if err == nil && p.Error == nil && p.Running {
			said(p)
		}
	}
}

// askJSON sends a question once, and reads the answer.
func (c *Client) askJSON(ctx context.Context, subject string, q, answer any) error {
	body, err := encode(q)
	if err != nil {
		return fmt.Errorf("encode question: %w", err)
	}
	reply, err := c.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return fmt.Errorf("ask %s: %w", subject, err)
	}
	if err := json.Unmarshal(reply.Data, answer); err != nil {
		return fmt.Errorf("read answer of %s: %w", subject, err)
	}
	return nil
}

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cloudengine/commands/api/wire"

	"github.com/nats-io/nats.go"
)

// Verify has the server read the whole log and check it. For administrators of the platform. It may take minutes, and is asked for
// again while the log cannot be read.
func (c *Client) Verify(ctx context.Context) (wire.VerifyAnswer, error) {
	for {
		a, err := c.verifyOnce(ctx)
		if err == nil || !isLaterError(err) {
			return a, err
		}
		select {
		case <-ctx.Done():
			return a, fmt.Errorf("verify the log: %w (%w)", ctx.Err(), err)
		case <-time.After(time.Second):
		}
	}
}

func isLaterError(err error) bool {
	var no *Refusal
	return errors.As(err, &no) && isLater(no.Outcome.Code) || errors.Is(err, nats.ErrNoResponders)
}

func (c *Client) verifyOnce(ctx context.Context) (wire.VerifyAnswer, error) {
	var a wire.VerifyAnswer
	reply, err := c.nc.RequestWithContext(ctx, wire.VerifySubject(c.actor), []byte("{}"))
	if err != nil {
		return a, fmt.Errorf("verify the log: %w", err)
	}
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return a, fmt.Errorf("read answer about the log: %w", err)
	}
	if a.Error != nil {
		return a, &Refusal{Outcome: *a.Error}
	}
	return a, nil
}

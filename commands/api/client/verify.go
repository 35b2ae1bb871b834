package client

import (
	"context"
	"encoding/json"
	"fmt"

	"cloudengine/commands/api/wire"
)

// Verify has the server read the whole log and check it. For administrators of the platform. It may take minutes.
func (c *Client) Verify(ctx context.Context) (wire.VerifyAnswer, error) {
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

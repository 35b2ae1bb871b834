package client

import (
	"context"
	"encoding/json"
	"fmt"

	"cloudengine/commands/api/wire"
)

// LogStatus asks in which term the log is and what a restore has left to be found out.
func (c *Client) LogStatus(ctx context.Context) (wire.LogStatus, error) {
	var a wire.LogStatus
	reply, err := c.nc.RequestWithContext(ctx, wire.LogStatusSubject(c.actor), []byte("{}"))
	if err != nil {
		return a, fmt.Errorf("ask for the state of the log: %w", err)
	}
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return a, fmt.Errorf("read answer about the log: %w", err)
	}
	if a.Error != nil {
		return a, &Refusal{Outcome: *a.Error}
	}
	return a, nil
}

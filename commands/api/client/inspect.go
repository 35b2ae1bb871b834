package client

import (
	"context"
	"encoding/json"
	"fmt"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
)

// Inspect asks a host live what its hypervisor's tools say. For operators of the platform.
func (c *Client) Inspect(ctx context.Context, host events.MachineID) (wire.InspectAnswer, error) {
	var a wire.InspectAnswer
	body, err := json.Marshal(wire.InspectRequest{Host: host})
	if err != nil {
		return a, fmt.Errorf("encode request: %w", err)
	}
	reply, err := c.Conn().RequestWithContext(ctx, wire.InspectSubject(c.Actor()), body)
	if err != nil {
		return a, fmt.Errorf("ask host %s: %w", host, err)
	}
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return a, fmt.Errorf("read answer of host %s: %w", host, err)
	}
	if a.Error != nil {
		return a, &Refusal{Outcome: *a.Error}
	}
	return a, nil
}

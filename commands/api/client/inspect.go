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
	return c.inspect(ctx, wire.InspectRequest{Host: host})
}

// Usage asks a host live what its processors did so far. For operators of the platform.
func (c *Client) Usage(ctx context.Context, host events.MachineID) (wire.Usage, error) {
	a, err := c.inspect(ctx, wire.InspectRequest{Host: host, Usage: true})
	if err == nil && a.Usage == nil {
		err = fmt.Errorf("host %s did not tell what it used", host)
	}
	if err != nil {
		return wire.Usage{}, err
	}
	return *a.Usage, nil
}

// Storage asks a machine live what it sees of storage. For operators of the platform.
func (c *Client) Storage(ctx context.Context, machine events.MachineID) (events.StorageReport, error) {
	a, err := c.inspect(ctx, wire.InspectRequest{Host: machine, Storage: true})
	if err == nil && a.Storage == nil {
		err = fmt.Errorf("machine %s did not tell what it sees of storage", machine)
	}
	if err != nil {
		return events.StorageReport{}, err
	}
	return *a.Storage, nil
}

func (c *Client) inspect(ctx context.Context, r wire.InspectRequest) (wire.InspectAnswer, error) {
	var a wire.InspectAnswer
	host := r.Host
	body, err := json.Marshal(r)
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

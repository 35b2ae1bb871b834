package client

import (
	"context"
	"encoding/json"
	"fmt"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
)

// MachineConsole is the serial console of a machine that this client has opened. Its methods may be called from two goroutines: one reads,
// one types.
type MachineConsole struct {
	c       *Client
	session string
	next    uint64
	over    bool
}

// OpenMachineConsole opens the serial console of a machine (id, unique beginning of one, or name). Close it. A console that is not read for
// 20 s is closed by the server.
func (c *Client) OpenMachineConsole(ctx context.Context, machine string, write bool) (*MachineConsole, error) {
	a, err := c.machineConsole(ctx, wire.MachineConsoleRequest{Machine: events.MachineID(machine), Write: write})
	if err != nil {
		return nil, err
	}
	return &MachineConsole{c: c, session: a.Session}, nil
}

func (c *Client) machineConsole(ctx context.Context, r wire.MachineConsoleRequest) (wire.MachineConsoleAnswer, error) {
	var a wire.MachineConsoleAnswer
	body, err := json.Marshal(r)
	if err != nil {
		return a, fmt.Errorf("encode request: %w", err)
	}
	reply, err := c.Conn().RequestWithContext(ctx, wire.MachineConsoleSubject(c.Actor()), body)
	if err != nil {
		return a, fmt.Errorf("ask for the console of a machine: %w", err)
	}
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return a, fmt.Errorf("read answer about the console of a machine: %w", err)
	}
	if a.Error != nil {
		return a, &Refusal{Outcome: *a.Error}
	}
	return a, nil
}

// Read gives what the machine has printed since the last Read; none if it printed nothing for some seconds. over: nothing will follow.
func (m *MachineConsole) Read(ctx context.Context) (data []byte, over bool, err error) {
	a, err := m.c.machineConsole(ctx, wire.MachineConsoleRequest{Session: m.session, After: m.next})
	if err != nil {
		return nil, false, err
	}
	m.next, m.over = a.Next, a.Over
	return a.Data, a.Over, nil
}

// Type sends bytes to the machine.
func (m *MachineConsole) Type(ctx context.Context, text []byte) error {
	for len(text) > 0 {
		part := text[:min(len(text), wire.MaxTyped)]
		if _, err := m.c.machineConsole(ctx, wire.MachineConsoleRequest{Session: m.session, Input: part}); err != nil {
			return err
		}
		text = text[len(part):]
	}
	return nil
}

// Close closes the console, so that it can be opened again at once.
func (m *MachineConsole) Close(ctx context.Context) error {
	_, err := m.c.machineConsole(ctx, wire.MachineConsoleRequest{Session: m.session, Close: true})
	return err
}

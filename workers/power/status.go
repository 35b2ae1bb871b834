package power

import (
	"context"
	"errors"
	"fmt"

	"cloudengine/events"
)

// Status reads a machine's power now: events.PowerIsOn or PowerIsOff. Nothing is switched or reported, and the answer of a controller that
// is not the one that was first found healthy is an error.
func (w *Worker) Status(ctx context.Context, id events.MachineID) (state string, err error) {
	m, ok := w.cfg.State.Machine(id)
	if !ok || m.BMC == nil {
		return "", errors.New("there is no BMC to ask")
	}
	unlock, err := w.lock(ctx, id)
	if err != nil {
		return "", err
	}
	defer unlock()
	err = w.visit(ctx, m, func(ctx context.Context, b BMC) error {
		who, err := b.Identify(ctx)
		if err != nil {
			return err
		}
		if m.GUID != "" && who.GUID != m.GUID {
			return fmt.Errorf("another controller answers at %s: its GUID is %s, not %s", m.BMC.Address, who.GUID, m.GUID)
		}
		state, err = b.Status(ctx)
		return err
	})
	if err != nil {
		return "", err
	}
	return state, nil
}

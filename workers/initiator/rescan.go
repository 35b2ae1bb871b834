package initiator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Rescan looks for new units of a target, reads the sizes and identifiers of those that are there anew, and removes the disks of units that
// the target does not give us any more or gives us as something else: what is under way on those fails. It returns once the disks of new units
// are there. ErrNoSession or ErrDown if there is no session that works.
func (i *Initiator) Rescan(ctx context.Context, t Target) error {
	err := i.flights.do(ctx, t.lane(), "rescan "+t.String(), loginTime, func(ctx context.Context) error {
		sessions, err := i.with(t)
		if err != nil {
			return err
		}
		if len(sessions) == 0 {
			return ErrNoSession
		}
		for _, s := range sessions {
			if !s.Live {
				return fmt.Errorf("%w (%s)", ErrDown, s.State)
			}
			if err := i.renew(ctx, s.Host); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("rescan %s: %w", t, err)
	}
	return nil
}

func (i *Initiator) renew(ctx context.Context, host int) error {
	units, err := i.units(host)
	if err != nil {
		return err
	}
	for _, u := range units {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := i.renewUnit(u); err != nil {
			return err
		}
	}
	return i.scan(ctx, host)
}

// renewUnit reads a unit anew, or removes its disk.
func (i *Initiator) renewUnit(unit string) error {
	disk := i.disk(unit)
	if disk == "" {
		return nil
	}
	before := i.text("sys/class/scsi_device", unit, "device/wwid")
	gone := errors.Is(i.ready(disk), ErrNoUnit)
	if !gone {
		if err := i.put(i.unit(unit, "rescan"), "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		after := i.text("sys/class/scsi_device", unit, "device/wwid")
		gone = after != before && strings.HasPrefix(after, "naa.") // else it could not be read now
	}
	if !gone {
		return nil
	}
	i.log().Info("unit removed", "unit", unit, "disk", disk, "was", before)
	if err := i.put(i.unit(unit, "delete"), "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// scan looks for new units of a host, and waits for their disks.
func (i *Initiator) scan(ctx context.Context, host int) error {
	if err := i.put(i.path("sys/class/scsi_host", "host"+strconv.Itoa(host), "scan"), "- - -"); err != nil {
		return err
	}
	return i.settle(ctx, host)
}

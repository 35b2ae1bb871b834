package initiator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cloudengine/workers/reserve"
)

// reservationRoom is what answers about reservations have, in bytes: more than 500 keys.
const reservationRoom = 4096

// rereads bounds how often a unit is read until its two answers are of one time.
const rereads = 5

// asc of a command, or a service action, that a unit does not know (SPC-4, annex F).
const ascNoCommand = 0x20

// Reservation reads who has registered with a disk's unit and who holds it. Who does not hold it may ask, too. Errors: reserve.ErrUnsupported, those
// of Probe.
func (i *Initiator) Reservation(ctx context.Context, dev string) (reserve.Seen, error) {
	var out reserve.Seen
	key, err := i.unitKey(dev)
	if err == nil {
		err = i.flights.do(ctx, key, key+" keys", probeTime, func(context.Context) (err error) {
			seen, err := i.readReservation(dev)
			if err == nil {
				i.seen.Store(key, seen)
			}
			return err
		})
	}
	if err != nil {
		return out, fmt.Errorf("read the reservation of %s: %w", dev, err)
	}
	if seen, ok := i.seen.Load(key); ok {
		out, _ = seen.(reserve.Seen)
	}
	return out, nil
}

// Reserve sends one PERSISTENT RESERVE OUT. What is sent to one unit is sent in order, also what nobody waits for any more. Errors:
// reserve.ErrConflict, reserve.ErrUnsupported, those of Probe.
func (i *Initiator) Reserve(ctx context.Context, dev string, o reserve.Out) error {
	key, err := i.unitKey(dev)
	if err == nil {
		err = i.flights.do(ctx, key, fmt.Sprintf("%s %+v", key, o), probeTime, func(context.Context) error {
			cdb, list := o.Encode()
			return i.exchange(dev, cdb, list, sgDxferToDev)
		})
	}
	if err != nil {
		return fmt.Errorf("change the reservation of %s: %w", dev, err)
	}
	return nil
}

// unitKey names what a disk is now: names and places are given again, this number is not (sysfs-block).
func (i *Initiator) unitKey(dev string) (string, error) {
	if dev != filepath.Base(dev) || dev == "." || dev == ".." {
		return "", fmt.Errorf("%q is not the name of a disk", dev)
	}
	if _, err := os.Stat(i.path("sys/block", dev, "device")); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoUnit, err)
	}
	return "reservation " + dev + " " + i.text("sys/block", dev, "diskseq"), nil
}

// readReservation asks both questions until the answers are of one generation.
func (i *Initiator) readReservation(dev string) (reserve.Seen, error) {
	for range rereads {
		b := make([]byte, reservationRoom)
		if err := i.exchange(dev, reserve.ReadKeys(len(b)), b, sgDxferFromDv); err != nil {
			return reserve.Seen{}, err
		}
		before, keys, err := reserve.Keys(b)
		if err != nil {
			return reserve.Seen{}, err
		}
		clear(b)
		if err := i.exchange(dev, reserve.ReadReservation(len(b)), b, sgDxferFromDv); err != nil {
			return reserve.Seen{}, err
		}
		after, holder, kind, err := reserve.Holder(b)
		if err != nil {
			return reserve.Seen{}, err
		}
		if before == after {
			return reserve.Seen{Keys: keys, Holder: holder, Type: kind}, nil
		}
	}
	return reserve.Seen{}, reserve.ErrUnsettled
}

// exchange sends one command about reservations, again after a unit attention: then it was not carried out. It returns when the kernel does.
func (i *Initiator) exchange(dev string, cdb, data []byte, direction int32) error {
	send := i.edges.reserve
	if send == nil {
		send = i.send
	}
	var r reply
	for range attentions {
		var err error
		if r, err = send(dev, cdb, data, direction); err != nil {
			return err
		}
		if !r.attention() {
			break
		}
	}
	err := r.err()
	key, asc, _, ok := r.codes()
	switch {
	case errors.Is(err, ErrReserved):
		return fmt.Errorf("%w: %w", reserve.ErrConflict, err)
	case err != nil && ok && r.status == statusCheck && key == keyIllegal && asc == ascNoCommand:
		return fmt.Errorf("%w: %w", reserve.ErrUnsupported, err)
	}
	return err
}

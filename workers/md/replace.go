package md

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// Replace gives a slot of a running array to a new disk. While the member in it is in sync, the new one is filled beside it, and md itself lets
// go of that one when the new one is full: no copy is missing meanwhile. An empty slot is filled from the set's other copies.
//
// What another array has left on the new disk is lost: the caller makes sure that this is agreed. It refuses a disk whose superblock is
// damaged, and one of this array that was written after the array was.
func (k *Kernel) Replace(ctx context.Context, name, dev string, slot int) error {
	a, err := readArray(filepath.Join("/sys/block", name))
	if err != nil {
		return fmt.Errorf("replace slot %d of %s by %s: %w", slot, name, dev, err)
	}
	s, err := ReadSuper("/dev/" + dev)
	old := a.InSlot(slot)
	switch {
	case errors.Is(err, ErrNoSuper):
	case err != nil:
		return fmt.Errorf("replace slot %d of %s by %s: %w", slot, name, dev, err)
	case s.UUID == a.UUID && old == nil:
		return k.Join(ctx, name, dev, slot)
	case s.UUID == a.UUID:
		err = notNewer(a, s)
		if err != nil {
			return fmt.Errorf("replace slot %d of %s by %s: %w", slot, name, dev, err)
		}
	}
	if a.Of(dev) != nil || old == nil && !a.Spare(slot) || old != nil && (!old.Is("in_sync") || old.Is(replacement) || a.Beside(slot) != nil) {
		return fmt.Errorf("replace slot %d of %s by %s: %w", slot, name, dev, errReplace)
	}
	if !errors.Is(err, ErrNoSuper) {
		if err := eraseSuper("/dev/" + dev); err != nil {
			return fmt.Errorf("replace slot %d of %s by %s: %w", slot, name, dev, err)
		}
	}
	return k.add(ctx, a, dev, slot)
}

var errReplace = errors.New("it is there already, the slot's member is not in sync or being replaced, or its set has no good copy")

// Beside gives the member that is filled beside the one in a slot, or nil.
func (a Array) Beside(slot int) *Member {
	for i, m := range a.Members {
		if m.Slot == slot && !m.Is("faulty") && m.Is(replacement) && a.InSlot(slot) != &a.Members[i] {
			return &a.Members[i]
		}
	}
	return nil
}

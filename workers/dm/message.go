package dm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Message tells the first target of a device something in the words of its type (DM_TARGET_MSG).
func Message(name, text string) error {
	data := make([]byte, 8, 8+len(text)+1) // struct dm_target_msg: the sector, then the text
	data = append(append(data, text...), 0)
	if _, _, err := control(unix.DM_TARGET_MSG, request{name: name, data: data}); err != nil {
		return fmt.Errorf("tell device %s %q: %w", name, text, err)
	}
	return nil
}

// Status gives what the types of a device's targets tell of how they are, in Params. If there is no such device, the error is ENXIO.
func Status(name string) ([]Target, error) {
	head, data, err := control(unix.DM_TABLE_STATUS, request{name: name, flags: unix.DM_NOFLUSH_FLAG})
	if err != nil {
		return nil, fmt.Errorf("read status of %s: %w", name, err)
	}
	status, err := decodeTable(data, int(head.Target_count))
	if err != nil {
		return nil, fmt.Errorf("read status of %s: %w", name, err)
	}
	return status, nil
}

// Swap is Reload for a device whose I/O may have to wait: what its target holds back (multipath without a path) is neither waited for nor
// failed, but goes to the new table. Reload would let it fail. If it fails, the device may be left suspended: call it again.
func Swap(name string, table []Target) error {
	data, err := encodeTable(table)
	if err != nil {
		return fmt.Errorf("load table of %s: %w", name, err)
	}
	const hold = unix.DM_NOFLUSH_FLAG | unix.DM_SKIP_LOCKFS_FLAG
	for _, step := range []struct {
		op uint
		r  request
	}{
		{unix.DM_TABLE_LOAD, request{name: name, data: data, targets: len(table)}},
		{unix.DM_DEV_SUSPEND, request{name: name, flags: unix.DM_SUSPEND_FLAG | hold}},
		{unix.DM_DEV_SUSPEND, request{name: name, flags: hold}},
	} {
		if _, _, err := control(step.op, step.r); err != nil {
			return fmt.Errorf("swap table of %s: %w", name, err)
		}
	}
	return nil
}

// IsGone says whether an error means that there is no such device.
func IsGone(err error) bool { return errors.Is(err, unix.ENXIO) }

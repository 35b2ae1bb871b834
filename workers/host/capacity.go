package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cloudengine/events"
)

// ReserveMiB is kept free for Xen's own needs that no domain accounts for.
const ReserveMiB = 64

// Dom0ReserveMiB is what the control domain keeps for itself before device models get any: files of templates (256), consoles (128), and
// what the agent and calls of xl take at times.
const Dom0ReserveMiB = 512

// MeasureCapacity says what the host can give to domains. It is measured once per boot, while there is no domain, and kept in file,
// so that it does not change with what runs. An agent that finds domains and no file counts what they have as free.
func MeasureCapacity(ctx context.Context, t Toolstack, file string) (events.Capacity, error) {
	if b, err := os.ReadFile(file); err == nil {
		var c events.Capacity
		if err := json.Unmarshal(b, &c); err == nil && c.PCPUs > 0 {
			return c, nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return events.Capacity{}, fmt.Errorf("read capacity: %w", err)
	}
	domains, err := t.List(ctx)
	if err != nil {
		return events.Capacity{}, fmt.Errorf("measure capacity: %w", err)
	}
	info, err := t.Info(ctx)
	if err != nil {
		return events.Capacity{}, fmt.Errorf("measure capacity: %w", err)
	}
	free := info.FreeMiB
	for _, d := range domains {
		free += d.MemoryMiB
	}
	c := events.Capacity{AllocatableMiB: max(0, free-ReserveMiB), PCPUs: info.PCPUs, XenVersion: info.Version, Types: info.Types()}
	if info.DeviceModel {
		c.DeviceModels = max(0, info.Dom0MiB-Dom0ReserveMiB)
	}
	if len(domains) > 0 {
		return c, nil
	}
	b, err := json.Marshal(c)
	if err != nil {
		return events.Capacity{}, fmt.Errorf("write capacity: %w", err)
	}
	tmp := filepath.Join(filepath.Dir(file), ".capacity.tmp")
	if err := errors.Join(os.WriteFile(tmp, b, 0o600), os.Rename(tmp, file)); err != nil {
		return events.Capacity{}, fmt.Errorf("write capacity: %w", err)
	}
	return c, nil
}

package workertest

import (
	"context"
	"fmt"
	"maps"

	"cloudengine/events"
	"cloudengine/workers/host"
)

// throttle is the model's block throttle: limits belong to device numbers and end with them.
type throttle struct{ h *Host }

// Throttle gives the host's block throttle.
func (h *Host) Throttle() host.Throttle { return throttle{h} }

// Limits gives the limits in force.
func (x throttle) Limits(context.Context) (map[string]events.DiskLimits, error) {
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	if x.h.killed {
		return nil, ErrKilled
	}
	return maps.Clone(x.h.m.Limits), nil
}

// Set limits a device.
func (x throttle) Set(_ context.Context, device string, l events.DiskLimits) error {
	return x.h.change("limit "+device, func() error {
		for _, n := range x.h.m.Devices {
			if n == 0 || numberOf(n) != device {
				continue
			}
			if x.h.m.Limits == nil {
				x.h.m.Limits = map[string]events.DiskLimits{}
			}
			x.h.m.Limits[device] = l
			if l == (events.DiskLimits{}) {
				delete(x.h.m.Limits, device)
			}
			return nil
		}
		return fmt.Errorf("limit device %s: %w", device, errNoDevice)
	}, nil)
}

// LimitsOf gives the limits of a volume's device.
func (h *Host) LimitsOf(v events.VolumeID) events.DiskLimits {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.m.Limits[numberOf(h.m.Devices[DevicePath(v)])]
}

// Numbers gives the numbers of the volumes' devices that are there.
func (h *Host) Numbers(context.Context) (map[events.VolumeID]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killed {
		return nil, ErrKilled
	}
	out := map[events.VolumeID]string{}
	for path, n := range h.m.Devices {
		if n != 0 {
			out[events.VolumeID(path[len(DevicePath("")):])] = numberOf(n)
		}
	}
	return out, nil
}

func numberOf(minor int) string { return fmt.Sprintf("%d:%d", deviceMajor, minor) }

package workertest

import (
	"context"
	"fmt"
	"sort"

	"cloudengine/events"
)

// SetMemory gives a domain so much RAM at once: the model's guests obey.
func (h *Host) SetMemory(_ context.Context, domid, mib int) error {
	return h.change(fmt.Sprintf("memory %d %d", domid, mib), func() error {
		g, ok := h.m.Guests[domid]
		if !ok || mib > g.Config.MemoryMiB {
			return fmt.Errorf("set memory of domain %d to %d MiB: it cannot have them", domid, mib)
		}
		g.MemoryMiB = mib
		if g.Config.Type == events.TypeHVM {
			g.MemoryMiB--
		}
		return nil
	}, nil)
}

// SetVCPUs switches vCPUs on and off.
func (h *Host) SetVCPUs(_ context.Context, domid, vcpus int) error {
	return h.change(fmt.Sprintf("vcpus %d %d", domid, vcpus), func() error {
		g, ok := h.m.Guests[domid]
		if !ok || vcpus < 1 || vcpus > max(g.Config.VCPUs, g.Config.MaxVCPUs) {
			return fmt.Errorf("set vCPUs of domain %d to %d: it cannot have them", domid, vcpus)
		}
		g.VCPUs = vcpus
		return nil
	}, nil)
}

// DeviceModels lists those that live.
func (h *Host) DeviceModels(context.Context) ([]int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killed {
		return nil, ErrKilled
	}
	ids := make([]int, 0, len(h.m.Models))
	for id := range h.m.Models {
		ids = append(ids, id)
	}
	sort.Ints(ids)
	return ids, nil
}

// EndModel ends one.
func (h *Host) EndModel(_ context.Context, domid int) error {
	return h.change(fmt.Sprintf("endmodel %d", domid), func() error {
		delete(h.m.Models, domid)
		return nil
	}, nil)
}

// LeaveModel lets a device model be there, or go, as if its domain had nothing to do with it.
func (h *Host) LeaveModel(domid int, there bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if there {
		h.m.Models[domid] = true
	} else {
		delete(h.m.Models, domid)
	}
}

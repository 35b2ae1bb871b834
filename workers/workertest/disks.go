package workertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"cloudengine/events"
	"cloudengine/workers/host"
)

// deviceMajor is the major number of the model's block devices.
const deviceMajor = 253

var errNoDevice = errors.New("the block device is not there")

// DevicePath is where the model has the block device of a volume.
func DevicePath(v events.VolumeID) string { return "/dev/mapper/ce-" + string(v) }

func backendDir(domid int) string { return "/local/domain/0/backend/vbd/" + strconv.Itoa(domid) }

// number gives the minor number of a device. Each is there, unless it was taken away.
func (h *Host) number(path string) (int, error) {
	n, known := h.m.Devices[path]
	if !known {
		h.m.Minors++
		n = h.m.Minors
		h.m.Devices[path] = n
	}
	if n == 0 {
		return 0, fmt.Errorf("%s: %w", path, errNoDevice)
	}
	return n, nil
}

// plug does what Xen's script for disks does: it insists on every device, and on the domain's own seed.
func (h *Host) plug(c host.Config) error {
	for _, d := range c.Disks {
		if name, ok := seedOfPath(d.Path); ok {
			if vm, _ := host.SeedVM(name); h.m.Seeds[name] == 0 || string(vm) != c.UUID || !d.ReadOnly {
				return fmt.Errorf("%s of %s: %w", d.Path, c.UUID, errNoDevice)
			}
		} else if _, err := h.number(d.Path); err != nil {
			return err
		}
	}
	return nil
}

// serve writes what Xen's backends have in xenstore for the disks of a domain.
func (h *Host) serve(domid int, disks []host.Disk) {
	for _, d := range disks {
		major := deviceMajor
		minor, _ := h.number(d.Path)
		if name, ok := seedOfPath(d.Path); ok {
			major, minor = loopMajor, h.m.Seeds[name]
		}
		dir := backendDir(domid) + "/" + strconv.Itoa(202<<8|int(d.Slot[len(d.Slot)-1]-'a')<<4)
		for _, n := range [][2]string{
			{"dev", d.Slot}, {"params", d.Path}, {"physical-device", fmt.Sprintf("%x:%x", major, minor)}, {"hotplug-status", "connected"},
		} {
			h.setNode(dir+"/"+n[0], n[1])
		}
	}
}

// SetDevice says whether the block device of a volume is there. One that a domain has stays; one that comes again has another number.
func (h *Host) SetDevice(v events.VolumeID, there bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open(v) {
		return
	}
	delete(h.m.Limits, numberOf(h.m.Devices[DevicePath(v)]))
	h.m.Devices[DevicePath(v)] = 0
	if there {
		h.renumber(v)
	}
}

// Renumber gives the block device of a volume another number, as if it had gone and come again, whoever has it.
func (h *Host) Renumber(v events.VolumeID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.renumber(v)
}

func (h *Host) renumber(v events.VolumeID) {
	delete(h.m.Limits, numberOf(h.m.Devices[DevicePath(v)]))
	h.m.Minors++
	h.m.Devices[DevicePath(v)] = h.m.Minors
}

func (h *Host) open(v events.VolumeID) bool {
	for _, g := range h.m.Guests {
		if slices.ContainsFunc(g.Config.Disks, func(d host.Disk) bool { return d.Path == DevicePath(v) }) {
			return true
		}
	}
	return false
}

// Ready says at once whether the device of a volume is there.
func (h *Host) Ready(_ context.Context, v events.VolumeID, _ events.ArrayID, _ int64) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killed {
		return "", ErrKilled
	}
	_, err := h.number(DevicePath(v))
	return DevicePath(v), err
}

// Device gives the number of a volume's device, and whether a domain has it.
func (h *Host) Device(_ context.Context, v events.VolumeID) (number string, open bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killed {
		return "", false, ErrKilled
	}
	n, err := h.number(DevicePath(v))
	return fmt.Sprintf("%d:%d", deviceMajor, n), h.open(v), err
}

// DisksOf gives the disks of every domain of a VM that runs, or has run.
func (h *Host) DisksOf(vm events.VMID) [][]host.Disk {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out [][]host.Disk
	for _, id := range h.ids() {
		if g := h.m.Guests[id]; g.UUID == string(vm) && g.Ran {
			out = append(out, g.Config.Disks)
		}
	}
	return out
}

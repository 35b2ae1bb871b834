package path

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"cloudengine/workers/dm"
)

// Kernel is the device-mapper of this machine. Its zero value is ready.
type Kernel struct{}

var _ Mapper = Kernel{}

// List gives our devices with what the kernel says of their paths.
func (k Kernel) List() ([]Device, error) {
	all, err := dm.List()
	if err != nil {
		return nil, err
	}
	return k.ours(all)
}

// Maps reads no device but maps.
func (k Kernel) Maps() ([]Device, error) {
	all, err := dm.Named(mapPrefix)
	if err != nil {
		return nil, err
	}
	out, err := k.ours(all)
	return slices.DeleteFunc(out, func(d Device) bool { _, is := arrayOf(d.UUID); return !is }), err
}

func (k Kernel) ours(all []dm.Device) (out []Device, err error) {
	for _, d := range all {
		_, array := arrayOf(d.UUID)
		_, volume := volumeOf(d.UUID)
		if !array && !volume {
			continue
		}
		x := Device{Name: d.Name, UUID: d.UUID, DevNo: d.Number(), Open: d.Open, Unsettled: d.Suspended || d.Pending, Table: d.Table}
		if array && len(d.Table) > 0 {
			x.Paths, err = k.Paths(d.Name)
			if dm.IsGone(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		out = append(out, x)
	}
	return out, nil
}

// Listen begins to listen to device-mapper's events.
func Listen() (Listener, error) { return dm.Listen() }

// Paths reads the status of a map.
func (Kernel) Paths(name string) ([]Path, error) {
	status, err := dm.Status(name)
	if err != nil {
		return nil, err
	}
	if len(status) != 1 || status[0].Type != typeMultipath {
		return nil, fmt.Errorf("read paths of %s: %w", name, errTable)
	}
	return parsePaths(status[0].Params)
}

// Create makes a device and its node.
func (Kernel) Create(name, uuid string, table []Line) error {
	if err := dm.Create(name, uuid, table); err != nil {
		return err
	}
	if len(table) == 1 && table[0].Type == typeMultipath {
		unscheduled(name)
	}
	return nil
}

// unscheduled lets a map pass I/O on in the order in which it came: the disks below it have schedulers. mq-deadline, the kernel's choice for
// a map, loses count of what is put back while no path works (6.1: a warning when the map goes). It does not matter if this fails.
func unscheduled(name string) {
	d, err := dm.Get(name)
	if err == nil {
		_ = os.WriteFile("/sys/dev/block/"+d.Number()+"/queue/scheduler", []byte("none"), 0)
	}
}

// Swap lets what waits go on waiting.
func (Kernel) Swap(name string, table []Line) error { return dm.Swap(name, table) }

// Reload waits for what is under way.
func (Kernel) Reload(name string, table []Line) error { return dm.Reload(name, table) }

// Tell sends a message to the device's target.
func (Kernel) Tell(name, text string) error { return dm.Message(name, text) }

// Remove takes the device and its node away.
func (Kernel) Remove(name string) error { return dm.Remove(name) }

// Node makes the device's node if it is not there.
func (Kernel) Node(name string) error { return dm.Node(name) }

// Status writes the kernel's own words about each map, for people.
func (Kernel) Status() (string, error) {
	all, err := dm.List()
	if err != nil {
		return "", err
	}
	b := &strings.Builder{}
	for _, d := range all {
		if status, err := dm.Status(d.Name); err == nil {
			fmt.Fprintf(b, "%s %s open %d: %s\n", d.Name, d.Number(), d.Open, printTable(status))
		}
	}
	return b.String(), nil
}

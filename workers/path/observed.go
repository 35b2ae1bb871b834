package path

import (
	"slices"

	"cloudengine/workers/dm"
	"cloudengine/workers/initiator"
)

// What the initiator tells: a proxy as a host logs in to it, a login that stands, and a disk of the kernel, which is a path to an array.
type (
	Target  = initiator.Target
	Session = initiator.Session
	LUN     = initiator.LUN
)

// Line is one line of a device-mapper table.
type Line = dm.Target

// Device is a device-mapper device of ours.
type Device struct {
	Name      string
	UUID      string
	DevNo     string // 253:0
	Open      int    // how often it is open, by other devices too
	Unsettled bool   // it is suspended, or was given a table that is not in force: a change was cut off
	Table     []Line // in force; empty while it was never given one
	Paths     []Path // a map's, as the kernel sees them
}

// Path is one path of a map.
type Path struct {
	DevNo string
	Valid bool // the kernel sends I/O to it
}

// Bytes is the device's size.
func (d Device) Bytes() int64 {
	return int64(dm.Sectors(d.Table)) * dm.SectorSize
}

// usable counts the paths that the kernel sends I/O to.
func (d Device) usable() int {
	n := 0
	for _, p := range d.Paths {
		if p.Valid {
			n++
		}
	}
	return n
}

// Observed is what was seen of one host at one time.
type Observed struct {
	Sessions []Session
	LUNs     []LUN
	Devices  []Device // ours, by their UUID
}

// live says whether there is a session with a target, and whether it works.
func (o Observed) live(t Target) (live, there bool) {
	for _, s := range o.Sessions {
		if s.Target == t {
			live, there = live || s.Live, true
		}
	}
	return live, there
}

// device finds a device of ours by its UUID.
func (o Observed) device(uuid string) (Device, bool) {
	i := slices.IndexFunc(o.Devices, func(d Device) bool { return d.UUID == uuid })
	if i < 0 {
		return Device{}, false
	}
	return o.Devices[i], true
}

// users lists the devices whose tables name a device.
func (o Observed) users(devNo string) []Device {
	var out []Device
	for _, d := range o.Devices {
		if slices.ContainsFunc(d.Table, func(l Line) bool { return over(l) == devNo }) {
			out = append(out, d)
		}
	}
	return out
}

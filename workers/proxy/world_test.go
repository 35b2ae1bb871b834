package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/dm"
	"cloudengine/workers/md"
	"cloudengine/workers/proxy"
	"cloudengine/workers/reserve"
	"cloudengine/workers/workertest/prunit"
)

// disk is a leg on its storage node.
type disk struct {
	naa   string
	node  proxy.Node
	super *md.Super
	there bool // exported to us, and reachable
	stays bool // the kernel lists it though it is not there: each command is refused

	unit    *prunit.Unit
	version int  // of what is written to the array: the last write that it has
	spare   bool // it is no leg
	slot    int
}

// world is a proxy's kernel, and the disks of its storage nodes. It outlives the agent, and complains about what must never happen.
type world struct {
	disks    []*disk
	sessions map[proxy.Node]bool
	arrays   []md.Array
	devices  []dm.Device
	exports  map[events.ArrayID]proxy.Export
	records  map[events.ArrayID]*proxy.Record
	data     map[events.ArrayID][]string // what is on each extent
	minor    uint32
	version  int
	filling  map[string]int // by device: looks until it is a leg
	looks    int            // that filling takes, at least 4
	waiting  map[string]int // slots of members that joined a frozen array

	mayJoin     func(*disk) string
	mayAssemble func(id string, members []md.Candidate) string // why not, or nothing
	mayZero     func(id events.ArrayID, extent int) string
	wrong       []string

	file string // what the bytes of the array are kept in; empty: they are not

	between func() // once, before the next superblock is read

	mapped []byte           // that file, outside of what the race detector looks at
	theirs []desired.Volume // whose extents may be written, with a file
	fetch  proxy.Fetch

	checks, ended int // checks that md began, and that it did to their end

	killIn int // calls until the agent dies; 0: it does not
	after  bool
	fail   func(call string) error
	calls  []string
}

var errKilled = errors.New("killed")

const (
	extentMiB = 4
	startMiB  = 4
	extents   = 15
	sectors   = (startMiB + extents*extentMiB) * 2048
)

func newWorld(nodes, each int) *world {
	w := &world{sessions: map[proxy.Node]bool{}, exports: map[events.ArrayID]proxy.Export{}, records: map[events.ArrayID]*proxy.Record{},
		data: map[events.ArrayID][]string{}, filling: map[string]int{}, looks: 5, minor: 10, waiting: map[string]int{}}
	for i := range nodes * each {
		n := i % nodes
		w.disks = append(w.disks, &disk{naa: fmt.Sprintf("6001405%025d", i), there: true, slot: i, unit: &prunit.Unit{},
			node: proxy.Node{Transport: "srp", Machine: events.MachineID(fmt.Sprintf("node%d", n)), Address: fmt.Sprintf("10.0.0.%d", n+1)}})
	}
	return w
}

func (w *world) complain(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...)+" (after "+strings.Join(w.calls[max(0, len(w.calls)-8):], ", ")+")")
}

// act does what a call does, unless the agent dies before it; it may die after it too.
func (w *world) act(call string, f func() error) error {
	w.calls = append(w.calls, call)
	if w.killIn > 0 {
		w.killIn--
		if w.killIn == 0 && !w.after {
			panic(errKilled)
		}
		if w.killIn == 0 {
			defer panic(errKilled)
		}
	}
	if w.fail != nil {
		if err := w.fail(call); err != nil {
			return err
		}
	}
	return f()
}

func dev(naa string) string { return "sd" + naa[len(naa)-2:] }

func (w *world) disk(name string) *disk {
	for _, d := range w.disks {
		if dev(d.naa) == name {
			return d
		}
	}
	return nil
}

func (w *world) seen(d *disk) bool { return d.there && w.sessions[d.node] }

// us is this proxy as disks know it.
const us = "p1"

// works says whether we can read and write a disk.
func (w *world) works(d *disk) bool { return w.seen(d) && d.unit.May(us) }

func (w *world) Reservation(ctx context.Context, name string) (reserve.Seen, error) {
	d := w.disk(name)
	if !w.seen(d) {
		return reserve.Seen{}, unix.EIO
	}
	return d.unit.At(us).Reservation(ctx)
}

func (w *world) Reserve(_ context.Context, name string, o reserve.Out) error {
	return w.act(fmt.Sprintf("reserve %s %d", name, o.Action), func() error {
		if d := w.disk(name); w.seen(d) {
			return d.unit.Do(us, o)
		}
		return unix.EIO
	})
}

func (w *world) Login(_ context.Context, n proxy.Node) error {
	return w.act("login "+string(n.Machine), func() error {
		for _, d := range w.disks {
			if d.node == n && d.there {
				w.sessions[n] = true
				return nil
			}
		}
		return errors.New("no answer")
	})
}

func (w *world) Logout(_ context.Context, n proxy.Node) error {
	return w.act("logout "+string(n.Machine), func() error {
		for _, a := range w.arrays {
			for _, m := range a.Members {
				if d := w.disk(m.Dev); d.node == n && w.seen(d) {
					w.complain("logged out of %s under array %s", n.Machine, a.UUID)
				}
			}
		}
		delete(w.sessions, n)
		return nil
	})
}

func (w *world) Rescan(context.Context, proxy.Node) error { return nil }

func (w *world) Sessions(context.Context) (out []proxy.Session, _ error) {
	for n := range w.sessions {
		out = append(out, proxy.Session{Node: n, Live: true})
	}
	slices.SortFunc(out, func(a, b proxy.Session) int { return strings.Compare(string(a.Node.Machine), string(b.Node.Machine)) })
	return out, nil
}

func (w *world) LUNs(context.Context) (out []proxy.LUN, _ error) {
	for _, d := range w.disks {
		if w.seen(d) || d.stays && w.sessions[d.node] {
			out = append(out, proxy.LUN{NAA: d.naa, Dev: dev(d.naa), Bytes: 128 << 20, State: "running", Node: d.node})
		}
	}
	return out, nil
}

func (w *world) Exports(context.Context) (out []proxy.Export, _ error) {
	for _, e := range w.exports {
		out = append(out, e)
	}
	return out, nil
}

func (w *world) Set(_ context.Context, e proxy.Export) error {
	return w.act("export "+e.State, func() error {
		if w.device("ce-"+string(e.Array)) == nil {
			return errors.New("there is no such device")
		}
		w.exports[e.Array] = e
		return nil
	})
}

func (w *world) SetState(_ context.Context, id events.ArrayID, state string) error {
	return w.act("state "+state, func() error {
		e, ok := w.exports[id]
		if !ok {
			return errors.New("there is no such export")
		}
		e.State = state
		w.exports[id] = e
		return nil
	})
}

func (w *world) device(name string) *dm.Device {
	for i, d := range w.devices {
		if d.Name == name {
			return &w.devices[i]
		}
	}
	return nil
}

// over lists the devices with a table over a device number.
func (w *world) over(number string) bool {
	return slices.ContainsFunc(w.devices, func(d dm.Device) bool {
		return slices.ContainsFunc(d.Table, func(t dm.Target) bool { return strings.HasPrefix(t.Params, number+" ") })
	})
}

// mapper is world's device-mapper.
type mapper struct{ *world }

func (w mapper) List() ([]dm.Device, error) { return slices.Clone(w.devices), nil }

func (w mapper) Create(name, uuid string, table []dm.Target) error {
	return w.act("dm create "+name, func() error {
		if w.device(name) != nil {
			return unix.EBUSY
		}
		w.minor++
		w.devices = append(w.devices, dm.Device{Name: name, UUID: uuid, Major: 253, Minor: w.minor, Table: table})
		return nil
	})
}

func (w mapper) Reload(name string, table []dm.Target) error {
	return w.act("dm reload "+name, func() error {
		d := w.device(name)
		if d == nil {
			return unix.ENXIO
		}
		d.Table, d.Suspended = table, false
		return nil
	})
}

func (w mapper) Remove(name string) error {
	return w.act("dm remove "+name, func() error {
		d := w.device(name)
		if d == nil {
			return nil
		}
		if e, ok := w.exports[events.ArrayID(strings.TrimPrefix(name, "ce-"))]; w.over(d.Number()) || ok && e.Device == dm.Path(name) {
			return unix.EBUSY
		}
		w.devices = slices.DeleteFunc(w.devices, func(d dm.Device) bool { return d.Name == name })
		return nil
	})
}

// target is world's Target: Remove is of another form than mapper's.
type target struct{ *world }

func (w target) Remove(_ context.Context, id events.ArrayID) error {
	return w.act("unexport", func() error { delete(w.exports, id); return nil })
}

// records is world's LVM.
type records struct{ *world }

// alive says whether what is written to an array arrives: some member of each set is there; it fails those that are not.
func (w *world) alive(id string) error {
	for i := range w.arrays {
		a := &w.arrays[i]
		if a.UUID != id {
			continue
		}
		for set := range a.RaidDisks / 2 {
			good := 0
			for _, slot := range []int{2 * set, 2*set + 1} {
				if m := a.InSlot(slot); m != nil && m.Is("in_sync") && w.works(w.disk(m.Dev)) {
					good++
				}
			}
			if good == 0 {
				a.State = md.StateBroken
				return unix.EIO
			}
		}
		w.dropDead(a)
		return nil
	}
	return unix.ENODEV
}

func (w *world) dropDead(a *md.Array) {
	for i := range a.Members {
		if m := &a.Members[i]; !m.Is("faulty") && !w.works(w.disk(m.Dev)) {
			w.lose(a, m)
		}
	}
}

func (w records) Read(_ context.Context, id events.ArrayID, _ string) (proxy.Record, error) {
	if err := w.alive(string(id)); err != nil {
		return proxy.Record{}, err
	}
	if r := w.records[id]; r != nil {
		out := *r
		out.Volumes = map[events.VolumeID][]events.Segment{}
		for k, v := range r.Volumes {
			out.Volumes[k] = slices.Clone(v)
		}
		return out, nil
	}
	return proxy.Record{}, nil
}

func (w records) Init(_ context.Context, id events.ArrayID, _ string, start, extent int) error {
	return w.act("record", func() error {
		if own := w.device("ce-own-" + string(id)); own == nil || w.over(own.Number()) {
			return unix.EBUSY
		}
		if w.records[id] != nil {
			w.complain("the records of %s are made again", id)
		}
		w.records[id] = &proxy.Record{Found: true, StartMiB: start, ExtentMiB: extent, Extents: extents, Volumes: map[events.VolumeID][]events.Segment{}}
		return w.alive(string(id))
	})
}

// Extend adds segment by segment, as LVM does: it can be cut off between any two.
func (w records) Extend(_ context.Context, id events.ArrayID, _ string, v events.VolumeID, have int, more []events.Segment) error {
	for _, s := range more {
		if err := w.extend(id, v, have, []events.Segment{s}); err != nil {
			return err
		}
		have += s.Count
	}
	return nil
}

func (w records) extend(id events.ArrayID, v events.VolumeID, have int, more []events.Segment) error {
	return w.act("extend "+string(v), func() error {
		if err := w.alive(string(id)); err != nil {
			return err
		}
		n := 0
		for _, s := range w.records[id].Volumes[v] {
			n += s.Count
		}
		if n != have {
			return errors.New("it has another size")
		}
		for other, used := range w.records[id].Volumes {
			for _, a := range used {
				for _, b := range more {
					if a.Start < b.Start+b.Count && b.Start < a.Start+a.Count {
						w.complain("%s gets extents of %s", v, other)
					}
				}
			}
		}
		w.records[id].Volumes[v] = append(w.records[id].Volumes[v], more...)
		return nil
	})
}

// clock is what the worker takes for the time.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

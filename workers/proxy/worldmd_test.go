package proxy_test

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/md"
)

// arrays is world's md.
type arrays struct{ *world }

func (w arrays) Arrays(string) ([]md.Array, error) {
	w.fill()
	var out []md.Array
	for _, a := range w.arrays {
		a.Members = slices.Clone(a.Members)
		out = append(out, a)
	}
	return out, nil
}

// update writes the superblocks of an array's members.
func (w *world) update(a *md.Array) {
	a.Degraded = 0
	var events uint64
	roles := slices.Repeat([]uint16{0xfffe}, len(w.disks))
	for slot := range a.RaidDisks {
		if m := a.InSlot(slot); m == nil || !m.Is("in_sync") {
			a.Degraded++
		}
	}
	if a.Degraded > 0 && a.SyncAction == md.ActionCheck {
		a.SyncAction = md.ActionIdle // and sync_max stays
	}
	number := func(dev string) int { return slices.Index(w.disks, w.disk(dev)) }
	for _, m := range a.Members {
		if m.Slot >= 0 && !m.Is("faulty") {
			roles[number(m.Dev)] = uint16(m.Slot)
			events = max(events, w.disk(m.Dev).super.Events)
		}
	}
	for _, m := range a.Members {
		if s := w.disk(m.Dev).super; m.Slot >= 0 && !m.Is("faulty") && w.disk(m.Dev).unit.May(us) {
			s.Events, s.Roles, s.DevNumber, s.Features = events+1, roles, number(m.Dev), 0
			if m.Is("replacement") {
				s.Features |= 1 << 4
			}
			if !m.Is("in_sync") {
				s.Features |= 1 << 1
			}
		}
	}
}

func (w arrays) Create(_ context.Context, s md.Spec) (string, error) {
	return "md0", w.act("create", func() error {
		var members []md.Candidate
		for i, d := range s.Devs {
			if err := w.act("write superblock", func() error {
				w.disk(d).super = &md.Super{UUID: s.UUID, Level: 10, Layout: 258, ChunkKiB: s.ChunkKiB, RaidDisks: s.RaidDisks, DevNumber: i,
					Roles: []uint16{0, 1, 2, 3}[:s.RaidDisks]}
				return nil
			}); err != nil {
				return err
			}
			members = append(members, md.Candidate{Slot: i, Dev: d})
		}
		if w.data[events.ArrayID(s.UUID)] != nil {
			w.complain("array %s is made twice", s.UUID)
		}
		for range extents {
			w.data[events.ArrayID(s.UUID)] = append(w.data[events.ArrayID(s.UUID)], "old")
		}
		return w.run(s.Wanted, members)
	})
}

func (w arrays) Assemble(_ context.Context, x md.Wanted, members []md.Candidate) (string, error) {
	return "md0", w.act("assemble", func() error { return w.run(x, members) })
}

func (w *world) run(x md.Wanted, members []md.Candidate) error {
	if why := w.mayAssemble(x.UUID, members); why != "" {
		w.complain("array %s is assembled: %s", x.UUID, why)
	}
	if len(w.arrays) > 0 {
		w.complain("two arrays run")
	}
	a := md.Array{Name: "md0", DevNo: "9:0", UUID: x.UUID, State: "clean", Level: "raid10", Layout: 258, RaidDisks: x.RaidDisks, ChunkKiB: x.ChunkKiB,
		Sectors: sectors, SyncAction: "idle"}
	for _, m := range members {
		if d := w.disk(m.Dev); !w.works(d) || d.super == nil || d.super.UUID != x.UUID {
			return errors.New("it is not a member")
		}
		states := []string{"in_sync"}
		if m.Super != nil && m.Super.Filling() {
			states = []string{"spare", "replacement"}
			w.filling[m.Dev] = w.looks
		}
		a.Members = append(a.Members, md.Member{Dev: m.Dev, Slot: m.Slot, States: states})
	}
	w.assembled(&a)
	w.update(&a)
	w.update(&a)
	w.arrays = append(w.arrays, a)
	return nil
}

func (w arrays) Stop(_ context.Context, name string) error {
	return w.act("stop", func() error {
		for i, a := range w.arrays {
			if a.Name != name {
				continue
			}
			if w.over(a.DevNo) {
				return unix.EBUSY
			}
			w.update(&w.arrays[i]) // md writes what it has not yet
			w.arrays = slices.Delete(w.arrays, i, i+1)
			return nil
		}
		return nil
	})
}

// with changes a member of an array.
func (w arrays) with(call, name, dev string, f func(a *md.Array, m *md.Member) error) error {
	return w.act(call+" "+dev, func() error {
		for i := range w.arrays {
			if w.arrays[i].Name == name {
				return f(&w.arrays[i], w.arrays[i].Of(dev))
			}
		}
		return unix.ENODEV
	})
}

func (w arrays) Fail(_ context.Context, name, dev string) error {
	return w.with("fail", name, dev, func(a *md.Array, m *md.Member) error {
		if m == nil || m.Is("faulty") {
			return nil
		}
		if beside := a.Beside(m.Slot); !a.Spare(m.Slot) && (beside == nil || beside.Dev != m.Dev) {
			w.complain("the last copy of a set is failed")
		}
		w.lose(a, m)
		return nil
	})
}

func (w arrays) Remove(_ context.Context, name, dev string) error {
	return w.with("remove", name, dev, func(a *md.Array, _ *md.Member) error {
		a.Members = slices.DeleteFunc(a.Members, func(m md.Member) bool { return m.Dev == dev })
		return nil
	})
}

func (w arrays) Join(_ context.Context, name, dev string, slot int) error {
	return w.with("join", name, dev, func(a *md.Array, m *md.Member) error {
		d := w.disk(dev)
		if m != nil || a.InSlot(slot) != nil || !w.works(d) {
			return unix.EBUSY
		}
		if d.super != nil && d.super.UUID != a.UUID {
			w.complain("a foreign member is joined")
		}
		if why := w.mayJoin(d); why != "" {
			w.complain("%s is joined: %s", dev, why)
		}
		s := *w.disk(a.InSlot(slot ^ 1).Dev).super
		if a.SyncAction == md.ActionFrozen { // it is put into its slot when the array is thawed
			n := slices.Index(w.disks, d)
			s.Roles, s.DevNumber = append(slices.Clone(s.Roles), slices.Repeat([]uint16{0xfffe}, max(0, len(w.disks)-len(s.Roles)))...), n
			s.Roles[n] = uint16(slot)
			d.super, d.version = &s, -1
			a.Members = append(a.Members, md.Member{Dev: dev, Slot: -1, States: []string{"spare"}})
			w.waiting[dev] = slot
			return nil
		}
		d.super, d.version = &s, w.version
		a.Members = append(a.Members, md.Member{Dev: dev, Slot: slot, States: []string{"in_sync"}})
		w.update(a)
		return nil
	})
}

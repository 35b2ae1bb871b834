package proxy_test

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"cloudengine/workers/md"
	"cloudengine/workers/workertest/prunit"
)

// addSpare gives the world one more disk, which is no leg.
func (w *world) addSpare(node int) *disk {
	d := *w.disks[node]
	d.naa, d.super, d.spare, d.version = d.naa[:len(d.naa)-2]+string([]byte{'0' + byte(len(w.disks)/10), '0' + byte(len(w.disks)%10)}), nil, true, 0
	d.unit = &prunit.Unit{}
	w.disks = append(w.disks, &d)
	return &d
}

// Replace is md's: beside a good member the new one is filled, in an empty slot it is as good as joined.
func (w arrays) Replace(ctx context.Context, name, dev string, slot int) error {
	i := slices.IndexFunc(w.arrays, func(a md.Array) bool { return a.Name == name })
	if i < 0 {
		return unix.ENODEV
	}
	if w.arrays[i].InSlot(slot) == nil {
		if !w.arrays[i].Spare(slot) {
			w.complain("a slot without a copy is given to %s", dev)
		}
		return w.Join(ctx, name, dev, slot)
	}
	return w.with("replace by", name, dev, func(a *md.Array, m *md.Member) error {
		d, old := w.disk(dev), a.InSlot(slot)
		if m != nil || !w.works(d) || !old.Is("in_sync") || old.Is("replacement") || a.Beside(slot) != nil {
			return errors.New("it cannot be replaced")
		}
		if why := w.mayJoin(d); why != "" {
			w.complain("%s follows a leg: %s", dev, why)
		}
		s := *w.disk(old.Dev).super
		d.super, d.version = &s, -1
		a.Members = append(a.Members, md.Member{Dev: dev, Slot: slot, States: []string{"spare", "replacement"}})
		w.filling[dev] = w.looks
		w.update(a)
		return nil
	})
}

// fill is what md does by itself: it fills what is beside a leg, lets go of that, and calls the new one a leg then.
func (w *world) fill() {
	for i := range w.arrays {
		a := &w.arrays[i]
		for j := range a.Members {
			m := &a.Members[j]
			if a.SyncAction == md.ActionFrozen || w.filling[m.Dev] <= 0 || m.Is("faulty") || !w.works(w.disk(m.Dev)) {
				continue
			}
			w.filling[m.Dev]--
			switch old := a.InSlot(m.Slot); {
			case w.filling[m.Dev] <= 3 && old.Dev != m.Dev:
				w.disk(m.Dev).version = w.disk(old.Dev).version
				m.States, old.States, old.Slot = []string{"in_sync", "replacement"}, []string{"faulty"}, -1
				w.filling[m.Dev] = 3
			case w.filling[m.Dev] == 1 && m.Is("in_sync"): // at 2 its superblock says that it is full, at 0 that it is a leg
				m.States = []string{"in_sync"}
			}
			w.late(a)
		}
	}
}

// late writes superblocks of what md had changed at the look before.
func (w *world) late(a *md.Array) {
	for _, m := range a.Members {
		if n, ok := w.filling[m.Dev]; ok && (n == 2 || n == 0) && m.Is("in_sync") {
			w.update(a)
			return
		}
	}
}

// lose makes a member faulty. What is filled beside it goes on as a leg; here it is full at once, from another copy.
func (w *world) lose(a *md.Array, m *md.Member) {
	slot := m.Slot
	m.States, m.Slot = []string{"faulty"}, -1
	if in := a.InSlot(slot); slot >= 0 && in != nil && in.Is("replacement") {
		if a.Spare(slot) {
			in.States = []string{"in_sync"}
			w.disk(in.Dev).version = w.version
		} else if !in.Is("in_sync") {
			in.States, in.Slot = []string{"faulty"}, -1
		}
	}
	w.update(a)
}

// assembled: each member that counts has all that was written, and no slot has two.
func (w *world) assembled(a *md.Array) {
	slots := map[int]string{}
	for _, m := range a.Members {
		if !m.Is("in_sync") {
			continue
		}
		if other := slots[m.Slot]; other != "" {
			w.complain("%s and %s both are leg %d", other, m.Dev, m.Slot)
		}
		slots[m.Slot] = m.Dev
		if d := w.disk(m.Dev); d.version != w.version {
			w.complain("%s has write %d of %d and is a leg", m.Dev, d.version, w.version)
		}
	}
	for _, m := range a.Members {
		if !m.Is("in_sync") && slots[m.Slot] == "" {
			w.complain("%s is filled beside nothing", m.Dev)
		}
	}
}

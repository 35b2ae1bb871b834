package proxy_test

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"cloudengine/workers/md"
)

// action does a call that changes what md copies and compares.
func (w arrays) action(call, name string, f func(a *md.Array) error) error {
	return w.act(call, func() error {
		for i := range w.arrays {
			if w.arrays[i].Name == name {
				return f(&w.arrays[i])
			}
		}
		return unix.ENODEV
	})
}

func (w arrays) Thaw(_ context.Context, name string) error {
	return w.action("thaw", name, func(a *md.Array) error {
		a.SyncAction = md.ActionIdle
		for i := range a.Members {
			m := &a.Members[i]
			if slot, ok := w.waiting[m.Dev]; ok && m.Slot < 0 && !m.Is("faulty") && w.seen(w.disk(m.Dev)) {
				m.Slot, m.States = slot, []string{"in_sync"}
				w.disk(m.Dev).version = w.version
				delete(w.waiting, m.Dev)
				w.update(a)
			}
		}
		return nil
	})
}

func (w arrays) Freeze(_ context.Context, name string) error {
	return w.action("freeze", name, func(a *md.Array) error { a.SyncAction = md.ActionFrozen; return nil })
}

func (w arrays) SetSpeed(_ context.Context, name string, kib int) error {
	return w.action("speed", name, func(a *md.Array) error { a.Sync.MaxKiB, a.Sync.MinKiB = kib, md.MinFor(kib); return nil })
}

func (w arrays) Check(_ context.Context, name string) error {
	return w.action("check", name, func(a *md.Array) error {
		if a.SyncAction != md.ActionIdle || a.Degraded > 0 {
			w.complain("a check begins while md is at %s, with %d legs missing", a.SyncAction, a.Degraded)
			return errors.New("busy")
		}
		a.SyncAction, a.Sync.Until, a.Sync.Differ = md.ActionCheck, a.Sectors+256, 0
		w.checks++
		return nil
	})
}

// checkEnds lets md end its check, with so many sectors that differ.
func (w *world) checkEnds(differ uint64) {
	for i := range w.arrays {
		if a := &w.arrays[i]; a.SyncAction == md.ActionCheck {
			a.SyncAction, a.Sync.Until, a.Sync.Differ = md.ActionIdle, 0, differ
			w.ended++
		}
	}
}

// checkBreaks lets md break its check off, as it does when a member fails.
func (w *world) checkBreaks() {
	for i := range w.arrays {
		if a := &w.arrays[i]; a.SyncAction == md.ActionCheck {
			a.SyncAction = md.ActionIdle
		}
	}
}

package commands

import (
	"container/heap"
	"time"

	"cloudengine/events"
)

// wantedCheck is a check that is not done.
type wantedCheck struct {
	id      events.IntentID
	since   uint64    // decision
	started time.Time // zero: it waits for its turn
}

// checkTimeout ends the operation of a check, not the check.
const checkTimeout = 7 * 24 * time.Hour

// CheckArray compares all copies of an array, or ends a check.
type CheckArray struct {
	Array events.ArrayID `json:"array"`
	Stop  bool           `json:"stop,omitempty"` // the check that is wanted or under way
}

func (a CheckArray) check() *Rejection { return checkID("array", string(a.Array)) }

func decideCheckArray(d *decision, a CheckArray) error {
	x, err := d.array(a.Array)
	if err != nil {
		return err
	}
	c := x.sync.check
	switch {
	case a.Stop && c == nil:
		return reject(events.CodeConflict, "no check of array %q is wanted or under way", x.Data.Name)
	case a.Stop:
		d.add(events.KindArray, string(x.ID), events.ArrayChecked{Check: c.id, Started: c.started.UTC(), Ended: d.now.UTC()})
		d.finish(x.ref(), events.OperationFailed{Message: "the check was stopped"}, "check")
		return nil
	case c != nil && c.started.IsZero():
		return reject(events.CodeConflict, "a check of array %q is wanted already, and waits for its turn", x.Data.Name)
	case c != nil:
		return reject(events.CodeConflict, "array %q is being checked already", x.Data.Name)
	}
	d.add(events.KindArray, string(x.ID), events.ArrayCheckWanted{Check: d.c.Intent})
	d.startOperation(x.ref(), checkTimeout)
	return nil
}

// CheckDue is a deadline: the pool's schedule asks for a check.
type CheckDue struct {
	Array events.ArrayID `json:"array"`
	Due   time.Time      `json:"due"`
}

func (a CheckDue) check() *Rejection { return checkID("array", string(a.Array)) }

func decideCheckDue(d *decision, a CheckDue) error {
	x, ok := d.s.storage.arrays[a.Array]
	if !ok {
		return nil
	}
	if due, ok := d.s.checkDue(x); !ok || !due.Equal(a.Due) || d.now.Before(due) {
		return nil
	}
	d.add(events.KindArray, string(x.ID), events.ArrayCheckWanted{Check: d.c.Intent, Scheduled: true})
	return nil
}

// checkDue gives when the schedule asks for the next check of an array. None does while one is wanted.
func (s *State) checkDue(a *Array) (time.Time, bool) {
	p, ok := s.storage.pools[a.Data.Pool]
	if !ok || p.checkHours == 0 || a.sync.check != nil || a.retired {
		return time.Time{}, false
	}
	return a.sync.last.Add(time.Duration(p.checkHours) * time.Hour), true
}

// scheduleCheck notes when a check is due.
func (s *State) scheduleCheck(a *Array) {
	if at, ok := s.checkDue(a); ok {
		heap.Push(&s.due, deadline{at: at, array: a.ID})
	}
}

// checked takes the end of a check from the array's owner.
func (r *storageReported) checked(have *Array, x events.ArrayReport) {
	c := have.sync.check
	if c == nil || c.started.IsZero() || x.Checked != c.id {
		return
	}
	r.d.add(events.KindArray, string(have.ID), events.ArrayChecked{Check: c.id, Proxy: r.m.ID, Sectors: x.Sectors, Mismatches: x.Mismatches,
		Started: c.started.UTC(), Ended: r.d.now.UTC(), Complete: true})
	done := "all copies are the same"
	if x.Mismatches > 0 {
		done = "copies differ: in pieces of " + numberText(x.Mismatches) + " sectors together"
	}
	r.d.finish(have.ref(), events.OperationDone{Message: done}, "check")
}

func (s *State) foldCheck(a *Array, e events.Event, r events.Recorded) {
	switch data := e.Data.(type) {
	case events.ArrayCheckWanted:
		a.sync.check = &wantedCheck{id: data.Check, since: r.Number}
	case events.ArrayCheckStarted:
		if c := a.sync.check; c != nil && c.id == data.Check {
			a.sync.check = &wantedCheck{id: c.id, since: c.since, started: r.Time}
		}
	case events.ArrayChecked:
		a.sync.check = nil
		// One that was stopped is not begun again at once: it counts as done for the schedule.
		a.sync.last = data.Ended
		s.scheduleCheck(a)
	}
}

// Limits of a schedule, in hours.
const (
	maxCheckHours = 24 * 365
	minCheckHours = 1
)

// SetPool changes how a pool is kept.
type SetPool struct {
	Pool       events.PoolID `json:"pool"`
	CheckHours int           `json:"check_hours,omitempty"` // 0: never by itself
}

func (a SetPool) check() *Rejection {
	if a.CheckHours < 0 || a.CheckHours > maxCheckHours {
		return invalid("field \"check_hours\": want %d to %d, or 0 for never", minCheckHours, maxCheckHours)
	}
	return checkID("pool", string(a.Pool))
}

func decideSetPool(d *decision, a SetPool) error {
	p, err := d.pool(a.Pool)
	if err != nil {
		return err
	}
	if err := d.expect(events.KindPool, p.Data.Name); err != nil {
		return err
	}
	if p.checkHours != a.CheckHours {
		d.add(events.KindPool, string(p.ID), events.PoolCheckEverySet{Hours: a.CheckHours})
	}
	return nil
}

// foldCheckEvery notes a pool's schedule, and when its arrays are due by it.
func (s *State) foldCheckEvery(p *Pool, d events.PoolCheckEverySet) {
	p.checkHours = d.Hours
	for _, id := range sortedKeys(s.storage.arrays) {
		if a := s.storage.arrays[id]; a.Data.Pool == p.ID {
			s.scheduleCheck(a)
		}
	}
}

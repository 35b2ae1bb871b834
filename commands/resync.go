package commands

import (
	"time"

	"cloudengine/events"
)

// syncing is what the log knows of the copying and comparing of an array.
type syncing struct {
	set   events.ArrayResyncSet
	seen  events.ArraySyncSeen // by the present owner
	since uint64               // decision since which something is to be copied
	held  events.ArrayResyncHeld
	check *wantedCheck // that is not done
	last  time.Time    // end of the last check, else the array's creation
}

func newSyncing(created time.Time) syncing {
	return syncing{set: events.ArrayResyncSet{LimitKiB: events.ResyncDefaultKiB}, last: created}
}

// SetResync says how fast an array may copy and compare, or makes it pause.
type SetResync struct {
	Array    events.ArrayID `json:"array"`
	LimitKiB int            `json:"limit_kib,omitempty"` // per second; 0: as it is
	NoLimit  bool           `json:"no_limit,omitempty"`
	Pause    bool           `json:"pause,omitempty"`
	Resume   bool           `json:"resume,omitempty"`
}

// Bounds of a resync's limit, in KiB per second. With less a leg of today's size would take years.
const (
	minResyncKiB = 1 << 10
	maxResyncKiB = 16 << 20
)

func (a SetResync) check() *Rejection {
	if a.LimitKiB < 0 || a.LimitKiB > maxResyncKiB {
		return invalid("field \"limit_kib\": want %d to %d, or 0 to leave it", minResyncKiB, maxResyncKiB)
	}
	return checkID("array", string(a.Array))
}

func decideSetResync(d *decision, a SetResync) error {
	x, err := d.array(a.Array)
	if err != nil {
		return err
	}
	switch {
	case a.LimitKiB != 0 && a.LimitKiB < minResyncKiB:
		return reject(events.CodeConflict, "a limit below 1 MiB/s would leave the array without its copies for too long: pause it, if nothing shall be copied")
	case a.LimitKiB != 0 && a.NoLimit:
		return reject(events.CodeConflict, "want a limit or none, not both")
	case a.Pause && a.Resume:
		return reject(events.CodeConflict, "want it paused or not, not both")
	case a == SetResync{Array: a.Array}:
		return reject(events.CodeConflict, "want a limit, no limit, pause or resume")
	}
	want := x.sync.set
	if a.LimitKiB != 0 || a.NoLimit {
		want.LimitKiB = a.LimitKiB
	}
	if a.Pause || a.Resume {
		want.Paused = a.Pause
	}
	if want != x.sync.set {
		d.add(events.KindArray, string(x.ID), want)
	}
	return nil
}

// sync takes what the owner says it has to copy, and the check that it has done.
func (r *storageReported) sync(have *Array, x events.ArrayReport) {
	o := have.Owner
	seen := events.ArraySyncSeen{Proxy: o.Proxy, Epoch: o.Epoch, Needs: x.Needs, Runs: x.Sync}
	if seen.Runs == "frozen" || seen.Runs == "idle" {
		seen.Runs = ""
	}
	was := have.sync.seen
	if was.Epoch != seen.Epoch {
		was = events.ArraySyncSeen{Proxy: o.Proxy, Epoch: o.Epoch} // of an earlier owner
	}
	if seen != was {
		r.d.add(events.KindArray, string(have.ID), seen)
	}
	r.checked(have, x)
}

// foldSync folds what is about copying and comparing.
func (s *State) foldSync(a *Array, e events.Event, r events.Recorded) {
	switch data := e.Data.(type) {
	case events.ArrayResyncSet:
		a.sync.set = data
	case events.ArraySyncSeen:
		if a.sync.seen.Needs == "" && data.Needs != "" || a.sync.since == 0 {
			a.sync.since = r.Number
		}
		a.sync.seen = data
	case events.ArrayResyncHeld:
		a.sync.held = data
	case events.ArrayOwnerGranted, events.ArrayOwnerEnded:
		a.sync.seen, a.sync.since = events.ArraySyncSeen{}, 0
	}
	s.foldCheck(a, e, r)
}

package desired

import (
	"cloudengine/events"
	document "cloudengine/events/desired"
)

// syncing is what an array's owner is told of copying and comparing.
type syncing struct {
	set   events.ArrayResyncSet
	held  bool
	check events.IntentID // that is to be done
}

func newSyncing() syncing {
	return syncing{set: events.ArrayResyncSet{LimitKiB: events.ResyncDefaultKiB}}
}

func (s *syncing) changed(data events.Payload) {
	switch d := data.(type) {
	case events.ArrayResyncSet:
		s.set = d
	case events.ArrayResyncHeld:
		s.held = d.Held
	case events.ArrayCheckStarted:
		s.check = d.Check
	case events.ArrayChecked:
		s.check = ""
	}
}

func (s *syncing) render() document.Resync {
	r := document.Resync{LimitKiB: s.set.LimitKiB, Check: s.check}
	if r.LimitKiB == 0 {
		r.LimitKiB = document.NoLimitKiB
	}
	switch {
	case s.set.Paused:
		r.Hold = document.HoldPaused
	case s.held:
		r.Hold = document.HoldBehind
	}
	return r
}

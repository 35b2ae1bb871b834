package projections

import (
	"time"

	"cloudengine/events"
)

// arraySync is the part of a row of arrays that tells of copying, comparing, and of how long the array was without a copy or without an owner
// that served it. The sums are of what is over; what goes on counts from degraded_at and unavailable_at. All times are those of decisions.

// synced takes an event of copying and comparing into the row.
func synced(a *Array, data events.Payload, now time.Time) {
	switch d := data.(type) {
	case events.ArrayResyncSet:
		a.ResyncLimitKiB, a.ResyncPaused = d.LimitKiB, d.Paused
	case events.ArraySyncSeen:
		a.SyncNeeds, a.SyncRuns = known(d.Needs), known(d.Runs)
	case events.ArrayResyncHeld:
		a.SyncBehind = known(string(d.Behind))
	case events.ArrayCheckWanted:
		a.CheckWantedAt = &now
	case events.ArrayCheckStarted:
		a.CheckStartedAt = &now
	case events.ArrayChecked:
		a.CheckWantedAt, a.CheckStartedAt = nil, nil
		if d.Complete {
			ended := d.Ended.UTC().Truncate(time.Microsecond) // the precision of the database
			a.CheckedAt, a.CheckedSectors, a.Mismatches = &ended, &d.Sectors, &d.Mismatches
		}
	}
}

// served keeps the times of an array: since when, and how long, it was degraded and unavailable. Before it was made it was neither. was is
// the row before the event.
func served(was, a *Array, now time.Time) {
	if was.DegradedAt != nil && a.DegradedAt == nil {
		a.DegradedMS += now.Sub(*was.DegradedAt).Milliseconds()
	}
	serves := !a.Made || a.State == events.ArrayActive
	switch {
	case !serves && a.UnavailableAt == nil:
		a.UnavailableAt = &now
	case serves && a.UnavailableAt != nil:
		a.UnavailableMS += now.Sub(*a.UnavailableAt).Milliseconds()
		a.UnavailableAt = nil
	}
}

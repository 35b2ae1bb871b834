package projections

import (
	"testing"
	"time"

	"cloudengine/events"
)

func withArray(t *testing.T) (*fixture, func() *Array) {
	x := given(t).on(events.KindFabric, "f", events.FabricCreated{Name: "san"}).
		on(events.KindMachine, "n", events.MachineAdded{Name: "node1"}).
		on(events.KindDisk, "d", events.DiskFound{Node: "n", Serial: "s"}).
		on(events.KindPool, "p", events.PoolCreated{Name: "gold", Fabric: "f", Redundancy: 2, ExtentMiB: 4}).
		on(events.KindArray, "a", events.ArrayCreated{Name: "gold1", Pool: "p", Legs: []events.Leg{{Disk: "d", Node: "n"}}, Extents: 10})
	return x, func() *Array { return x.rows[arrayTable]["a"].(*Array) }
}

// TestTimeWithoutACopyOrAnOwner: a second passes between two events of the fixture. A time that goes on is not in the sums; it is counted once,
// whoever the owner is, and not before the array was made.
func TestTimeWithoutACopyOrAnOwner(t *testing.T) {
	x, a := withArray(t)
	seen := func(state string, degraded int) events.ArrayObserved {
		return events.ArrayObserved{State: state, Degraded: degraded, Made: true}
	}
	granted := events.ArrayOwnerGranted{Proxy: "x"}
	for i, c := range []struct {
		data                  events.Payload
		degraded, unavailable int64
		open                  string // d: degraded now, u: unavailable now
	}{
		{granted, 0, 0, ""},
		{events.ArrayObserved{State: events.ArrayWaiting}, 0, 0, ""},
		{seen(events.ArrayActive, 0), 0, 0, ""},
		{seen(events.ArrayActive, 1), 0, 0, "d"},
		{seen(events.ArrayActive, 2), 0, 0, "d"},
		{events.ArrayOwnerRevoked{}, 0, 0, "d"},
		{events.ArrayOwnerEnded{}, 0, 0, "du"},
		{granted, 0, 0, "du"},
		{seen(events.ArrayWaiting, 0), 5000, 0, "u"},
		{seen(events.ArrayActive, 0), 5000, 3000, ""},
		{seen(events.ArrayBroken, 1), 5000, 3000, "du"},
		{seen(events.ArrayActive, 1), 5000, 4000, "d"},
		{seen(events.ArrayActive, 0), 7000, 4000, ""},
	} {
		x.on(events.KindArray, "a", c.data)
		open := ""
		if a().DegradedAt != nil {
			open += "d"
		}
		if a().UnavailableAt != nil {
			open += "u"
		}
		if a().DegradedMS != c.degraded || a().UnavailableMS != c.unavailable || open != c.open {
			t.Errorf("%d, %s: %d and %d ms, open %q; want %+v", i, c.data.EventType(), a().DegradedMS, a().UnavailableMS, open, c)
		}
	}
}

func TestSyncsAndChecksOfAnArray(t *testing.T) {
	x, a := withArray(t)
	if r := a(); r.ResyncLimitKiB != events.ResyncDefaultKiB || r.ResyncPaused || r.CheckedAt != nil {
		t.Fatalf("a new array is %+v", r)
	}
	ended := time.Date(2026, 1, 1, 3, 0, 0, 0, time.UTC)
	x.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "x"}).
		on(events.KindArray, "a", events.ArrayResyncSet{LimitKiB: 2048, Paused: true}).
		on(events.KindArray, "a", events.ArraySyncSeen{Needs: events.SyncRecover, Runs: events.SyncRecover}).
		on(events.KindArray, "a", events.ArrayResyncHeld{Held: true, Behind: "b"}).
		on(events.KindArray, "a", events.ArrayCheckWanted{Check: "c"})
	if r := a(); r.ResyncLimitKiB != 2048 || !r.ResyncPaused || *r.SyncNeeds != "recover" || *r.SyncRuns != "recover" || *r.SyncBehind != "b" || r.CheckWantedAt == nil {
		t.Fatalf("got %+v", r)
	}
	x.on(events.KindArray, "a", events.ArrayResyncHeld{}).on(events.KindArray, "a", events.ArrayCheckStarted{Check: "c"})
	if r := a(); r.SyncBehind != nil || r.CheckStartedAt == nil {
		t.Fatalf("got %+v", r)
	}
	x.on(events.KindArray, "a", events.ArrayChecked{Check: "c", Sectors: 8, Mismatches: 1, Ended: ended, Complete: true}).
		on(events.KindArray, "a", events.ArrayCheckWanted{Check: "d"}).
		on(events.KindArray, "a", events.ArrayChecked{Check: "d", Ended: ended.Add(time.Hour)}).
		on(events.KindArray, "a", events.ArrayOwnerEnded{})
	if r := a(); r.CheckWantedAt != nil || r.CheckStartedAt != nil || !r.CheckedAt.Equal(ended) || *r.Mismatches != 1 || *r.CheckedSectors != 8 || r.SyncNeeds != nil || r.SyncRuns != nil {
		t.Fatalf("got %+v", r)
	}
	x.on(events.KindPool, "p", events.PoolCheckEverySet{Hours: 24})
	if p := x.rows[poolTable]["p"].(*Pool); p.CheckHours != 24 {
		t.Fatalf("pool %+v", p)
	}
}

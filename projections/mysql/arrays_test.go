package mysql_test

import (
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/projections/mysql"
	"cloudengine/projections/projectionstest"
)

// TestTimesOfArraysSurviveARebuild: how long an array was degraded and unavailable, and what checks found, is the same when the log is read
// at once, when it is read by two programs one after the other, and after a rebuild. Times in the log are finer than the database's.
func TestTimesOfArraysSurviveARebuild(t *testing.T) {
	all := history(21, 50)
	now := all[len(all)-1].Time
	on := func(kind events.Kind, id string, data events.Payload) {
		now = now.Add(61*time.Second + 1234567*time.Nanosecond)
		all = append(all, events.Recorded{Number: uint64(len(all) + 1), Term: 1, Time: now, Decision: events.Decision{Intent: events.IntentID(id), Actor: "system:test",
			Kind: kind, Verb: "test", Outcome: events.Outcome{Status: events.Accepted}, Events: []events.Event{events.New(kind, id, uint64(len(all)+1), data)}}})
	}
	seen := func(state string, degraded int) {
		on(events.KindArray, "a", events.ArrayObserved{State: state, Degraded: degraded, Made: true, Legs: []string{"in_sync"}})
	}
	on(events.KindMachine, "n", events.MachineAdded{Name: "node1", MACs: []string{"52:54:00:00:00:f0"}, Roles: []string{events.RoleStorageNode}})
	on(events.KindFabric, "f", events.FabricCreated{Name: "san", Transport: events.TransportSRP, Subnet: "10.77.2.0/24"})
	on(events.KindPool, "p", events.PoolCreated{Name: "gold", Fabric: "f", Redundancy: 2, ExtentMiB: 4})
	on(events.KindPool, "p", events.PoolCheckEverySet{Hours: 24})
	on(events.KindDisk, "d", events.DiskFound{Node: "n", Serial: "s", Health: events.DiskHealthy})
	on(events.KindArray, "a", events.ArrayCreated{Name: "gold1", Pool: "p", Legs: []events.Leg{{Disk: "d", Node: "n"}}, Extents: 10})
	for range 3 {
		on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "x", ProxyName: "x", Boot: "b"})
		seen(events.ArrayActive, 1)
		on(events.KindArray, "a", events.ArraySyncSeen{Needs: events.SyncRecover, Runs: events.SyncRecover})
		on(events.KindArray, "a", events.ArrayResyncHeld{Held: true, Behind: "b"})
		seen(events.ArrayBroken, 1)
		seen(events.ArrayActive, 0)
		on(events.KindArray, "a", events.ArrayCheckWanted{Check: "c"})
		on(events.KindArray, "a", events.ArrayCheckStarted{Check: "c"})
		on(events.KindArray, "a", events.ArrayChecked{Check: "c", Sectors: 8, Mismatches: 1, Started: now, Ended: now, Complete: true})
		on(events.KindArray, "a", events.ArrayOwnerEnded{})
	}
	db := open(t)
	log := projectionstest.NewLog(all[:len(all)-12]...)
	await(t, follow(t, db, log), uint64(len(all)-12))
	second := projectionstest.NewLog(all...)
	p := follow(t, db, second)
	await(t, p, uint64(len(all)))
	rows := dump(t, db)
	var degraded, unavailable int64
	var parked int
	if err := db.QueryRowContext(t.Context(), "SELECT degraded_ms, unavailable_ms FROM arrays WHERE id = 'a'").Scan(&degraded, &unavailable); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM parked_events").Scan(&parked); err != nil || parked > 0 {
		t.Fatalf("%d events are parked: %v", parked, err)
	}
	if degraded < 3*4*61000 || unavailable < 3*61000 {
		t.Errorf("degraded for %d ms, unavailable for %d", degraded, unavailable)
	}
	rebuild(t, p, second, mysql.RebuildOptions{})
	if got := dump(t, db); got != rows {
		t.Fatal(diff(rows, got))
	}
}

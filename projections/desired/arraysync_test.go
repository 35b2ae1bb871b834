package desired_test

import (
	"testing"

	"cloudengine/events"
	document "cloudengine/events/desired"
)

// TestResyncInDocuments: the owner alone is told, and the next owner the same.
func TestResyncInDocuments(t *testing.T) {
	c := newStorageCloud(t)
	grant := func(proxy string, n uint64) {
		c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: events.MachineID(proxy), Boot: proxy + "-1", Epoch: events.Epoch{Term: 1, Counter: n}})
	}
	is := func(proxy string, want document.Resync) {
		t.Helper()
		if got := c.want(proxy, document.Active).Resync; got != want {
			t.Fatalf("decision %d: got %+v, want %+v", c.n, got, want)
		}
	}
	grant("p1", 1)
	is("p1", document.Resync{LimitKiB: events.ResyncDefaultKiB})
	c.on(events.KindArray, "a", events.ArrayResyncHeld{Held: true, Behind: "b"})
	is("p1", document.Resync{LimitKiB: events.ResyncDefaultKiB, Hold: document.HoldBehind})
	c.on(events.KindArray, "a", events.ArrayResyncSet{Paused: true})
	is("p1", document.Resync{LimitKiB: document.NoLimitKiB, Hold: document.HoldPaused})
	c.on(events.KindArray, "a", events.ArrayCheckWanted{Check: "c"})
	c.on(events.KindArray, "a", events.ArraySyncSeen{Needs: events.SyncRecover})
	c.on(events.KindArray, "a", events.ArrayResyncHeld{})
	c.on(events.KindArray, "a", events.ArrayResyncSet{LimitKiB: 2048})
	is("p1", document.Resync{LimitKiB: 2048})
	c.on(events.KindArray, "a", events.ArrayCheckStarted{Check: "c"})
	is("p1", document.Resync{LimitKiB: 2048, Check: "c"})
	c.on(events.KindArray, "a", events.ArrayOwnerRevoked{Epoch: events.Epoch{Term: 1, Counter: 1}})
	if got := c.want("p1", document.Standby).Resync; got != (document.Resync{}) {
		t.Fatalf("a standby is told %+v", got)
	}
	c.on(events.KindArray, "a", events.ArrayOwnerEnded{})
	grant("p2", 2)
	is("p2", document.Resync{LimitKiB: 2048, Check: "c"})
	c.on(events.KindArray, "a", events.ArrayChecked{Check: "c", Complete: true})
	is("p2", document.Resync{LimitKiB: 2048})
	c.on(events.KindPool, "pool", events.PoolCheckEverySet{Hours: 24})
}

package desired_test

import (
	"testing"

	"cloudengine/events"
	document "cloudengine/events/desired"
)

// TestI2FencingClosesAllLegs: from the decision on that begins it, in documents that are newer than it, whoever boots meanwhile, and until
// the next owner. The proxy that is fenced off is told to give the array up.
func TestI2FencingClosesAllLegs(t *testing.T) {
	epoch := func(n uint64) events.Epoch { return events.Epoch{Term: 1, Counter: n} }
	c := newStorageCloud(t)
	c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p1", Boot: "p1-1", Epoch: epoch(1)})
	c.on(events.KindArray, "a", events.ArrayOwnerRevoked{Epoch: epoch(1), To: "p2"})
	c.exported("d1", "n1", "p1")
	c.on(events.KindArray, "a", events.ArrayFencingBegan{Epoch: epoch(1)})
	began := c.n
	closed := func() {
		t.Helper()
		for disk, node := range map[string]string{"d1": "n1", "d2": "n2"} {
			c.exported(disk, node)
			d, _ := c.doc(node, document.KindExport, disk)
			if e := body[document.Export](t, d); d.Generation.Number < began || e.Want != document.There || e.Epoch != epoch(1) {
				t.Fatalf("document %+v: %+v", d, e)
			}
		}
		c.want("p1", document.Standby)
		c.want("p2", document.Standby)
	}
	closed()
	for _, e := range []events.Payload{
		events.ArrayLegFenced{Epoch: epoch(1), Disk: "d1", Node: "n1"}, events.ArrayLegUnfenced{Epoch: epoch(1), Disk: "d1", Node: "n1"},
		events.ArrayObserved{Proxy: "p1", Epoch: epoch(1), State: events.ArrayActive, Made: true, Events: 9}, events.ArrayPathObserved{Host: "h1", State: events.PathLost},
	} {
		c.on(events.KindArray, "a", e)
		closed()
	}
	for _, m := range []string{"n1", "p1"} {
		c.on(events.KindMachine, m, events.MachineEnrolled{Boot: m + "-2"})
		closed()
	}
	c.on(events.KindArray, "a", events.ArrayOwnerEnded{Proxy: "p1", Boot: "p1-1", Epoch: epoch(1), Proof: events.ProofFenced})
	closed()
	c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p2", Boot: "p2-1", Epoch: epoch(2)})
	c.want("p2", document.Active)
	c.want("p1", document.Standby)
	c.exported("d1", "n1", "p2")
	c.on(events.KindArray, "a", events.ArrayFencedOwnerGone{Proxy: "p1", Boot: "p1-1", Epoch: epoch(1)})
	c.exported("d2", "n2", "p2")
}

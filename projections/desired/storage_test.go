package desired_test

import (
	"encoding/json"
	"testing"

	"cloudengine/events"
	document "cloudengine/events/desired"
	"cloudengine/projections/desired"
)

// cloud folds events one by one.
type cloud struct {
	t    *testing.T
	f    *desired.Fold
	n    uint64
	term uint64
}

func (c *cloud) on(kind events.Kind, id string, data events.Payload) {
	c.t.Helper()
	c.n++
	r := events.Recorded{Number: c.n, Term: c.term, Decision: events.Decision{Events: []events.Event{events.New(kind, id, c.n, data)}}}
	if _, err := c.f.Apply(nil, &r); err != nil {
		c.t.Fatal(err)
	}
	c.invariant()
}

// invariant is I2 in what machines are told: one proxy at most is told that an array is its own, and every leg goes to it alone.
func (c *cloud) invariant() {
	c.t.Helper()
	active := map[events.ArrayID]events.MachineID{}
	c.f.Each(func(_ string, d document.Document) {
		if d.Kind == document.KindArray {
			if a := body[document.Array](c.t, d); a.Want == document.Active {
				if other, two := active[a.Array]; two {
					c.t.Fatalf("decision %d: array %s is active on %s and %s", c.n, a.Array, other, d.Machine)
				}
				active[a.Array] = d.Machine
			}
		}
	})
	c.f.Each(func(_ string, d document.Document) {
		if d.Kind == document.KindExport {
			e := body[document.Export](c.t, d)
			if m, is := active[e.Array]; len(e.To) > 1 || is && e.Want == document.There && (len(e.To) != 1 || e.To[0].Machine != m) {
				c.t.Fatalf("decision %d: leg %s goes to %v, active is %s", c.n, e.Disk, e.To, m)
			}
		}
	})
}

func body[T any](t *testing.T, d document.Document) (b T) {
	t.Helper()
	if err := json.Unmarshal(d.Body, &b); err != nil {
		t.Fatal(err)
	}
	return b
}

func (c *cloud) doc(machine string, kind events.Kind, id string) (document.Document, bool) {
	return c.f.Document(events.DesiredSubject(events.MachineID(machine), kind, id))
}

func newStorageCloud(t *testing.T) *cloud {
	c := &cloud{t: t, f: desired.NewFold(), term: 1}
	c.on(events.KindLog, events.LogID, events.LogOpened{Term: 1, Cause: events.CauseCreated})
	c.on(events.KindFabric, "f", events.FabricCreated{Name: "san", Transport: "srp", Subnet: "10.0.0.0/24", MTU: 4200})
	for i, m := range []struct{ id, role string }{{"n1", events.RoleStorageNode}, {"n2", events.RoleStorageNode}, {"p1", events.RoleProxy}, {"p2", events.RoleProxy}, {"h1", events.RoleHost}} {
		c.on(events.KindMachine, m.id, events.MachineAdded{Name: m.id, Roles: []string{m.role}})
		c.on(events.KindMachine, m.id, events.MachineEnrolled{Boot: m.id + "-1"})
		c.on(events.KindFabric, "f", events.FabricJoined{Machine: events.MachineID(m.id), Address: "10.0.0." + string(rune('1'+i))})
	}
	c.on(events.KindPool, "pool", events.PoolCreated{Name: "gold", Fabric: "f", Redundancy: 2, ExtentMiB: 4})
	c.on(events.KindDisk, "d1", events.DiskFound{Node: "n1", Serial: "s1"})
	c.on(events.KindDisk, "d2", events.DiskFound{Node: "n2", Serial: "s2"})
	c.on(events.KindArray, "a", events.ArrayCreated{Pool: "pool", Name: "a", Legs: []events.Leg{{Slot: 0, Disk: "d1", Node: "n1"}, {Slot: 1, Disk: "d2", Node: "n2"}}, Extents: 50, StartMiB: 4})
	return c
}

func (c *cloud) want(machine, expected string) document.Array {
	c.t.Helper()
	d, ok := c.doc(machine, document.KindArray, "a")
	if !ok {
		c.t.Fatalf("decision %d: %s is told nothing of the array", c.n, machine)
	}
	a := body[document.Array](c.t, d)
	if a.Want != expected {
		c.t.Fatalf("decision %d: %s is told %q, want %q", c.n, machine, a.Want, expected)
	}
	return a
}

func (c *cloud) exported(disk, node string, to ...string) {
	c.t.Helper()
	d, _ := c.doc(node, document.KindExport, disk)
	e := body[document.Export](c.t, d)
	var have []string
	for _, p := range e.To {
		have = append(have, string(p.Machine))
	}
	if len(have) != len(to) || len(to) == 1 && have[0] != to[0] {
		c.t.Fatalf("decision %d: %s is exported to %v, want %v", c.n, disk, have, to)
	}
}

func TestI2OwnershipInDocuments(t *testing.T) {
	c := newStorageCloud(t)
	c.want("p1", document.Standby)
	c.exported("d1", "n1")
	epoch := func(n uint64) events.Epoch { return events.Epoch{Term: 1, Counter: n} }
	c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p1", Boot: "p1-1", Epoch: epoch(1)})
	if a := c.want("p1", document.Active); !a.Create || len(a.Legs) != 2 || a.Legs[1].At.Address != "10.0.0.2" {
		t.Fatalf("the owner is told %+v", a)
	}
	c.want("p2", document.Standby)
	c.exported("d1", "n1", "p1")
	c.on(events.KindArray, "a", events.ArrayObserved{Proxy: "p1", Epoch: epoch(1), State: events.ArrayActive, Made: true, Events: 5})
	if a := c.want("p1", document.Active); a.Create {
		t.Fatal("an array that was made is made again")
	}
	c.on(events.KindArray, "a", events.ArrayOwnerRevoked{Epoch: epoch(1), To: "p2"})
	c.want("p1", document.Standby)
	c.want("p2", document.Standby)
	c.exported("d2", "n2", "p1")
	c.on(events.KindArray, "a", events.ArrayOwnerEnded{Proxy: "p1", Boot: "p1-1", Epoch: epoch(1), Proof: events.ProofCleanEnd})
	c.exported("d2", "n2")
	c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p2", Boot: "p2-1", Epoch: epoch(2)})
	if a := c.want("p2", document.Active); a.MinEvents != 5 {
		t.Fatalf("the next owner may assemble legs that are older: %+v", a)
	}
	c.exported("d2", "n2", "p2")
	c.on(events.KindMachine, "n1", events.MachineEnrolled{Boot: "n1-2"}) // a node's new boot exports nothing until it is told
	if d, _ := c.doc("n1", document.KindExport, "d1"); d.Boot != "n1-2" {
		t.Fatalf("the node's new boot is told nothing: %+v", d)
	}
	c.term = 2
	c.on(events.KindLog, events.LogID, events.LogOpened{Term: 2, Cause: events.CauseRestored})
	c.on(events.KindArray, "a", events.ArrayOwnerEnded{Proxy: "p2", Boot: "p2-1", Epoch: epoch(2), Proof: events.ProofPowerOff})
	c.want("p2", document.Standby)
	c.on(events.KindArray, "a", events.ArrayDeleted{})
	c.want("p1", document.Absent)
}

// export gives what the document of the first leg says.
func (c *cloud) export(want string) document.Document {
	c.t.Helper()
	d, _ := c.doc("n1", document.KindExport, "d1")
	if e := body[document.Export](c.t, d); e.Want != want || e.Array != "a" || len(e.To) > 0 {
		c.t.Fatalf("decision %d: the export is %+v, not %q", c.n, e, want)
	}
	return d
}

// TestDisksOfADeletedArrayAreWiped: until their nodes have said so, in whatever boot, and not while the log is unsettled.
func TestDisksOfADeletedArrayAreWiped(t *testing.T) {
	epoch := func(n uint64) events.Epoch { return events.Epoch{Term: 1, Counter: n} }
	c := newStorageCloud(t)
	c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p1", Boot: "p1-1", Epoch: epoch(1)})
	c.on(events.KindArray, "a", events.ArrayOwnerEnded{Proxy: "p1", Boot: "p1-1", Epoch: epoch(1), Proof: events.ProofCleanEnd})
	c.on(events.KindArray, "a", events.ArrayDeleted{Wipe: true})
	d := c.export(document.Wiped)
	if e := body[document.Export](t, d); e.Serial != "s1" || e.Epoch != epoch(1) || d.Boot != "n1-1" {
		t.Fatalf("document %+v: %+v", d, e)
	}
	c.on(events.KindMachine, "n1", events.MachineEnrolled{Boot: "n1-2"})
	if d := c.export(document.Wiped); d.Boot != "n1-2" {
		t.Fatalf("its new boot is told nothing: %+v", d)
	}
	c.on(events.KindDisk, "d2", events.DiskReleased{Node: "n2", Boot: "n2-1", Array: "a", Wiped: true})
	c.term = 2
	c.on(events.KindLog, events.LogID, events.LogOpened{Term: 2, Cause: events.CauseRestored})
	c.export("")
	c.on(events.KindLog, events.LogID, events.LogSettled{Term: 2})
	c.export(document.Wiped)
	c.on(events.KindDisk, "d1", events.DiskReleased{Node: "n1", Boot: "n1-2", Array: "a", Wiped: true})
	c.export(document.Absent)
}

// After a restore, who owns an array may be another than the log says: then nothing new is said of it before the log is settled.
func TestI2AfterARestoreNothingIsSaidOfOwnedArrays(t *testing.T) {
	c := newStorageCloud(t)
	c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p1", Boot: "p1-1", Epoch: events.Epoch{Term: 1, Counter: 1}})
	c.term = 2
	c.on(events.KindLog, events.LogID, events.LogOpened{Term: 2, Cause: events.CauseRestored})
	if d, _ := c.doc("p1", document.KindArray, "a"); body[document.Array](t, d).Want == document.Active {
		t.Fatal("an owner of the lost log is told again that it is the owner")
	}
	c.on(events.KindLog, events.LogID, events.LogSettled{Term: 2})
	c.want("p1", document.Active)
}

// owned gives the array's document for its owner.
func (c *cloud) owned() document.Array {
	c.t.Helper()
	d, ok := c.doc("p2", document.KindArray, "a")
	a := body[document.Array](c.t, d)
	if !ok || a.Want != document.Active {
		c.t.Fatalf("the owner is told %+v", a)
	}
	return a
}

// Each proxy tells hosts the same size, and the owner learns how far its array had come: it may have to assemble it again.
func TestArraysSizeAndEventCount(t *testing.T) {
	c := newStorageCloud(t)
	if a := c.want("p1", document.Standby); a.Sectors != (4+50*4)<<11 {
		t.Fatalf("the size of a standby: %d sectors", a.Sectors)
	}
	epoch := events.Epoch{Term: 1, Counter: 1}
	c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p2", Boot: "p2-1", Epoch: epoch})
	if a := c.owned(); a.Sectors != (4+50*4)<<11 || a.MinEvents != 0 {
		t.Fatalf("the owner is told %+v", a)
	}
	for _, n := range []uint64{5, 9, 7} {
		c.on(events.KindArray, "a", events.ArrayObserved{Proxy: "p2", Epoch: epoch, State: events.ArrayActive, Made: true, Events: n})
	}
	if a := c.owned(); a.MinEvents != 9 {
		t.Fatalf("the owner may assemble a leg of event count %d", a.MinEvents)
	}
}

func TestDisksOfADomain(t *testing.T) {
	c := newStorageCloud(t)
	c.on(events.KindArray, "a", events.ArrayOwnerGranted{Proxy: "p2", Boot: "p2-1", Epoch: events.Epoch{Term: 1, Counter: 1}})
	c.on(events.KindVolume, "v", events.VolumeCreated{Name: "v", Array: "a", Pool: "pool", Segments: []events.Segment{{Start: 0, Count: 10}}})
	if a := c.owned(); len(a.Volumes) != 1 || a.Volumes[0].Keep != 0 {
		t.Fatalf("the owner is told of a new volume: %+v", a.Volumes)
	}
	c.on(events.KindVolume, "v", events.VolumeReady{})
	c.on(events.KindVM, "vm", events.VMCreated{Name: "web"})
	c.on(events.KindVolume, "v", events.VolumeAttached{VM: "vm", Slot: events.SlotPrimary})
	c.on(events.KindVM, "vm", events.VMRunWanted{Want: events.WantRunning})
	c.on(events.KindVM, "vm", events.VMRunGranted{Host: "h1", Boot: "h1-1", Epoch: events.Epoch{Term: 1, Counter: 1}})
	d, _ := c.doc("h1", document.KindDomain, "vm")
	disks := body[document.Domain](t, d).Disks
	if d.Version != document.VersionDisks || len(disks) != 1 || disks[0].Slot != events.SlotPrimary || disks[0].ExtentMiB != 4 || len(disks[0].NAA) != 32 {
		t.Fatalf("version %d, disks %+v", d.Version, disks)
	}
	path, _ := c.doc("h1", document.KindPath, "a")
	if p := body[document.Path](t, path); p.Want != document.There || len(p.From) != 2 {
		t.Fatalf("the host's path: %+v", p)
	}
	if a := c.want("p1", document.Standby); len(a.To) != 1 || a.To[0].Machine != "h1" {
		t.Fatalf("the proxy admits %+v", a.To)
	}
	c.on(events.KindVolume, "v", events.VolumeLimited{WriteBPS: 1 << 20})
	d, _ = c.doc("h1", document.KindDomain, "vm")
	if got := body[document.Domain](t, d).Disks[0].Limits; got != (events.DiskLimits{WriteBPS: 1 << 20}) {
		t.Fatalf("after a limit while it runs: %+v", got)
	}
	c.on(events.KindVolume, "v", events.VolumeGrown{Segments: []events.Segment{{Start: 0, Count: 10}, {Start: 20, Count: 5}}})
	d, _ = c.doc("h1", document.KindDomain, "vm")
	if got := body[document.Domain](t, d).Disks[0].Segments; len(got) != 1 {
		t.Fatalf("the guest has extents that are not zeroed yet: %+v", got)
	}
	if a := c.owned(); a.Volumes[0].Keep != 10 || len(a.Volumes[0].Segments) != 2 {
		t.Fatalf("the owner is told of a volume that grew: %+v", a.Volumes)
	}
	c.on(events.KindVolume, "v", events.VolumeReady{})
	d, _ = c.doc("h1", document.KindDomain, "vm")
	if got := body[document.Domain](t, d).Disks[0].Segments; len(got) != 2 {
		t.Fatalf("after growing: %+v", got)
	}
	c.on(events.KindVM, "vm", events.VMGrantEnded{Host: "h1", Boot: "h1-1", Epoch: events.Epoch{Term: 1, Counter: 1}, Proof: events.ProofCleanEnd})
	path, _ = c.doc("h1", document.KindPath, "a")
	if p := body[document.Path](t, path); p.Want != document.Absent {
		t.Fatalf("the host keeps a path that it does not need: %+v", p)
	}
	if a := c.want("p1", document.Standby); len(a.To) != 0 {
		t.Fatalf("the proxy still admits %+v", a.To)
	}
}

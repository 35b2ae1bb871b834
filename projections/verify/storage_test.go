package verify_test

import (
	"slices"
	"testing"

	"cloudengine/events"
	"cloudengine/projections/verify"
)

const (
	node1  = "00000000-0000-4000-8000-0000000000e1"
	proxy1 = "00000000-0000-4000-8000-0000000000f1"
	proxy2 = "00000000-0000-4000-8000-0000000000f2"
	gold1  = "00000000-0000-4000-8000-0000000000a1"
)

var leg = events.DiskIDOf("s1")

// storageWorld has a storage node with a disk, two proxies, and an array that the first owns; and all answer so.
func storageWorld(t *testing.T) (*world, map[events.MachineID]verify.LiveStorage) {
	w := newWorld(t)
	for id, m := range map[string]events.MachineAdded{node1: {Name: "node1", Roles: []string{events.RoleStorageNode}},
		proxy1: {Name: "proxy1", Roles: []string{events.RoleProxy}}, proxy2: {Name: "proxy2", Roles: []string{events.RoleProxy}}} {
		w.on(events.KindMachine, id, m)
		w.on(events.KindMachine, id, events.MachineEnrolled{Boot: boot})
		w.on(events.KindMachine, id, events.StorageReady{Boot: boot, Term: 1})
	}
	w.on(events.KindFabric, "f", events.FabricCreated{Name: "san", Transport: events.TransportSRP, Subnet: "10.0.0.0/24", MTU: 4200})
	w.on(events.KindPool, "p", events.PoolCreated{Name: "gold", Fabric: "f", Redundancy: 1, ExtentMiB: 4})
	w.on(events.KindDisk, string(leg), events.DiskFound{Node: node1, Boot: boot, Serial: "s1"})
	w.on(events.KindArray, gold1, events.ArrayCreated{Pool: "p", Name: "gold1", Legs: []events.Leg{{Disk: leg, Node: node1}}, Extents: 10})
	w.on(events.KindArray, gold1, events.ArrayOwnerGranted{Proxy: proxy1, ProxyName: "proxy1", Boot: boot, Epoch: one})
	w.on(events.KindDisk, string(leg), events.DiskExported{Node: node1, Boot: boot, Array: gold1, Epoch: one, To: []events.MachineID{proxy1}, State: events.ExportThere})
	w.on(events.KindArray, gold1, events.ArrayObserved{Proxy: proxy1, Epoch: one, State: events.ArrayActive, Made: true, Legs: []string{events.LegInSync}})
	return w, map[events.MachineID]verify.LiveStorage{
		node1: {Boot: boot, Seen: events.StorageReport{Disks: []events.DiskReport{{Serial: "s1"}},
			Exports: []events.ExportReport{{Disk: leg, Array: gold1, Epoch: one, To: []events.MachineID{proxy1}, State: events.ExportThere}}}},
		proxy1: {Boot: boot, Seen: events.StorageReport{Arrays: []events.ArrayReport{{Array: gold1, Epoch: one, State: events.ArrayActive, Legs: []string{events.LegInSync}}}}},
		proxy2: {Boot: boot, Seen: events.StorageReport{Arrays: []events.ArrayReport{{Array: gold1, Epoch: one, State: events.ArrayStandby}}}},
	}
}

func TestStorageAsTheLogSays(t *testing.T) {
	w, live := storageWorld(t)
	if ids := w.c.StorageMachines(); !slices.Equal(ids, []events.MachineID{node1, proxy1, proxy2}) {
		t.Errorf("asked are %v", ids)
	}
	if found := w.c.LiveStorage(live); len(found) > 0 {
		t.Errorf("found %+v", found)
	}
}

func TestStorageFaultsAreFound(t *testing.T) {
	for _, c := range []struct {
		check    string
		severity verify.Severity
		plant    func(live map[events.MachineID]*verify.LiveStorage)
	}{
		{"unanswered", verify.Unknown, func(l map[events.MachineID]*verify.LiveStorage) { *l[node1] = verify.LiveStorage{Missing: "no"} }},
		{"wrong_boot", verify.Wrong, func(l map[events.MachineID]*verify.LiveStorage) { l[proxy1].Boot = "another" }},
		{"disk_missing", verify.Wrong, func(l map[events.MachineID]*verify.LiveStorage) { l[node1].Seen.Disks = nil }},
		{"leg_foreign", verify.Wrong, func(l map[events.MachineID]*verify.LiveStorage) { l[node1].Seen.Disks[0].Signature = "ext4" }},
		{"other_writer", verify.Critical, func(l map[events.MachineID]*verify.LiveStorage) {
			l[node1].Seen.Exports[0].To = []events.MachineID{proxy1, proxy2}
		}},
		{"export_state", verify.Wrong, func(l map[events.MachineID]*verify.LiveStorage) { l[node1].Seen.Exports[0].State = events.ExportFailed }},
		{"export_missing", verify.Wrong, func(l map[events.MachineID]*verify.LiveStorage) { l[node1].Seen.Exports = nil }},
		{"export_unknown", verify.Wrong, func(l map[events.MachineID]*verify.LiveStorage) {
			l[proxy2].Seen.Exports = []events.ExportReport{{Disk: leg, To: []events.MachineID{proxy1}, State: events.ExportThere}}
		}},
		{"array_state", verify.Wrong, func(l map[events.MachineID]*verify.LiveStorage) { l[proxy1].Seen.Arrays[0].State = events.ArrayBroken }},
		{"array_legs", verify.Wrong, func(l map[events.MachineID]*verify.LiveStorage) {
			l[proxy1].Seen.Arrays[0].Legs = []string{events.LegFaulty}
		}},
		{"not_owner", verify.Critical, func(l map[events.MachineID]*verify.LiveStorage) {
			l[proxy1].Seen.Arrays[0].Epoch = events.Epoch{Term: 1, Counter: 9}
		}},
		{"two_owners", verify.Critical, func(l map[events.MachineID]*verify.LiveStorage) { l[proxy2].Seen.Arrays[0].State = events.ArrayActive }},
	} {
		w, live := storageWorld(t)
		planted := map[events.MachineID]*verify.LiveStorage{}
		for id, l := range live {
			planted[id] = &l
		}
		c.plant(planted)
		for id, l := range planted {
			live[id] = *l
		}
		found := w.c.LiveStorage(live)
		if !slices.ContainsFunc(found, func(f verify.Finding) bool {
			return f.Section == verify.Storage && f.Check == c.check && f.Severity == c.severity && f.Next != ""
		}) {
			t.Errorf("%s is not found: %+v", c.check, found)
		}
	}
}

// TestAStorageMachineThatIsOffNeedsNoAnswer: and one that answers is found.
func TestAStorageMachineThatIsOffNeedsNoAnswer(t *testing.T) {
	w, live := storageWorld(t)
	w.on(events.KindMachine, proxy2, events.MachinePowerObserved{State: events.PowerIsOff, Boot: boot, Proof: true})
	found := w.c.LiveStorage(live)
	if len(found) != 1 || found[0].Check != "off_and_answers" || found[0].Severity != verify.Critical {
		t.Errorf("found %+v", found)
	}
	live[proxy2] = verify.LiveStorage{Missing: "no"}
	if found := w.c.LiveStorage(live); len(found) > 0 {
		t.Errorf("found %+v", found)
	}
}

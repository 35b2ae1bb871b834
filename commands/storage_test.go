package commands

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"cloudengine/events"
)

// addMachine adds a machine of a role on the fabric san, boots it, and lets it report its disks.
func (w *world) addStorage(name, role string, disks int) {
	w.n++
	n := len(w.s.machines) + 1
	w.do("secret.set", SetSecret{"bmc", "f00d"})
	w.id(name, w.must(w.do("machine.add", AddMachine{
		Name: name, MACs: []string{fmt.Sprintf("52:54:00:00:00:%02x", n)}, Roles: []string{role},
		BMC: &events.BMC{Address: fmt.Sprintf("10.77.1.%d:623", n), User: "admin", Secret: "bmc"},
	})))
	w.must(w.as(ActorPower, "machine.report_bmc", ReportBMC{Machine: w.host(name), Healthy: true}))
	w.must(w.do("fabric.join", JoinFabric{Fabric: events.FabricID(w.ids["san"]), Machine: w.host(name), MAC: fmt.Sprintf("52:54:00:00:01:%02x", n)}))
	w.boot(name, 2000)
	r := events.StorageReport{Complete: true}
	for i := range disks {
		r.Disks = append(r.Disks, events.DiskReport{Serial: fmt.Sprintf("%s-%d", name, i), Bytes: 256 << 20, Health: events.DiskHealthy})
	}
	w.must(w.storage(name, r))
}

func (w *world) storage(name string, r events.StorageReport) events.Decision {
	w.n++
	m := w.s.machines[w.host(name)]
	r.Machine, r.Counter = m.ID, uint64(w.n)
	if r.Boot == "" {
		r.Boot = m.Boot
	}
	return w.as(MachineActor(m.ID), "machine.report_storage", StorageState(r))
}

// newStorageWorld has two storage nodes with four disks each, two proxies, and a pool.
func newStorageWorld(t *testing.T) *world {
	w := newWorld(t)
	w.id("san", w.must(w.do("fabric.create", CreateFabric{Name: "san", Transport: events.TransportSRP, Subnet: "10.77.2.0/24"})))
	w.refused(w.do("pool.create", CreatePool{Name: "gold", Fabric: events.FabricID(w.ids["san"])}), events.CodeConflict, "") // no nodes
	for _, n := range []string{"n1", "n2"} {
		w.addStorage(n, events.RoleStorageNode, 4)
	}
	for _, p := range []string{"p1", "p2"} {
		w.addStorage(p, events.RoleProxy, 0)
	}
	w.id("gold", w.must(w.do("pool.create", CreatePool{Name: "gold", Fabric: events.FabricID(w.ids["san"])})))
	return w
}

func (w *world) pool() events.PoolID              { return events.PoolID(w.ids["gold"]) }
func (w *world) arr() *Array                      { return w.s.storage.arrays[events.ArrayID(w.ids["a1"])] }
func (w *world) nameOf(m events.MachineID) string { return w.s.machineName(m) }

// withArray has an array of two sets that its owner has made.
func withArray(t *testing.T) *world {
	w := newStorageWorld(t)
	w.id("a1", w.must(w.do("array.create", CreateArray{Pool: w.pool(), Name: "a1", Sets: 2})))
	if w.arr().Owner == nil {
		t.Fatal("the array has no owner")
	}
	w.must(w.reportArray(events.ArrayActive))
	return w
}

// reportArray is what the owner says of the array, obeying the newest document.
func (w *world) reportArray(state string, change ...func(*events.ArrayReport)) events.Decision {
	a := w.arr()
	r := events.ArrayReport{Array: a.ID, Epoch: a.Owner.Epoch, Generation: events.Generation{Term: w.s.term, Number: w.s.last}, State: state, Made: true,
		Legs: []string{"in_sync", "in_sync", "in_sync", "in_sync"}}
	for _, f := range change {
		f(&r)
	}
	return w.storage(w.nameOf(a.Owner.Proxy), events.StorageReport{Arrays: []events.ArrayReport{r}})
}

func TestI8CopiesAreOnDifferentNodes(t *testing.T) {
	w := withArray(t)
	legs := w.arr().Data.Legs
	if len(legs) != 4 {
		t.Fatalf("legs: %+v", legs)
	}
	for i := 0; i < len(legs); i += 2 {
		if legs[i].Node == legs[i+1].Node {
			t.Fatalf("copies on one node: %+v", legs)
		}
	}
	free := map[string][]events.DiskID{}
	for _, id := range sortedKeys(w.s.storage.disks) {
		if x := w.s.storage.disks[id]; x.Array == "" {
			free[w.nameOf(x.Data.Node)] = append(free[w.nameOf(x.Data.Node)], id)
		}
	}
	one, two := free["n1"], free["n2"]
	for _, bad := range [][]events.DiskID{{one[0], one[1]}, {one[0]}, {legs[0].Disk, two[0]}, {one[0], one[0]}} {
		w.refused(w.do("array.create", CreateArray{Pool: w.pool(), Name: "bad", Disks: bad}), events.CodeConflict, "")
	}
	w.refused(w.do("array.create", CreateArray{Pool: w.pool(), Name: "bad", Sets: 3}), events.CodeNoCapacity, "")
	w.must(w.do("array.create", CreateArray{Pool: w.pool(), Name: "a2", Disks: []events.DiskID{two[0], one[0]}}))
	w.audit()
}

func TestADiskWithForeignDataIsTakenOnlyByName(t *testing.T) {
	w := newStorageWorld(t)
	foreign := []events.DiskReport{{Serial: "n1-0", Bytes: 256 << 20, Health: events.DiskHealthy, Signature: "ext4"}}
	w.must(w.storage("n1", events.StorageReport{Disks: foreign}))
	pair := CreateArray{Pool: w.pool(), Name: "a1", Disks: []events.DiskID{events.DiskIDOf("n1-0"), events.DiskIDOf("n2-0")}}
	w.refused(w.do("array.create", pair), events.CodeGuard, GuardForeignData)
	w.must(w.override(GuardForeignData, "array.create", pair))
	w.audit()
}

// I2: an owner is followed by another only after a proof.
func TestI2PlannedSwitch(t *testing.T) {
	w := withArray(t)
	old := *w.arr().Owner
	before := w.s.last
	op := w.must(w.do("array.failover", FailoverArray{Array: w.arr().ID})).Intent
	w.refused(w.do("array.failover", FailoverArray{Array: w.arr().ID}), events.CodeConflict, "")
	w.reportArray(events.ArrayActive, func(r *events.ArrayReport) { r.Degraded = 1 })
	if w.s.ops[op] == nil {
		t.Fatal("the operation is over, and the owner of before has the array still")
	}
	late := func(r *events.ArrayReport) { r.Generation.Number = before } // it obeyed the document from before
	w.reportArray(events.ArrayStandby, late)
	if o := w.arr().Owner; o == nil || o.Epoch != old.Epoch {
		t.Fatalf("a report from before the revocation ended the ownership: %+v", o)
	}
	w.must(w.reportArray(events.ArrayStandby))
	o := w.arr().Owner
	if o == nil || o.Proxy == old.Proxy || o.Epoch.Compare(old.Epoch) <= 0 {
		t.Fatalf("the next owner is %+v after %+v", o, old)
	}
	if w.must(w.reportArray(events.ArrayActive)); w.s.ops[op] != nil {
		t.Fatal("the operation is not over when the next owner has the array")
	}
	liar := events.ArrayReport{Array: w.arr().ID, Epoch: old.Epoch, State: events.ArrayActive}
	w.refused(w.storage(w.nameOf(old.Proxy), events.StorageReport{Arrays: []events.ArrayReport{liar}}), events.CodeContradicts, "")
	w.audit()
}

func TestI2ASilentOwnerIsNotFollowed(t *testing.T) {
	w := withArray(t)
	old := *w.arr().Owner
	m := w.s.machines[old.Proxy]
	w.must(w.as(ActorLiveness, "machine.report_silent", SilenceReport{m.ID, m.Boot}))
	w.refused(w.do("array.failover", FailoverArray{Array: w.arr().ID}), events.CodeConflict, "")
	if o := w.arr().Owner; o == nil || *o != old {
		t.Fatalf("silence changed the owner: %+v", o)
	}
	off := w.must(w.do("machine.power", PowerMachine{m.ID, events.PowerOff}))
	w.must(w.as(ActorPower, "machine.report_power", ReportPower{Machine: m.ID, Operation: off.Intent, Boot: m.Boot, State: events.PowerIsOff, Reads: 2}))
	o := w.arr().Owner
	if o == nil || o.Proxy == old.Proxy {
		t.Fatalf("after the proof the owner is %+v", o)
	}
	w.audit()
}

func TestBothProxiesDownThenOneUp(t *testing.T) {
	w := withArray(t)
	for range 2 {
		m := w.s.machines[w.arr().Owner.Proxy]
		off := w.must(w.do("machine.power", PowerMachine{m.ID, events.PowerOff}))
		w.must(w.as(ActorPower, "machine.report_power", ReportPower{Machine: m.ID, Operation: off.Intent, Boot: m.Boot, State: events.PowerIsOff, Reads: 2}))
	}
	if o := w.arr().Owner; o != nil {
		t.Fatalf("both proxies are off, and the owner is %+v", o)
	}
	w.boot("p2", 2000)
	w.must(w.storage("p2", events.StorageReport{Complete: true}))
	if o := w.arr().Owner; o == nil || o.Proxy != w.host("p2") {
		t.Fatalf("p2 is back, and the owner is %+v", o)
	}
	w.audit()
}

func (w *world) createVolume(name string, mib int) {
	w.id(name, w.must(w.do("volume.create", CreateVolume{Account: events.AccountID(w.ids["demo"]), Name: name, Pool: w.pool(), SizeMiB: mib})))
}

func (w *world) volume(name string) *Volume { return w.s.storage.volumes[events.VolumeID(w.ids[name])] }

func (w *world) ready(name string) {
	w.must(w.reportArray(events.ArrayActive, func(r *events.ArrayReport) { r.Ready = []events.VolumeID{w.volume(name).ID} }))
}

func TestVolumeFromCreationToItsEnd(t *testing.T) {
	w := withArray(t)
	w.createVolume("v1", 100)
	v := w.volume("v1")
	if total(v.Segments) != 25 || w.s.ops[events.IntentID(v.ID)] == nil {
		t.Fatalf("volume %+v", v)
	}
	w.refused(w.do("volume.create", CreateVolume{Account: events.AccountID(w.ids["demo"]), Name: "huge", Pool: w.pool(), SizeMiB: 1000}), events.CodeNoCapacity, "")
	w.refused(w.do("volume.grow", GrowVolume{v.ID, 50}), events.CodeConflict, "")
	w.must(w.do("volume.grow", GrowVolume{v.ID, 120}))
	w.addHost("host1", 2000)
	w.createVM("web", 128)
	w.must(w.do("volume.attach", AttachVolume{Volume: v.ID, VM: w.vm("web")}))
	w.refused(w.do("volume.delete", VolumeRef{v.ID}), events.CodeConflict, "")
	w.refused(w.do("vm.delete", VMRef{w.vm("web")}), events.CodeConflict, "")
	w.refused(w.do("vm.start", StartVM{VM: w.vm("web")}), events.CodeConflict, "") // not ready
	w.ready("v1")
	w.refused(w.do("vm.start", StartVM{VM: w.vm("web")}), events.CodeNoCapacity, "") // its host is not on the fabric
	w.must(w.do("fabric.join", JoinFabric{Fabric: events.FabricID(w.ids["san"]), Machine: w.host("host1"), MAC: "52:54:00:00:01:ff"}))
	w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
	w.refused(w.do("volume.detach", VolumeRef{v.ID}), events.CodeConflict, "")
	w.refused(w.do("fabric.leave", LeaveFabric{events.FabricID(w.ids["san"]), w.host("host1")}), events.CodeConflict, "")
	w.must(w.do("vm.stop", VMRef{w.vm("web")}))
	w.must(w.report("host1", events.Report{Ended: []events.DomainEnded{w.endedOf("web")}}))
	w.must(w.do("volume.detach", VolumeRef{v.ID}))
	w.must(w.do("volume.delete", VolumeRef{v.ID}))
	segments := v.Segments
	w.createVolume("v2", 100)
	if w.volume("v2").Segments[0] == segments[0] {
		t.Fatal("extents were given before they were wiped")
	}
	w.refused(w.do("array.delete", ArrayRef{w.arr().ID}), events.CodeConflict, "")
	w.must(w.reportArray(events.ArrayActive, func(r *events.ArrayReport) { r.Wiped = []events.VolumeID{v.ID} }))
	w.createVolume("v3", 100)
	if w.volume("v3").Segments[0].Start != segments[0].Start {
		t.Fatalf("wiped extents are not given again: %+v", w.volume("v3").Segments)
	}
	w.audit()
}

func TestArrayIsDeletedWhenItsOwnerGaveItUp(t *testing.T) {
	w := withArray(t)
	w.must(w.do("array.delete", ArrayRef{w.arr().ID}))
	w.refused(w.do("array.delete", ArrayRef{w.arr().ID}), events.CodeConflict, "")
	pool := w.pool()
	w.must(w.reportArray(events.ArrayAbsent))
	if len(w.s.storage.arrays) != 0 || len(w.s.ops) != 0 {
		t.Fatalf("%d arrays and %d operations are left", len(w.s.storage.arrays), len(w.s.ops))
	}
	w.must(w.do("pool.delete", PoolRef{pool}))
	w.audit()
}

// wiped is what a storage node says of all its disks that are to be wiped of an array.
func (w *world) wiped(node, state, signature string, array events.ArrayID, to ...events.MachineID) events.Decision {
	var r events.StorageReport
	for _, id := range sortedKeys(w.s.storage.disks) {
		x := w.s.storage.disks[id]
		if x.Data.Node != w.host(node) {
			continue
		}
		seen := events.DiskReport{Serial: x.Data.Serial, Bytes: x.Data.Bytes, Health: x.Data.Health}
		if x.Wiping != "" {
			seen.Signature = signature
			r.Exports = append(r.Exports, events.ExportReport{Disk: id, Array: array, State: state, To: to})
		}
		r.Disks = append(r.Disks, seen)
	}
	return w.storage(node, r)
}

func (w *world) wiping() (n int) {
	for _, x := range w.s.storage.disks {
		if x.Wiping != "" {
			n++
		}
	}
	return n
}

// I2: a deleted array's disks are given to no other array before their storage node has said that nothing of it is left on them.
func TestI2DisksOfADeletedArrayAreWipedFirst(t *testing.T) {
	w := withArray(t)
	id, legs := w.arr().ID, w.arr().Data.Legs
	w.must(w.do("array.delete", ArrayRef{id}))
	w.must(w.reportArray(events.ArrayAbsent))
	if n := w.wiping(); n != 4 {
		t.Fatalf("%d disks are to be wiped", n)
	}
	again := CreateArray{Pool: w.pool(), Name: "a2", Disks: []events.DiskID{legs[0].Disk, legs[1].Disk}}
	refused := func(what string) {
		t.Helper()
		w.refused(w.do("array.create", again), events.CodeConflict, "")
		if n := w.wiping(); n != 4 {
			t.Fatalf("%s: %d disks are to be wiped", what, n)
		}
	}
	refused("nothing was said")
	w.refused(w.do("array.create", CreateArray{Pool: w.pool(), Name: "a2", Sets: 3}), events.CodeNoCapacity, "")
	w.wiped("n1", events.ExportAbsent, "", id)
	refused("nobody has it, and it is not wiped")
	w.wiped("n1", events.ExportWiped, "", "another")
	refused("wiped of another array")
	w.wiped("n1", events.ExportWiped, "", id, w.host("p1"))
	refused("somebody has it")
	w.wiped("n1", events.ExportWiped, "ext4", id)
	refused("something is on it")
	w.must(w.wiped("n1", events.ExportWiped, "", id))
	if n := w.wiping(); n != 2 {
		t.Fatalf("%d disks are to be wiped", n)
	}
	w.refused(w.do("array.create", again), events.CodeConflict, "")
	w.must(w.wiped("n2", events.ExportWiped, "", id))
	w.must(w.do("array.create", again))
	w.audit()
}

// TestADiskWithSomethingElseIsNotWiped: it is free, as any disk that holds something that is not ours.
func TestADiskWithSomethingElseIsNotWiped(t *testing.T) {
	w := withArray(t)
	id, legs := w.arr().ID, w.arr().Data.Legs
	w.must(w.do("array.delete", ArrayRef{id}))
	w.must(w.reportArray(events.ArrayAbsent))
	w.wiped("n1", events.ExportForeign, "", id)
	if n := w.wiping(); n != 4 {
		t.Fatalf("without a word on what it holds, %d disks are to be wiped", n)
	}
	w.must(w.wiped("n1", events.ExportForeign, "ext4", id))
	w.must(w.wiped("n2", events.ExportWiped, "", id))
	again := CreateArray{Pool: w.pool(), Name: "a2", Disks: []events.DiskID{legs[0].Disk, legs[1].Disk}}
	w.refused(w.do("array.create", again), events.CodeGuard, GuardForeignData)
	w.must(w.override(GuardForeignData, "array.create", again))
	w.audit()
}

// I3: whatever is created, grown, deleted and wiped, in whatever order, no extent belongs to two volumes. The audit says so.
func TestI3RandomVolumes(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		w := withArray(t)
		var names []string
		for i := range 120 {
			pick := func() *Volume {
				if len(names) == 0 {
					return nil
				}
				return w.volume(names[rnd.IntN(len(names))])
			}
			switch rnd.IntN(4) {
			case 0, 1:
				name := fmt.Sprintf("v%d", i)
				if d := w.do("volume.create", CreateVolume{Account: events.AccountID(w.ids["demo"]), Name: name, Pool: w.pool(), SizeMiB: 1 + rnd.IntN(90)}); d.Outcome.Status == events.Accepted {
					w.id(name, d)
					names = append(names, name)
				}
			case 2:
				if v := pick(); v != nil {
					w.do("volume.grow", GrowVolume{v.ID, 4*total(v.Segments) + rnd.IntN(40)})
				}
			case 3:
				if v := pick(); v != nil {
					w.do("volume.delete", VolumeRef{v.ID})
					if rnd.IntN(2) == 0 {
						w.reportArray(events.ArrayActive, func(r *events.ArrayReport) { r.Wiped = []events.VolumeID{v.ID} })
					}
				}
			}
		}
		if len(names) < 5 {
			t.Fatalf("only %d volumes", len(names))
		}
		w.audit()
	}
}

// TestGrownVolumeIsReadyAgain: new extents are given to a guest when the owner says that they are ready, under a document that has them.
func TestGrownVolumeIsReadyAgain(t *testing.T) {
	w := withArray(t)
	w.createVolume("v1", 100)
	w.ready("v1")
	before := events.Generation{Term: w.s.term, Number: w.s.last}
	w.must(w.do("volume.grow", GrowVolume{w.volume("v1").ID, 120}))
	count := func(change func(*events.ArrayReport)) int {
		d := w.reportArray(events.ArrayActive, func(r *events.ArrayReport) { r.Ready = []events.VolumeID{w.volume("v1").ID}; change(r) })
		n := 0
		for _, e := range d.Events {
			if _, ok := e.Data.(events.VolumeReady); ok {
				n++
			}
		}
		return n
	}
	if n := count(func(r *events.ArrayReport) { r.Generation = before }); n != 0 {
		t.Fatal("a report of before is taken for the new extents")
	}
	if n := count(func(*events.ArrayReport) {}); n != 1 {
		t.Fatalf("%d events after the new extents are ready", n)
	}
	if n := count(func(*events.ArrayReport) {}); n != 0 {
		t.Fatal("it became ready twice")
	}
}

package commands

import (
	"slices"

	"cloudengine/events"
)

// StorageState is what a machine sees of storage. It may lie only about itself.
type StorageState events.StorageReport

const maxStorage = 4096 // disks, exports, arrays, paths in one report

func (a StorageState) check() *Rejection {
	if len(a.Disks) > maxStorage || len(a.Exports) > maxStorage || len(a.Arrays) > maxStorage || len(a.Paths) > maxStorage {
		return invalid("a report holds at most %d of a kind", maxStorage)
	}
	if len(a.Boot) != 36 {
		return invalid("field \"boot\": want a boot id (a UUID)")
	}
	for _, x := range a.Disks {
		if x.Serial == "" || len(x.Serial) > 64 || len(x.Model) > 128 || len(x.Signature) > 64 || x.Bytes < 0 ||
			x.Health != events.DiskHealthy && x.Health != events.DiskFailing && x.Health != events.DiskUnknown {
			return invalid("field \"disks\": want a serial number, a size, and the health healthy, failing or unknown")
		}
	}
	for _, x := range a.Exports {
		if len(x.Message) > maxText || len(x.To) > maxStorage || len(x.State) > 32 {
			return invalid("field \"exports\": text too long")
		}
	}
	for _, x := range a.Arrays {
		if r := checkArrayReport(x); r != nil {
			return r
		}
	}
	return checkID("machine", string(a.Machine))
}

func checkArrayReport(x events.ArrayReport) *Rejection {
	switch x.State {
	case events.ArrayActive, events.ArrayStandby, events.ArrayAbsent, events.ArrayBroken, events.ArrayWaiting:
	default:
		return invalid("field \"arrays.state\": %q is not known", clip(x.State))
	}
	if len(x.Disks) > maxLegs || len(x.Beside) > maxStorage {
		return invalid("field \"arrays\": too many disks")
	}
	if len(x.Message) > maxText || len(x.Sync) > 32 || len(x.Legs) > maxLegs || x.Degraded < 0 || len(x.Ready) > maxStorage || len(x.Wiped) > maxStorage ||
		len(x.Checked) > 64 || x.Needs != "" && x.Needs != events.SyncRecover && x.Needs != events.SyncResync {
		return invalid("field \"arrays\": out of range")
	}
	if len(x.Failed) > maxStorage || len(x.Fills) > maxStorage {
		return invalid("field \"arrays\": too many volumes")
	}
	for _, f := range x.Failed {
		if len(f.Message) > maxText {
			return invalid("field \"arrays.failed\": text too long")
		}
	}
	for _, l := range x.Legs {
		if len(l) > 32 {
			return invalid("field \"arrays.legs\": text too long")
		}
	}
	return nil
}

func decideStorageReport(d *decision, a StorageState) error {
	if d.c.Actor != MachineActor(a.Machine) {
		return reject(events.CodeUnauthorized, "a machine speaks for itself only")
	}
	m, ok := d.s.machines[a.Machine]
	switch {
	case !ok:
		return reject(events.CodeNotFound, "there is no machine %s", a.Machine)
	case m.Boot != a.Boot:
		return reject(events.CodeStale, "the report is of another boot than the one that is enrolled")
	case a.Counter < d.s.storage.counter[m.ID]:
		return reject(events.CodeStale, "a later report of this boot was taken already")
	case m.BootOver:
		return m.contradict(events.CodeContradicts, "machine "+m.Name+" reports from a boot whose power was proven off")
	}
	r := &storageReported{d, m, a}
	if err := r.disks(); err != nil {
		return err
	}
	r.exports()
	r.fences()
	for _, x := range a.Arrays {
		if err := r.array(x); err != nil {
			return err
		}
	}
	r.paths()
	if a.Complete && !d.s.storageReady(m) && (a.Term >= d.s.term || d.s.term == 1) {
		d.add(events.KindMachine, string(m.ID), events.StorageReady{Boot: a.Boot, Term: d.s.term})
	}
	return nil
}

// storageReported is one report on its way into events.
type storageReported struct {
	d *decision
	m *Machine
	a StorageState
}

func (r *storageReported) disks() error {
	if !contains(r.m.Data.Roles, events.RoleStorageNode) {
		return nil
	}
	listed := map[events.DiskID]bool{}
	for _, x := range r.a.Disks {
		id := events.DiskIDOf(x.Serial)
		if listed[id] {
			return r.m.contradict(events.CodeContradicts, "machine "+r.m.Name+" reports two disks with the serial number "+clip(x.Serial))
		}
		listed[id] = true
		found := events.DiskFound{Node: r.m.ID, Boot: r.a.Boot, Serial: x.Serial, Bytes: x.Bytes, Model: x.Model, Signature: x.Signature, Health: x.Health}
		have, known := r.d.s.storage.disks[id]
		if known && have.Data.Node != r.m.ID && !have.Gone {
			return r.m.contradict(events.CodeContradicts, "machine "+r.m.Name+" reports disk "+clip(x.Serial)+", which "+r.d.s.machineName(have.Data.Node)+" has")
		}
		if known && !have.Gone && have.Array != "" {
			found.Signature = have.Data.Signature // what is on a leg is ours
		}
		was := events.DiskFound{}
		if known {
			was = have.Data
			was.Boot = found.Boot
		}
		if !known || have.Gone || was != found {
			r.d.add(events.KindDisk, string(id), found)
		}
	}
	if !r.a.Complete {
		return nil
	}
	for _, id := range sortedKeys(r.d.s.storage.disks) {
		if x := r.d.s.storage.disks[id]; x.Data.Node == r.m.ID && !x.Gone && !listed[id] {
			r.d.add(events.KindDisk, string(id), events.DiskGone{Node: r.m.ID, Boot: r.a.Boot})
		}
	}
	return nil
}

func (r *storageReported) exports() {
	for _, x := range r.a.Exports {
		have, ok := r.d.s.storage.disks[x.Disk]
		if !ok || have.Data.Node != r.m.ID {
			continue
		}
		now := events.DiskExported{Node: r.m.ID, Boot: r.a.Boot, Array: x.Array, Epoch: x.Epoch, To: x.To, State: x.State, Message: x.Message}
		was := have.Export
		if was.Node != now.Node || was.Boot != now.Boot || was.Array != now.Array || was.Epoch != now.Epoch || was.State != now.State ||
			was.Message != now.Message || !slices.Equal(was.To, now.To) {
			r.d.add(events.KindDisk, string(x.Disk), now)
		}
		r.release(have, x)
	}
}

// release frees a disk of a deleted array once its storage node says, in one report, that nobody is given it and what is on it now.
func (r *storageReported) release(have *Disk, x events.ExportReport) {
	if have.Wiping == "" || x.Array != have.Wiping || len(x.To) > 0 || x.State != events.ExportWiped && x.State != events.ExportForeign {
		return
	}
	wiped := x.State == events.ExportWiped
	for _, seen := range r.a.Disks {
		if events.DiskIDOf(seen.Serial) == have.ID && (seen.Signature == "") == wiped {
			r.d.add(events.KindDisk, string(have.ID), events.DiskReleased{Node: r.m.ID, Boot: r.a.Boot, Array: have.Wiping, Wiped: wiped})
			return
		}
	}
}

// array takes what a proxy says of one array. Only its owner's word counts; another one that says that it is active is a second writer.
func (r *storageReported) array(x events.ArrayReport) error {
	have, ok := r.d.s.storage.arrays[x.Array]
	if !ok {
		return nil
	}
	if r.fenced(have, x) {
		return nil
	}
	o := have.Owner
	if o == nil || o.Proxy != r.m.ID || o.Boot != r.a.Boot || o.Epoch != x.Epoch {
		if x.State == events.ArrayActive {
			return r.m.contradict(events.CodeContradicts, "machine "+r.m.Name+" says that it has array "+have.Data.Name+" active under epoch "+x.Epoch.String()+", which it does not own")
		}
		return nil
	}
	seen := events.ArrayObserved{
		Proxy: r.m.ID, Epoch: x.Epoch, State: x.State, Made: x.Made || have.Seen.Made, Degraded: x.Degraded, Legs: x.Legs,
		Events: max(x.Events, have.Seen.Events), Message: x.Message,
	}
	if !sameArray(seen, have.Seen) {
		r.d.add(events.KindArray, string(have.ID), seen)
	}
	r.sync(have, x)
	if x.State == events.ArrayActive && o.Revoked == (events.Generation{}) { // until it hears that it shall give the array up, it has it
		r.d.finish(have.ref(), events.OperationDone{Message: "it is active on " + r.m.Name}, "create", "failover", "take_over")
		r.volumes(have, x)
		r.failures(have, x)
		r.legs(have, x)
	}
	given := x.State == events.ArrayStandby || x.State == events.ArrayAbsent
	if given && o.Revoked != (events.Generation{}) && x.Generation.Compare(o.Revoked) >= 0 { // it obeys the document that told it to
		r.d.endOwner(have, events.ProofCleanEnd)
	}
	return nil
}

// sameArray leaves the event count out, which rises all the time: it is recorded with what else changes.
func sameArray(a, b events.ArrayObserved) bool {
	return a.Proxy == b.Proxy && a.Epoch == b.Epoch && a.State == b.State && a.Made == b.Made && a.Degraded == b.Degraded && a.Message == b.Message && slices.Equal(a.Legs, b.Legs)
}

func (r *storageReported) volumes(have *Array, x events.ArrayReport) {
	for _, id := range x.Ready {
		v, ok := r.d.s.storage.volumes[id]
		if !ok || v.Data.Array != have.ID || v.Deleted || x.Generation.Compare(v.Grown) < 0 { // of a document that does not know its new extents
			continue
		}
		if !v.Ready || v.Grown != (events.Generation{}) {
			r.d.add(events.KindVolume, string(id), events.VolumeReady{})
			r.d.finish(v.ref(), events.OperationDone{Message: "it is ready"}, "create", "import")
		}
	}
	for _, id := range x.Wiped {
		if v, ok := r.d.s.storage.volumes[id]; ok && v.Data.Array == have.ID && v.Deleted {
			r.d.add(events.KindVolume, string(id), events.VolumeWiped{Proxy: r.m.ID, Epoch: x.Epoch})
			r.d.finish(v.ref(), events.OperationDone{Message: "its extents are wiped and free"}, "delete")
		}
	}
}

// foldStorageCounter notes the counter of a recorded report of storage.
func (s *State) foldStorageCounter(m *Machine, r events.Recorded) {
	if n, ok := counterOf(m, r, "report_storage"); ok {
		s.storage.counter[m.ID] = max(s.storage.counter[m.ID], n)
	}
}

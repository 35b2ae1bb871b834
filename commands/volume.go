package commands

import (
	"fmt"
	"sort"
	"time"

	"cloudengine/events"
)

// Volume is storage that belongs to an account: extents of one array.
type Volume struct {
	ID       events.VolumeID
	Data     events.VolumeCreated
	Segments []events.Segment // as they are now
	Golden   bool             // it is a template's image, for others to be copied from
	Ready    bool
	Grown    events.Generation // of the decision that gave it extents which are not ready yet; zero: all are
	Limits   events.DiskLimits
	Deleted  bool // its extents are not wiped yet
	VM       events.VMID
	Slot     string
	Failed   string            // why it could not be filled the last time; empty: it could, or nobody tried
	Retried  events.Generation // of the decision that last asked for another try
	copies   int               // of a golden volume: volumes that are being copied from it
	ops      []events.IntentID
}

func (v *Volume) ref() events.Ref { return events.Ref{Kind: events.KindVolume, ID: string(v.ID)} }

// Limits of volumes.
const (
	maxVolumeMiB = 64 << 20 // 64 TiB
	maxSegments  = 256
)

// CreateVolume takes extents of one array of a pool. Made from a template of type disk, the volume begins with that image.
type CreateVolume struct {
	Account events.AccountID `json:"account"`
	Name    string           `json:"name"`
	Pool    events.PoolID    `json:"pool"`
	SizeMiB int              `json:"size_mib,omitempty"` // 0 with a template: as large as its image

	Template events.TemplateID `json:"template,omitempty"` // of type disk: what is copied onto it first
}

func (a CreateVolume) check() *Rejection {
	if a.Template != "" {
		if r := checkID("template", string(a.Template)); r != nil {
			return r
		}
	}
	if a.SizeMiB < 0 || a.SizeMiB > maxVolumeMiB {
		return invalid("field \"size_mib\": want 1 to %d, or 0 with a template for the size of its image", maxVolumeMiB)
	}
	return first(checkName("name", a.Name), checkID("account", string(a.Account)), checkID("pool", string(a.Pool)))
}

func decideCreateVolume(d *decision, a CreateVolume) error {
	acc, err := d.account(a.Account)
	if err != nil {
		return err
	}
	if err := d.freeName(events.KindVolume, acc.ID, a.Name); err != nil {
		return err
	}
	if a.SizeMiB == 0 && a.Template == "" {
		return reject(events.CodeInvalid, "field \"size_mib\": an empty volume needs a size")
	}
	var t *Template
	if a.Template != "" {
		if t, err = d.templateFor(a.Template, acc); err != nil {
			return err
		}
	}
	return d.newVolume(acc, a, t)
}

// newVolume makes a volume under the id of the command, filled from a template unless that is nil, and the operation that ends when it is ready.
func (d *decision) newVolume(acc *Account, a CreateVolume, t *Template) error {
	p, err := d.pool(a.Pool)
	if err != nil {
		return err
	}
	made := events.VolumeCreated{Name: a.Name, Account: acc.ID, Pool: p.ID}
	if t != nil {
		if a.SizeMiB, err = sizeFor(t, a.SizeMiB); err != nil {
			return err
		}
		made.Template, made.Source, made.SourceBytes, made.SourceContent = t.ID, t.Data.Disk, t.Data.DiskBytes, t.Data.DiskContent
	}
	best, segments := d.placeVolume(p, a.SizeMiB)
	if best == nil {
		return reject(events.CodeNoCapacity, "no array of pool %q has %d MiB free in at most %d pieces", p.Data.Name, a.SizeMiB, maxSegments)
	}
	made.Array, made.Segments = best.ID, segments
	limit := startTimeout + fillTime(made.SourceBytes)
	if t != nil {
		var ready bool
		if made.From, ready = d.copySource(best, t, segments); made.From != "" && !ready {
			limit += fillTime(made.SourceBytes) // first the one, then the other
		}
	}
	d.add(events.KindVolume, d.newID(), made)
	d.startOperation(events.Ref{Kind: events.KindVolume, ID: d.newID()}, limit)
	return nil
}

// sizeFor gives the size of a volume that is made from a template, in MiB: the one that was asked for, if the image fits, or that of the image.
func sizeFor(t *Template, mib int) (int, error) {
	if t.Data.Type != events.TemplateDisk {
		return 0, reject(events.CodeInvalid, "template %q is of type %s: a volume is made from one of type disk", t.Data.Name, t.Data.Type)
	}
	least := int((t.Data.DiskBytes + 1<<20 - 1) >> 20)
	if mib == 0 {
		mib = least
	}
	if mib < least {
		return 0, reject(events.CodeInvalid, "%d MiB are too small: the image of template %q needs at least %d MiB", mib, t.Data.Name, least)
	}
	return mib, nil
}

// fillTime is what the filling of a volume may take on top: at 8 MiB/s, far less than disks and networks have.
func fillTime(bytes int64) time.Duration { return time.Duration(bytes>>23) * time.Second }

// placeVolume chooses the array and the extents of a new volume; nil: no array has them.
func (d *decision) placeVolume(p *Pool, mib int) (*Array, []events.Segment) {
	want, most := extentsOf(p, mib), 0
	var best *Array
	var segments []events.Segment
	for _, id := range sortedKeys(d.s.storage.arrays) {
		x := d.s.storage.arrays[id]
		if x.Data.Pool != p.ID || x.retired {
			continue
		}
		free := x.free()
		if got, ok := take(free, want); ok && total(free) > most { // where most is left
			best, segments, most = x, got, total(free)
		}
	}
	return best, segments
}

func extentsOf(p *Pool, mib int) int { return (mib + p.Data.ExtentMiB - 1) / p.Data.ExtentMiB }

func total(all []events.Segment) int {
	n := 0
	for _, s := range all {
		n += s.Count
	}
	return n
}

// free lists the runs of extents of an array that belong to no volume, nor to those that are being given away, in order.
func (a *Array) free(given ...events.Segment) []events.Segment {
	used := append([]events.Segment(nil), given...)
	for _, all := range a.used {
		used = append(used, all...)
	}
	sort.Slice(used, func(i, j int) bool { return used[i].Start < used[j].Start })
	var out []events.Segment
	at := 0
	for _, s := range append(used, events.Segment{Start: a.Data.Extents}) {
		if s.Start > at {
			out = append(out, events.Segment{Start: at, Count: s.Start - at})
		}
		at = s.Start + s.Count
	}
	return out
}

// take chooses extents of free runs: one run if one is large enough, the smallest of those; else the largest ones.
func take(free []events.Segment, want int) ([]events.Segment, bool) {
	free = append([]events.Segment(nil), free...)
	sort.SliceStable(free, func(i, j int) bool { return free[i].Count < free[j].Count })
	for _, s := range free {
		if s.Count >= want {
			return []events.Segment{{Start: s.Start, Count: want}}, true
		}
	}
	var out []events.Segment
	for i := len(free) - 1; i >= 0 && want > 0 && len(out) < maxSegments; i-- {
		n := min(want, free[i].Count)
		out = append(out, events.Segment{Start: free[i].Start, Count: n})
		want -= n
	}
	return out, want == 0
}

// VolumeRef names a volume.
type VolumeRef struct {
	Volume events.VolumeID `json:"volume"`
}

func (a VolumeRef) check() *Rejection { return checkID("volume", string(a.Volume)) }

// volume finds one that the actor may see, under the name that the client saw.
func (d *decision) volume(id events.VolumeID) (*Volume, error) {
	v, ok := d.s.storage.volumes[id]
	if !ok || v.Deleted || !d.owns(v.Data.Account) {
		return nil, reject(events.CodeNotFound, "there is no volume %s", id)
	}
	return v, d.expect(events.KindVolume, v.Data.Name)
}

// GrowVolume makes a volume larger, also while it is used.
type GrowVolume struct {
	Volume  events.VolumeID `json:"volume"`
	SizeMiB int             `json:"size_mib"`
}

func (a GrowVolume) check() *Rejection {
	if a.SizeMiB < 1 || a.SizeMiB > maxVolumeMiB {
		return invalid("field \"size_mib\": want 1 to %d", maxVolumeMiB)
	}
	return checkID("volume", string(a.Volume))
}

func decideGrowVolume(d *decision, a GrowVolume) error {
	v, err := d.volume(a.Volume)
	if err != nil {
		return err
	}
	if err := isGolden(v, "grown"); err != nil {
		return err
	}
	p := d.s.storage.pools[v.Data.Pool]
	more := extentsOf(p, a.SizeMiB) - total(v.Segments)
	if more == 0 {
		return nil
	}
	if more < 0 {
		return reject(events.CodeConflict, "volume %q has %d MiB: it can only grow", v.Data.Name, total(v.Segments)*p.Data.ExtentMiB)
	}
	x := d.s.storage.arrays[v.Data.Array]
	got, ok := take(x.free(), more)
	if !ok || len(got)+len(v.Segments) > maxSegments {
		return reject(events.CodeNoCapacity, "array %q has not %d MiB free for volume %q", x.Data.Name, more*p.Data.ExtentMiB, v.Data.Name)
	}
	d.add(events.KindVolume, string(v.ID), events.VolumeGrown{Segments: append(append([]events.Segment(nil), v.Segments...), got...)})
	return nil
}

// AttachVolume makes a volume the disk of a VM that does not run.
type AttachVolume struct {
	Volume events.VolumeID `json:"volume"`
	VM     events.VMID     `json:"vm"`
	Slot   string          `json:"slot,omitempty"` // empty: the first that is free
}

func (a AttachVolume) check() *Rejection {
	if a.Slot != "" && a.Slot != events.SlotPrimary && a.Slot != events.SlotSecondary {
		return invalid("field \"slot\": want %s or %s", events.SlotPrimary, events.SlotSecondary)
	}
	return first(checkID("volume", string(a.Volume)), checkID("vm", string(a.VM)))
}

func decideAttachVolume(d *decision, a AttachVolume) error {
	v, err := d.volume(a.Volume)
	if err != nil {
		return err
	}
	if err := isGolden(v, "attached"); err != nil {
		return err
	}
	vm, ok := d.s.vms[a.VM]
	if !ok || !d.owns(vm.Data.Account) || vm.Data.Account != v.Data.Account {
		return reject(events.CodeNotFound, "there is no VM %s in the account of volume %q", a.VM, v.Data.Name)
	}
	if v.VM == vm.ID && (a.Slot == "" || a.Slot == v.Slot) {
		return nil
	}
	if v.VM != "" {
		return reject(events.CodeConflict, "volume %q is disk %s of VM %q: detach it first", v.Data.Name, v.Slot, d.s.vms[v.VM].Data.Name)
	}
	if err := d.stopped(vm); err != nil {
		return err
	}
	for _, slot := range []string{events.SlotPrimary, events.SlotSecondary} {
		if a.Slot == "" && vm.disks[slot] == nil {
			a.Slot = slot
		}
	}
	if a.Slot == "" || vm.disks[a.Slot] != nil {
		return reject(events.CodeConflict, "VM %q has a disk there already", vm.Data.Name)
	}
	d.add(events.KindVolume, string(v.ID), events.VolumeAttached{VM: vm.ID, Slot: a.Slot})
	return nil
}

func decideDetachVolume(d *decision, a VolumeRef) error {
	v, err := d.volume(a.Volume)
	if err != nil || v.VM == "" {
		return err
	}
	if err := d.stopped(d.s.vms[v.VM]); err != nil {
		return err
	}
	d.add(events.KindVolume, string(v.ID), events.VolumeDetached{VM: v.VM})
	return nil
}

// decideDeleteVolume ends a volume. Its extents are nobody else's before the owner of the array has wiped them.
func decideDeleteVolume(d *decision, a VolumeRef) error {
	v, err := d.volume(a.Volume)
	if err != nil {
		return err
	}
	if v.VM != "" {
		return reject(events.CodeConflict, "volume %q is disk %s of VM %q: detach it first", v.Data.Name, v.Slot, d.s.vms[v.VM].Data.Name)
	}
	if err := copied(v); err != nil {
		return err
	}
	d.endVolume(v, "the volume was deleted")
	d.startOperation(v.ref(), startTimeout)
	return nil
}

func (d *decision) endVolume(v *Volume, why string) {
	for _, op := range v.ops {
		d.endOperation(op, events.OperationFailed{Message: why})
	}
	d.add(events.KindVolume, string(v.ID), events.VolumeDeleted{})
}

// mayUseDisks refuses to start a VM whose disks cannot be had.
func (d *decision) mayUseDisks(vm *VM) error {
	if vm.Data.Boot == events.BootDisk && vm.disks[events.SlotPrimary] == nil {
		return reject(events.CodeConflict, "VM %q boots from disk %s and has none: make one from its template (volume create NAME --template %s --pool POOL), then attach it (volume attach NAME --vm %s --slot %[2]s)",
			vm.Data.Name, events.SlotPrimary, vm.Data.TemplateName, vm.Data.Name)
	}
	for _, slot := range sortedKeys(vm.disks) {
		v := vm.disks[slot]
		x := d.s.storage.arrays[v.Data.Array]
		switch {
		case !v.Ready && d.s.fillFailed(v) != "":
			r := reject(events.CodeConflict, "disk %s (volume %q) could not be filled from its template yet: %s", slot, v.Data.Name, d.s.fillFailed(v))
			r.ForAccounts = fmt.Sprintf("disk %s (volume %q) could not be filled from its template yet; it is tried again", slot, v.Data.Name)
			return r
		case !v.Ready && v.Data.Template != "":
			return reject(events.CodeConflict, "disk %s (volume %q) is being filled from its template: wait until it is ready (volume show %[2]s)", slot, v.Data.Name)
		case !v.Ready:
			return reject(events.CodeConflict, "disk %s (volume %q) is not ready yet: wait", slot, v.Data.Name)
		case x.Owner == nil:
			return reject(events.CodeConflict, "disk %s (volume %q) cannot be reached: its array has no proxy that owns it", slot, v.Data.Name)
		}
	}
	return nil
}

// fillFailed says why a volume, or the golden one that it is copied from, could not be filled; empty: nobody failed.
func (s *State) fillFailed(v *Volume) string {
	if g := s.storage.volumes[v.Data.From]; v.Failed == "" && g != nil && g.Failed != "" {
		return "golden volume " + g.Data.Name + ": " + g.Failed
	}
	return v.Failed
}

// onFabrics says which fabric of a VM's disks a host is not on, or nothing.
func (s *State) onFabrics(h events.MachineID, disks map[string]*Volume) string {
	for _, v := range disks {
		f := s.fabricOf(s.storage.arrays[v.Data.Array])
		if _, member := f.members[h]; !member {
			return f.Data.Name
		}
	}
	return ""
}

func (s *State) foldVolume(e events.Event, r events.Recorded) {
	id := events.VolumeID(e.Aggregate.ID)
	data, made := e.Data.(events.VolumeCreated)
	golden, is := e.Data.(events.GoldenCreated)
	if is {
		data = golden.Volume()
	}
	if made || is {
		v := &Volume{ID: id, Data: data, Segments: data.Segments, Golden: is}
		s.storage.volumes[id] = v
		s.foldCopies(v, e.Data)
		s.storage.arrays[data.Array].used[id] = data.Segments
		s.names[scope(events.KindVolume, data.Account, data.Name)] = e.Aggregate.ID
		s.own(data.Account, 1)
		return
	}
	v, ok := s.storage.volumes[id]
	if !ok {
		return
	}
	s.foldCopies(v, e.Data)
	switch data := e.Data.(type) {
	case events.VolumeGrown:
		v.Segments, v.Grown = data.Segments, events.Generation{Term: r.Term, Number: r.Number}
		s.storage.arrays[v.Data.Array].used[id] = data.Segments
	case events.VolumeReady:
		v.Ready, v.Grown, v.Failed = true, events.Generation{}, ""
	case events.VolumeFillFailed:
		v.Failed = data.Message
	case events.VolumeFillRetried:
		v.Failed, v.Retried = "", events.Generation{Term: r.Term, Number: r.Number}
	case events.VolumeLimited:
		v.Limits = events.DiskLimits(data)
	case events.VolumeAttached:
		v.VM, v.Slot = data.VM, data.Slot
		vm := s.vms[data.VM]
		if vm.disks == nil {
			vm.disks = map[string]*Volume{}
		}
		vm.disks[data.Slot] = v
	case events.VolumeDetached:
		if vm, ok := s.vms[v.VM]; ok {
			delete(vm.disks, v.Slot)
		}
		v.VM, v.Slot = "", ""
	case events.VolumeDeleted:
		v.Deleted = true
		delete(s.names, scope(events.KindVolume, v.Data.Account, v.Data.Name))
		s.own(v.Data.Account, -1)
	case events.VolumeWiped:
		delete(s.storage.arrays[v.Data.Array].used, id)
		delete(s.storage.volumes, id)
	}
}

package commands

import (
	"sort"
	"strings"

	"cloudengine/events"
)

// Array is an md RAID 10 over disks of several storage nodes, with at most one owner.
type Array struct {
	ID    events.ArrayID
	Data  events.ArrayCreated
	Owner *Owner // the live one, if any
	Seen  events.ArrayObserved
	next  events.MachineID // the proxy that shall own it next, if one was named

	replacing *Replacement // nil: no leg is being replaced

	paths   map[events.MachineID]witness // under the present owner
	retired bool                         // it shall have no owner any more
	fencing *fencing                     // that is under way against the owner
	fenced  map[events.MachineID]Owner   // boots from which it was taken by fencing, and that have not given it up since
	sync    syncing

	counter uint64 // of the last epoch
	used    map[events.VolumeID][]events.Segment
	goldens map[events.TemplateID]events.VolumeID // that are not deleted
	ops     []events.IntentID
}

// Owner lets one boot of a proxy assemble and write an array.
type Owner struct {
	Proxy   events.MachineID
	Boot    string
	Epoch   events.Epoch
	Revoked events.Generation // of the decision that told it to give the array up; zero: none did
}

func (a *Array) ref() events.Ref { return events.Ref{Kind: events.KindArray, ID: string(a.ID)} }

// Limits of arrays.
const (
	chunkKiB       = 64
	legReserveMiB  = 32 // of each leg, for md's superblock and bitmap
	arrayStartMiB  = 4  // for LVM's label and records
	maxLegs        = 64
	switchTimeout  = startTimeout
	createdTimeout = startTimeout
)

// CreateArray makes an array of free disks.
type CreateArray struct {
	Pool  events.PoolID   `json:"pool"`
	Name  string          `json:"name"`
	Disks []events.DiskID `json:"disks,omitempty"` // in slot order: copies side by side; empty: chosen, for Sets
	Sets  int             `json:"sets,omitempty"`  // how many times the pool's redundancy, without Disks; 0: 1
}

func (a CreateArray) check() *Rejection {
	if len(a.Disks) > maxLegs || a.Sets < 0 || a.Sets > maxLegs/2 {
		return invalid("want at most %d disks, or at most %d sets", maxLegs, maxLegs/2)
	}
	for _, d := range a.Disks {
		if r := checkID("disks", string(d)); r != nil {
			return r
		}
	}
	return first(checkName("name", a.Name), checkID("pool", string(a.Pool)))
}

func decideCreateArray(d *decision, a CreateArray) error {
	p, err := d.pool(a.Pool)
	if err != nil {
		return err
	}
	if err := d.freeName(events.KindArray, "", a.Name); err != nil {
		return err
	}
	if a.Sets > 0 && len(a.Disks) > 0 {
		return reject(events.CodeConflict, "want disks or sets, not both")
	}
	f := d.s.storage.fabrics[p.Data.Fabric]
	disks := a.Disks
	if len(disks) == 0 {
		if disks, err = d.s.chooseDisks(p, f, max(1, a.Sets)); err != nil {
			return err
		}
	}
	made := events.ArrayCreated{Pool: p.ID, Name: a.Name, ChunkKiB: chunkKiB, StartMiB: arrayStartMiB}
	if made.Legs, err = d.legs(p, f, disks); err != nil {
		return err
	}
	sets := len(made.Legs) / p.Data.Redundancy
	made.Extents = (sets*d.s.legMiB(made.Legs) - arrayStartMiB) / p.Data.ExtentMiB
	if made.Extents < 1 {
		return reject(events.CodeNoCapacity, "its disks are too small: not one extent of %d MiB fits", p.Data.ExtentMiB)
	}
	d.add(events.KindArray, d.newID(), made)
	d.startOperation(events.Ref{Kind: events.KindArray, ID: d.newID()}, createdTimeout)
	return nil
}

// legMiB is what each leg gives: the smallest one counts.
func (s *State) legMiB(legs []events.Leg) int {
	least := int64(1) << 62
	for _, l := range legs {
		least = min(least, s.storage.disks[l.Disk].Data.Bytes)
	}
	return int(least>>20) - legReserveMiB
}

// legs checks that disks may be the legs of an array of a pool, in this order.
func (d *decision) legs(p *Pool, f *Fabric, disks []events.DiskID) ([]events.Leg, error) {
	n := p.Data.Redundancy
	if len(disks) == 0 || len(disks)%n != 0 {
		return nil, reject(events.CodeConflict, "an array of pool %q has %d disks, or a multiple of that: there are %d", p.Data.Name, n, len(disks))
	}
	out, seen := make([]events.Leg, 0, len(disks)), map[events.DiskID]bool{}
	for i, id := range disks {
		x, ok := d.s.storage.disks[id]
		if !ok {
			return nil, reject(events.CodeNotFound, "there is no disk %s", id)
		}
		m := d.s.machines[x.Data.Node]
		_, member := f.members[x.Data.Node]
		switch why := x.usable(); {
		case why != "":
			return nil, reject(events.CodeConflict, "disk %s cannot be a leg: %s", x.Data.Serial, why)
		case seen[id]:
			return nil, reject(events.CodeConflict, "disk %s is there twice", x.Data.Serial)
		case m == nil || !member:
			return nil, reject(events.CodeConflict, "disk %s is on a machine that is not on fabric %q", x.Data.Serial, f.Data.Name)
		case m.Draining:
			return nil, reject(events.CodeConflict, "disk %s is on storage node %s, which is being drained", x.Data.Serial, m.Name)
		case x.Data.Signature != "" && !d.c.overrides(GuardForeignData):
			return nil, guarded(GuardForeignData, "disk %s of %s holds something that is not ours (%s): take another, or lose it with --override=%s --reason \"…\"",
				x.Data.Serial, m.Name, x.Data.Signature, GuardForeignData)
		}
		for _, l := range out[i/n*n:] { // its copies (I8)
			if l.Node == x.Data.Node {
				return nil, reject(events.CodeConflict, "disks %d and %d would hold the same data on one storage node, %s", l.Slot+1, i+1, m.Name)
			}
		}
		seen[id] = true
		out = append(out, events.Leg{Slot: i, Disk: id, Node: x.Data.Node})
	}
	return out, nil
}

// chooseDisks takes free disks without data, from the nodes that have most left; the copies of a set are on different nodes.
func (s *State) chooseDisks(p *Pool, f *Fabric, sets int) ([]events.DiskID, error) {
	free, wiping := map[events.MachineID][]*Disk{}, ""
	for _, x := range s.storage.disks {
		if x.Wiping != "" {
			wiping = "; some that were legs of deleted arrays are not wiped yet"
		}
		if _, member := f.members[x.Data.Node]; member && x.usable() == "" && x.Data.Signature == "" && !s.drainsNode(x.Data.Node) {
			free[x.Data.Node] = append(free[x.Data.Node], x)
		}
	}
	nodes := sortedKeys(free)
	for _, n := range nodes { // large ones first, so that equal sizes come together
		sort.Slice(free[n], func(i, j int) bool {
			a, b := free[n][i], free[n][j]
			return a.Data.Bytes > b.Data.Bytes || a.Data.Bytes == b.Data.Bytes && a.ID < b.ID
		})
	}
	var out []events.DiskID
	for range sets {
		sort.SliceStable(nodes, func(i, j int) bool { return len(free[nodes[i]]) > len(free[nodes[j]]) })
		if len(nodes) < p.Data.Redundancy || len(free[nodes[p.Data.Redundancy-1]]) == 0 {
			return nil, reject(events.CodeNoCapacity, "%d sets of %d copies need as many free disks without data on %d storage nodes; there are enough for %d%s",
				sets, p.Data.Redundancy, p.Data.Redundancy, len(out)/p.Data.Redundancy, wiping)
		}
		set := append([]events.MachineID(nil), nodes[:p.Data.Redundancy]...)
		sort.Slice(set, func(i, j int) bool { return set[i] < set[j] })
		for _, n := range set {
			out, free[n] = append(out, free[n][0].ID), free[n][1:]
		}
	}
	return out, nil
}

// ArrayRef names an array.
type ArrayRef struct {
	Array events.ArrayID `json:"array"`
}

func (a ArrayRef) check() *Rejection { return checkID("array", string(a.Array)) }

// array finds the array that a command is about, under the name that its sender expects.
func (d *decision) array(id events.ArrayID) (*Array, error) {
	a, ok := d.s.storage.arrays[id]
	if !ok {
		return nil, reject(events.CodeNotFound, "there is no array %s", id)
	}
	return a, d.expect(events.KindArray, a.Data.Name)
}

// decidePlaceArray is a reaction: an array without an owner gets one.
func decidePlaceArray(d *decision, a ArrayRef) error {
	x, ok := d.s.storage.arrays[a.Array]
	if !ok || x.Owner != nil || x.retired {
		return nil
	}
	return d.grantOwner(x)
}

// grantOwner lets the proxy with the fewest arrays own one that has no owner: the one that was named, if it can.
func (d *decision) grantOwner(x *Array) error {
	if !d.s.settled {
		return reject(events.CodeConflict, "the log was %s: arrays get owners when it is settled", d.s.cause)
	}
	var best *Machine
	var refused []string
	for _, id := range sortedKeys(d.s.fabricOf(x).members) {
		m, ok := d.s.machines[id]
		if !ok || !contains(m.Data.Roles, events.RoleProxy) {
			continue
		}
		if why := d.s.cannotTake(x, m); why != "" {
			refused = append(refused, m.Name+": "+why)
			continue
		}
		if best == nil || m.ID == x.next || best.ID != x.next && len(d.s.ownedBy(m.ID)) < len(d.s.ownedBy(best.ID)) {
			best = m
		}
	}
	if best == nil {
		return reject(events.CodeNoCapacity, "no proxy can own array %q: %s", x.Data.Name, strings.Join(refused, "; "))
	}
	d.add(events.KindArray, string(x.ID), events.ArrayOwnerGranted{
		Proxy: best.ID, ProxyName: best.Name, Boot: best.Boot, Epoch: events.Epoch{Term: d.s.term, Counter: x.counter + 1},
	})
	return nil
}

func (s *State) cannotOwn(m *Machine) string {
	switch {
	case m.Boot == "" || m.BootOver:
		return "off"
	case m.Silent:
		return "silent"
	case s.powerEnds(m):
		return "its power is being cut"
	case !s.storageReady(m):
		return "has not reported completely since its boot"
	}
	return ""
}

// FailoverArray moves an array to another proxy, in order: its owner gives it up first.
type FailoverArray struct {
	Array events.ArrayID   `json:"array"`
	To    events.MachineID `json:"to,omitempty"`    // empty: any other
	Fence bool             `json:"fence,omitempty"` // its owner is not waited for: all legs are closed to it
}

func (a FailoverArray) check() *Rejection {
	if a.To != "" {
		return first(checkID("array", string(a.Array)), checkID("to", string(a.To)))
	}
	return checkID("array", string(a.Array))
}

func decideFailoverArray(d *decision, a FailoverArray) error {
	x, err := d.array(a.Array)
	if err != nil {
		return err
	}
	if a.Fence {
		return d.failoverByFencing(x, a.To)
	}
	to, err := d.successor(x, a.To)
	if err != nil || x.Owner != nil && to == x.Owner.Proxy {
		return err
	}
	switch {
	case x.Owner == nil:
		x = &Array{ID: x.ID, Data: x.Data, next: to, counter: x.counter, fenced: x.fenced}
		return d.grantOwner(x)
	case x.Owner.Revoked != (events.Generation{}):
		return reject(events.CodeConflict, "array %q is on its way from %s already", x.Data.Name, d.s.machineName(x.Owner.Proxy))
	case d.s.machines[x.Owner.Proxy].Silent:
		return reject(events.CodeConflict, "proxy %s owns array %q and is silent: nothing proves that it does not write. Prove it: machine power off %s; or close its legs: array failover --fence",
			d.s.machineName(x.Owner.Proxy), x.Data.Name, d.s.machineName(x.Owner.Proxy))
	}
	d.add(events.KindArray, string(x.ID), events.ArrayOwnerRevoked{Epoch: x.Owner.Epoch, To: to})
	d.startOperation(x.ref(), switchTimeout)
	return nil
}

// successor finds the proxy that shall own an array next.
func (d *decision) successor(x *Array, named events.MachineID) (events.MachineID, error) {
	var refused []string
	for _, id := range sortedKeys(d.s.fabricOf(x).members) {
		m, ok := d.s.machines[id]
		if !ok || !contains(m.Data.Roles, events.RoleProxy) || named != "" && id != named || named == "" && x.Owner != nil && x.Owner.Proxy == id {
			continue
		}
		why := d.s.cannotTake(x, m)
		if why == "" {
			return id, nil
		}
		refused = append(refused, m.Name+": "+why)
	}
	if len(refused) == 0 {
		return "", reject(events.CodeNotFound, "there is no other proxy on its fabric, or not the one that was named")
	}
	return "", reject(events.CodeConflict, "nobody can take array %q: %s", x.Data.Name, strings.Join(refused, "; "))
}

func (s *State) machineName(id events.MachineID) string {
	if m, ok := s.machines[id]; ok {
		return m.Name
	}
	return string(id)
}

func decideDeleteArray(d *decision, a ArrayRef) error {
	x, err := d.array(a.Array)
	if err != nil {
		return err
	}
	switch {
	case len(x.goldens) > 0 && len(x.goldens) == len(x.used):
		return reject(events.CodeConflict, "array %q has golden volumes of %d templates, and no others: delete them first (volume list, volume delete NAME)", x.Data.Name, len(x.goldens))
	case len(x.used) > 0:
		return reject(events.CodeConflict, "array %q has %d volumes, or such that are not wiped yet", x.Data.Name, len(x.used))
	case d.s.held(x) != "":
		return reject(events.CodeConflict, "array %q was fenced off from %s, which may have it still and would write to its disks: it must give it up, or boot anew",
			x.Data.Name, d.s.held(x))
	case x.Owner != nil && x.Owner.Revoked == (events.Generation{}):
		d.add(events.KindArray, string(x.ID), events.ArrayOwnerRevoked{Epoch: x.Owner.Epoch, Retire: true})
		d.startOperation(x.ref(), switchTimeout)
		return nil
	case x.Owner != nil:
		return reject(events.CodeConflict, "array %q is being given up by %s: ask again when it has", x.Data.Name, d.s.machineName(x.Owner.Proxy))
	}
	d.add(events.KindArray, string(x.ID), events.ArrayDeleted{Wipe: x.counter > 0}) // without an owner nobody has written to its disks
	d.endReplacement(x)
	return nil
}

func (s *State) foldArray(e events.Event, r events.Recorded) {
	id := events.ArrayID(e.Aggregate.ID)
	if data, ok := e.Data.(events.ArrayCreated); ok {
		s.storage.arrays[id] = &Array{ID: id, Data: data, used: map[events.VolumeID][]events.Segment{}, sync: newSyncing(r.Time)}
		s.names[scope(events.KindArray, "", data.Name)] = e.Aggregate.ID
		s.storage.pools[data.Pool].arrays++
		for _, l := range data.Legs {
			s.storage.disks[l.Disk].Array = id
		}
		s.scheduleCheck(s.storage.arrays[id])
		return
	}
	a, ok := s.storage.arrays[id]
	if !ok {
		return
	}
	a.foldFencing(e, r)
	s.foldSync(a, e, r)
	switch data := e.Data.(type) {
	case events.ArrayOwnerGranted:
		a.counter = max(a.counter, data.Epoch.Counter)
		a.paths = nil
		a.Owner, a.next = &Owner{Proxy: data.Proxy, Boot: data.Boot, Epoch: data.Epoch}, ""
	case events.ArrayOwnerRevoked:
		a.next, a.retired = data.To, a.retired || data.Retire
		if a.Owner != nil {
			a.Owner.Revoked = events.Generation{Term: r.Term, Number: r.Number}
		}
	case events.ArrayOwnerEnded:
		a.Owner = nil
	case events.ArrayObserved:
		a.Seen = data
	case events.ArrayPathObserved:
		if a.paths == nil {
			a.paths = map[events.MachineID]witness{}
		}
		a.paths[data.Host] = witness{data.Boot, data.State}
	case events.ArrayDeleted:
		delete(s.names, scope(events.KindArray, "", a.Data.Name))
		delete(s.storage.arrays, id)
		s.storage.pools[a.Data.Pool].arrays--
		for _, l := range a.disks() {
			x := s.storage.disks[l.Disk]
			if x.Array = ""; data.Wipe {
				x.Wiping = id
			}
		}
	default:
		s.foldReplacement(a, data, events.Generation{Term: r.Term, Number: r.Number})
	}
}

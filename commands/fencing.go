package commands

import (
	"maps"
	"strings"

	"cloudengine/events"
)

// fencing closes all legs of an array to its owner, which cannot be proven off and does not give it up. While it is under way documents give
// the legs to nobody; it ends with the owner's grant. It is never ended by a part of the legs: each storage node can hold a whole copy, and
// an owner that keeps one goes on writing there.
type fencing struct {
	since  events.Generation // of the decision that began it: only documents from here on close legs
	closed map[events.DiskID]events.ArrayLegFenced
}

// legDisks lists every disk that may be given to the owner of an array and counts as a copy, also one that is being filled.
func (s *State) legDisks(a *Array) []*Disk {
	legs := a.disks()
	out := make([]*Disk, 0, len(legs))
	for _, l := range legs {
		out = append(out, s.storage.disks[l.Disk])
	}
	return out
}

// closed says whether a leg is closed to the owner: its storage node has said so, in its present boot, of a document of this term. What was
// said in an earlier term may be undone by a decision that the log has lost.
func (s *State) closed(f *fencing, x *Disk) bool {
	said, ok := f.closed[x.ID]
	m := s.machines[x.Data.Node]
	return ok && m != nil && said.Node == m.ID && said.Boot == m.Boot && said.Generation.Term == s.term
}

// unheard names the storage nodes of an array that cannot say now that its legs are closed, and why.
func (s *State) unheard(a *Array) []string {
	var out []string
	seen := map[events.MachineID]bool{}
	for _, x := range s.legDisks(a) {
		m, why := s.machines[x.Data.Node], ""
		switch {
		case seen[x.Data.Node]:
			continue
		case m == nil:
			why = "not known"
		case m.Boot == "" || m.BootOver:
			why = "off"
		case m.Silent:
			why = "silent"
		}
		seen[x.Data.Node] = true
		if why != "" {
			out = append(out, s.machineName(x.Data.Node)+": "+why)
		}
	}
	return out
}

// beginFencing tells all storage nodes of an array to close its legs. Nothing begins while one of them cannot answer: no proof would come of
// it, and an owner that serves would lose copies.
func (d *decision) beginFencing(x *Array, to events.MachineID) error {
	if unheard := d.s.unheard(x); len(unheard) > 0 {
		return reject(events.CodeConflict, "array %q cannot be fenced: a storage node that does not answer may still give its legs to %s (%s)",
			x.Data.Name, d.s.machineName(x.Owner.Proxy), strings.Join(unheard, "; "))
	}
	began := events.ArrayFencingBegan{Epoch: x.Owner.Epoch, To: to}
	for _, leg := range d.s.legDisks(x) {
		node := leg.Data.Node
		began.Legs = append(began.Legs, events.FencingLeg{Disk: leg.ID, Serial: leg.Data.Serial, Node: node, NodeName: d.s.machineName(node)})
	}
	if x.Owner.Revoked == (events.Generation{}) {
		d.add(events.KindArray, string(x.ID), events.ArrayOwnerRevoked{Epoch: x.Owner.Epoch, To: to})
	}
	d.add(events.KindArray, string(x.ID), began)
	d.startOperation(x.ref(), switchTimeout)
	return nil
}

// failoverByFencing moves an array from an owner that is not waited for.
func (d *decision) failoverByFencing(x *Array, to events.MachineID) error {
	switch {
	case x.Owner == nil:
		return reject(events.CodeConflict, "array %q has no owner: there is nobody to fence off", x.Data.Name)
	case x.fencing != nil:
		return reject(events.CodeConflict, "array %q is being fenced off from %s already", x.Data.Name, d.s.machineName(x.Owner.Proxy))
	case x.retired:
		return reject(events.CodeConflict, "array %q is to be deleted: nobody shall have it", x.Data.Name)
	case to == x.Owner.Proxy:
		return reject(events.CodeConflict, "proxy %s owns array %q: name another", d.s.machineName(to), x.Data.Name)
	case !d.s.settled:
		return reject(events.CodeConflict, "the log was %s: nobody is fenced off before it is settled", d.s.cause)
	}
	to, err := d.successor(x, to)
	if err != nil {
		return err
	}
	return d.beginFencing(x, to)
}

// fences takes what a storage node says of legs that are to be closed, and ends the owner's grant once all are.
func (r *storageReported) fences() {
	if !contains(r.m.Data.Roles, events.RoleStorageNode) {
		return
	}
	for _, id := range sortedKeys(r.d.s.storage.arrays) {
		a := r.d.s.storage.arrays[id]
		if a.Owner == nil || a.fencing == nil {
			continue
		}
		f := &fencing{since: a.fencing.since, closed: maps.Clone(a.fencing.closed)}
		news, open := 0, 0
		for _, x := range r.d.s.legDisks(a) {
			if x.Data.Node == r.m.ID {
				news += r.fence(a, f, x)
			}
			if !r.d.s.closed(f, x) {
				open++
			}
		}
		if news > 0 && open == 0 {
			r.d.endOwner(a, events.ProofFenced)
		}
	}
}

// fence takes what is said of one leg into f, and counts what is new.
func (r *storageReported) fence(a *Array, f *fencing, x *Disk) (news int) {
	said, opened := events.Generation{}, false
	for _, e := range r.a.Exports {
		if e.Disk != x.ID || e.Generation.Compare(f.since) < 0 || e.Generation.Term != r.d.s.term {
			continue // it speaks of the time before
		}
		said = e.Generation
		opened = opened || e.Array != a.ID || e.Epoch != a.Owner.Epoch || len(e.To) > 0
	}
	switch was := r.d.s.closed(f, x); {
	case said == (events.Generation{}):
	case opened && was:
		delete(f.closed, x.ID)
		r.d.add(events.KindArray, string(a.ID), events.ArrayLegUnfenced{Epoch: a.Owner.Epoch, Disk: x.ID, Node: r.m.ID})
	case !opened && !was:
		word := events.ArrayLegFenced{Epoch: a.Owner.Epoch, Disk: x.ID, Node: r.m.ID, Boot: r.a.Boot, Generation: said}
		f.closed[x.ID] = word
		r.d.add(events.KindArray, string(a.ID), word)
		return 1
	}
	return 0
}

// bootedAnew takes back what an earlier boot of a storage node has said, for its new boot must say it again; of a proxy that was fenced off
// nothing is left.
func (d *decision) bootedAnew(m *Machine) {
	for _, id := range sortedKeys(d.s.storage.arrays) {
		a := d.s.storage.arrays[id]
		if o, ok := a.fenced[m.ID]; ok {
			d.add(events.KindArray, string(a.ID), events.ArrayFencedOwnerGone{Proxy: o.Proxy, Boot: o.Boot, Epoch: o.Epoch})
		}
		if a.Owner == nil || a.fencing == nil {
			continue
		}
		for _, disk := range sortedKeys(a.fencing.closed) {
			if a.fencing.closed[disk].Node == m.ID {
				d.add(events.KindArray, string(a.ID), events.ArrayLegUnfenced{Epoch: a.Owner.Epoch, Disk: disk, Node: m.ID})
			}
		}
	}
}

// cannotTake says why a machine cannot own an array now, or nothing. A boot from which the array was taken by fencing may have it running
// still, with writes that wait: they would land when the legs are opened to it again.
func (s *State) cannotTake(x *Array, m *Machine) string {
	if why := s.cannotOwn(m); why != "" {
		return why
	}
	if x.holds(m) {
		return "the array was fenced off from this boot, which has not said that it has given it up"
	}
	return ""
}

// holds says whether the array was fenced off from a machine's present boot, and nothing says that it has given it up.
func (a *Array) holds(m *Machine) bool {
	o, ok := a.fenced[m.ID]
	return ok && o.Boot == m.Boot && !m.BootOver
}

// held names a proxy that may have the array running still, or nothing.
func (s *State) held(a *Array) string {
	for _, id := range sortedKeys(a.fenced) {
		if m, ok := s.machines[id]; ok && a.holds(m) {
			return m.Name
		}
	}
	return ""
}

// fenced takes what a proxy says of an array that was fenced off from this boot of it. It is expected to wake up as it was.
func (r *storageReported) fenced(have *Array, x events.ArrayReport) bool {
	o, ok := have.fenced[r.m.ID]
	if !ok || o.Boot != r.a.Boot {
		return false
	}
	given := x.State == events.ArrayStandby || x.State == events.ArrayAbsent
	if given && x.Generation.Compare(o.Revoked) >= 0 { // it obeys the document that told it to, as at a clean end
		r.d.add(events.KindArray, string(have.ID), events.ArrayFencedOwnerGone{Proxy: r.m.ID, Boot: o.Boot, Epoch: o.Epoch})
	}
	return x.Epoch == o.Epoch
}

func (a *Array) foldFencing(e events.Event, r events.Recorded) {
	switch data := e.Data.(type) {
	case events.ArrayFencingBegan:
		a.fencing = &fencing{since: events.Generation{Term: r.Term, Number: r.Number}, closed: map[events.DiskID]events.ArrayLegFenced{}}
		if data.To != "" {
			a.next = data.To
		}
	case events.ArrayLegFenced:
		if a.fencing != nil {
			a.fencing.closed[data.Disk] = data
		}
	case events.ArrayLegUnfenced:
		if a.fencing != nil {
			delete(a.fencing.closed, data.Disk)
		}
	case events.ArrayFencedOwnerGone:
		delete(a.fenced, data.Proxy)
	case events.ArrayOwnerEnded:
		if a.fencing = nil; data.Proof == events.ProofFenced && a.Owner != nil {
			if a.fenced == nil {
				a.fenced = map[events.MachineID]Owner{}
			}
			a.fenced[data.Proxy] = *a.Owner
		}
	}
}

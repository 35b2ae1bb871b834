package host

import (
	"slices"
	"sort"

	"cloudengine/events"
)

// family is what was seen that belongs to one VM, sorted by what may be done with it.
type family struct {
	current    *Domain // the one domain of the grant
	stamp      Stamp   // its stamp
	stale      []Domain
	unfinished []Domain // ours, paused, without a stamp, never ran: a start that was cut off
	half       []Domain // ours, not running, and xenstore has no name for it: a destroy that was cut off
	adoptee    *Domain
	twins      []Domain // without a stamp, made by someone else from what this VM has adopted, beside its own domain
	dying      bool     // one is on its way out: wait
	foreign    []Domain // of this VM and not ours to touch: without a stamp though it ran, of another boot, or of a later epoch
	ended      []Stamp  // stamps of this boot whose domain is gone
}

// empty says whether the VM has no domain at all.
func (f family) empty() bool {
	return f.current == nil && len(f.stale)+len(f.unfinished)+len(f.half)+len(f.foreign) == 0 && !f.dying && f.adoptee == nil
}

// quiet says whether all that is there is known and stays.
func (f family) quiet() bool { return !f.dying && len(f.foreign) == 0 }

// stampOf finds the valid stamp of a domain.
func (o Observed) stampOf(d Domain) (Stamp, bool) {
	i := sort.Search(len(o.Stamps), func(i int) bool { return o.Stamps[i].DomID >= d.DomID })
	if i < len(o.Stamps) && o.Stamps[i].DomID == d.DomID && o.Stamps[i].UUID == d.UUID {
		return o.Stamps[i], true
	}
	return Stamp{}, false
}

// index is what was seen, by VM: domains by their stamp or else their UUID, and stamps without a domain.
type index struct {
	domains map[events.VMID][]Domain
	byUUID  map[string][]Domain // without a stamp
	ended   map[events.VMID][]Stamp
	left    []int // domids of device models whose domain is gone
	seeds   map[events.VMID][]SeedDisk
}

func (o Observed) index() index {
	x := index{map[events.VMID][]Domain{}, map[string][]Domain{}, map[events.VMID][]Stamp{}, o.leftModels(), map[events.VMID][]SeedDisk{}}
	for _, s := range o.Seeds {
		if vm, ok := SeedVM(s.Name); ok {
			x.seeds[vm] = append(x.seeds[vm], s)
		}
	}
	there := map[int]string{}
	for _, d := range o.Domains {
		there[d.DomID] = d.UUID
		if s, ok := o.stampOf(d); ok {
			x.domains[s.VM] = append(x.domains[s.VM], d)
		} else {
			x.byUUID[d.UUID] = append(x.byUUID[d.UUID], d)
		}
	}
	for _, s := range o.Stamps {
		if s.Boot == o.Boot && there[s.DomID] != s.UUID {
			x.ended[s.VM] = append(x.ended[s.VM], s)
		}
	}
	return x
}

// noName is what xl prints for a domain that has no name in xenstore.
const noName = "(null)"

// familyOf sorts what belongs to the VM of w.
func (o Observed) familyOf(w Wish, x index) family {
	f := family{ended: x.ended[w.VM]}
	for _, d := range x.domains[w.VM] {
		s, _ := o.stampOf(d)
		c := s.Epoch.Compare(w.Epoch)
		switch {
		case d.State == events.DomainDying:
			f.dying = true
		case d.Name == noName && d.State != events.DomainRunning && c <= 0 && s.Boot == o.Boot:
			f.half = append(f.half, d)
		case c < 0:
			f.stale = append(f.stale, d)
		case c > 0 || s.Boot != o.Boot:
			f.foreign = append(f.foreign, d)
		case f.current == nil:
			f.current, f.stamp = &d, s
		case f.current.State != events.DomainRunning && d.State == events.DomainRunning:
			f.stale = append(f.stale, *f.current) // two for one grant cannot be; the one that runs stays
			f.current, f.stamp = &d, s
		default:
			f.stale = append(f.stale, d)
		}
	}
	for _, d := range x.byUUID[string(w.VM)] {
		switch {
		case d.State == events.DomainDying:
			f.dying = true
		case d.State == events.DomainPaused && !d.Ran && string(w.VM) != w.Adopt:
			f.unfinished = append(f.unfinished, d)
		case string(w.VM) != w.Adopt:
			f.foreign = append(f.foreign, d)
		}
	}
	f.adopt(w, x, o)
	for _, s := range f.ended { // a device model may still write for a domain that is gone
		f.dying = f.dying || slices.Contains(x.left, s.DomID)
	}
	return f
}

// adopt finds the domain without a stamp that a human gave to this VM.
func (f *family) adopt(w Wish, x index, o Observed) {
	if w.Adopt == "" {
		return
	}
	if f.current != nil { // it was taken over, or is made again since
		f.twins = x.byUUID[w.Adopt]
		return
	}
	for _, d := range o.Domains {
		if s, ok := o.stampOf(d); ok && d.UUID == w.Adopt && s.VM != w.VM {
			f.foreign = append(f.foreign, d) // it bears another VM's stamp, and so cannot be adopted
		}
	}
	for _, d := range x.byUUID[w.Adopt] {
		if d.State == events.DomainDying {
			f.dying = true
		} else if f.adoptee == nil {
			f.adoptee = &d
		} else {
			f.foreign = append(f.foreign, d)
		}
	}
}

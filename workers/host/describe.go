package host

import (
	"sort"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// Describe says what is reported of what was seen: the domains, and the ends of grants that nothing here can undo. Objects whose
// steps are under way, and starts that were cut off before the first instruction, are left out.
func Describe(wishes []Wish, seen Observed, busy map[events.Ref]bool) workers.Snapshot {
	x := seen.index()
	hidden, stale := map[int]bool{}, map[int]bool{}
	var snap workers.Snapshot
	for _, w := range wishes {
		f := seen.familyOf(w, x)
		for _, d := range f.stale {
			stale[d.DomID] = true
		}
		for _, d := range f.unfinished {
			hidden[d.DomID] = true
		}
		if !busy[w.object()] {
			snap.Ended = append(snap.Ended, ends(w, f, seen)...)
		}
	}
	for _, d := range seen.Domains {
		r := reportOf(d, seen)
		r.Stale = stale[d.DomID]
		vm := r.VM
		if !r.Stamped {
			vm = events.VMID(d.UUID)
		}
		if hidden[d.DomID] || busy[events.Ref{Kind: desired.KindDomain, ID: string(vm)}] && !r.Stale {
			continue
		}
		snap.Domains = append(snap.Domains, r)
	}
	return snap
}

func reportOf(d Domain, seen Observed) events.DomainReport {
	r := events.DomainReport{
		UUID: d.UUID, DomID: d.DomID, Name: d.Name, State: d.State, ShutdownReason: d.ShutdownReason,
		MemoryMiB: d.MemoryMiB, VCPUs: d.VCPUs, Weight: d.Weight,
	}
	if s, ok := seen.stampOf(d); ok {
		r.Stamped, r.VM, r.Epoch, r.Boot, r.Restarts, r.Resizes = true, s.VM, s.Epoch, s.Boot, s.Restarts, s.Resizes
		r.MemoryMiB = d.seenMiB(s)
		if seen.lostModel(d, s) {
			r.State, r.ShutdownReason = events.DomainCrashed, "device_model"
		}
	}
	return r
}

// ends lists the ends of one VM's grants that are due. What was answered already is left out.
func ends(w Wish, f family, seen Observed) []events.DomainEnded {
	var out []events.DomainEnded
	over := w.wantsEnd() && f.empty() && !w.Epoch.IsZero()
	told := false
	for _, s := range f.ended {
		c := s.Epoch.Compare(w.Epoch)
		if c < 0 && f.quiet() && !hasEpoch(f.stale, seen, s.Epoch) && !hasEpoch(f.half, seen, s.Epoch) || c == 0 && over {
			out = append(out, ended(w, s))
			told = told || c == 0
		}
	}
	if over && !told {
		out = append(out, events.DomainEnded{VM: w.VM, Epoch: w.Epoch, Generation: w.Generation, How: events.EndedAbsent})
	}
	kept := out[:0]
	for _, e := range out {
		if !seen.Answered[workers.KeyOf(e)] && !contains(kept, e) {
			kept = append(kept, e)
		}
	}
	sort.SliceStable(kept, func(i, j int) bool { return kept[i].Epoch.Compare(kept[j].Epoch) < 0 })
	return kept
}

// ended is what a stamp whose domain is gone says. A stamp that was not marked belonged to a domain that someone else destroyed.
func ended(w Wish, s Stamp) events.DomainEnded {
	how := s.How
	if how == "" {
		how = events.EndedDestroyed
	}
	return events.DomainEnded{VM: w.VM, Epoch: s.Epoch, Generation: w.Generation, How: how}
}

func hasEpoch(domains []Domain, seen Observed, e events.Epoch) bool {
	for _, d := range domains {
		if s, ok := seen.stampOf(d); ok && s.Epoch == e {
			return true
		}
	}
	return false
}

func contains(list []events.DomainEnded, e events.DomainEnded) bool {
	for _, x := range list {
		if workers.KeyOf(x) == workers.KeyOf(e) {
			return true
		}
	}
	return false
}

package md

import (
	"fmt"
	"slices"
	"strings"
)

// Wanted is what an array must be.
type Wanted struct {
	UUID      string
	RaidDisks int
	Copies    int // of each chunk; slots copies*i … copies*i+copies-1 are a set: they hold the same data
	ChunkKiB  int
	MinEvents uint64 // the event count was at least this
}

// layout gives md's number of the near layout: near copies, and one far copy.
func layout(copies int) int { return copies | 1<<8 }

// Candidate is a device that shall be in a slot, and what is on it.
type Candidate struct {
	Slot  int
	Dev   string // kernel name, as sda
	Super *Super // nil: none
}

// Left is a candidate that is not assembled, and why.
type Left struct {
	Candidate
	Why string
}

// Refusal says why an array is not assembled. Waiting may help only if Wait is set: another leg may come.
type Refusal struct {
	Why  string
	Wait bool
}

// Error gives the reason.
func (r *Refusal) Error() string { return r.Why }

// Choose picks the members that may be assembled: the freshest ones, as the freshest superblock itself sees them. Pure.
//
// It refuses an array whose best superblock is older than what is known of it; one of which some set has no complete member; one whose
// superblocks contradict each other (a split); and one that is not built as wanted. Left out, and not an error, is a device without a
// superblock or with one of another array, one that is older, and one that the freshest does not have in its slot. The kernel would take
// some of those: up to 6.7 it believes what each member says of itself.
//
// Two candidates may be of one slot: a leg, and the disk that replaces it. Both are members only while the leg is a good one and the other is
// being filled, by its own superblock: it holds no data that counts then. Once it is full, the superblocks that say so have the leg as failed.
func Choose(w Wanted, all []Candidate) (members []Candidate, left []Left, refused error) {
	var ours []Candidate
	for _, c := range all {
		if why := foreign(w, c); why != "" {
			left = append(left, Left{c, why})
			continue
		}
		if err := misbuilt(w, c); err != nil {
			return nil, nil, err
		}
		ours = append(ours, c)
	}
	best := freshest(ours)
	if best == nil {
		return nil, left, &Refusal{"no leg with a superblock of this array is there", true}
	}
	if best.Super.Events < w.MinEvents {
		return nil, left, &Refusal{fmt.Sprintf("the best leg has event count %d: %d was seen", best.Super.Events, w.MinEvents), true}
	}
	for _, c := range ours {
		if why := unfit(c, *best); why != "" {
			left = append(left, Left{c, why})
			continue
		}
		members = append(members, c)
	}
	members, left = filled(members, left)
	if err := twice(members); err != nil {
		return nil, left, err
	}
	if err := split(w, *best, members, left); err != nil {
		return nil, left, err
	}
	if missing := uncovered(w, members); len(missing) > 0 {
		return nil, left, &Refusal{"no complete copy of set " + strings.Join(missing, ", ") + " is there", true}
	}
	return members, left, nil
}

func foreign(w Wanted, c Candidate) string {
	switch {
	case c.Super == nil:
		return "it has no superblock"
	case c.Super.UUID != w.UUID:
		return "it is a member of another array, " + c.Super.UUID
	}
	return ""
}

func misbuilt(w Wanted, c Candidate) error {
	s := c.Super
	switch {
	case s.Level != 10 || s.Layout != layout(w.Copies) || s.RaidDisks != w.RaidDisks || s.ChunkKiB != w.ChunkKiB || s.Features&featureReshape != 0:
		return &Refusal{Why: fmt.Sprintf("leg %d says level %d, layout %d, %d members, chunks of %d KiB: that is another array than is wanted",
			c.Slot, s.Level, s.Layout, s.RaidDisks, s.ChunkKiB)}
	case s.Slot() >= 0 && s.Slot() != c.Slot && s.Features&featureReplacement == 0:
		return &Refusal{Why: fmt.Sprintf("leg %d says that it is in slot %d", c.Slot, s.Slot())}
	}
	return nil
}

// freshest gives the member with the highest event count, of those that believe to be one. The one that has just followed another is one.
func freshest(all []Candidate) *Candidate {
	var best *Candidate
	for i, c := range all {
		if c.Super.Slot() >= 0 && !c.Super.Filling() && (best == nil || c.Super.Events > best.Super.Events) {
			best = &all[i]
		}
	}
	return best
}

// unfit says why a member is left out. One event of difference is what a crash between the writes of two superblocks leaves.
func unfit(c, best Candidate) string {
	switch {
	case c.Super.Slot() < 0:
		return "it is a spare"
	case c.Super.Events+1 < best.Super.Events:
		return fmt.Sprintf("it is older: event count %d, the best has %d", c.Super.Events, best.Super.Events)
	case best.Super.SlotOf(c.Super.DevNumber) != c.Slot:
		return "the best leg has it as failed"
	}
	return ""
}

// filled leaves out what is being filled in the place of a leg that is not assembled: what it has is not complete, and it begins again as any
// new disk.
func filled(members []Candidate, left []Left) ([]Candidate, []Left) {
	var out []Candidate
	for _, c := range members {
		if c.Super.Filling() && !slices.ContainsFunc(members, func(m Candidate) bool { return m.Slot == c.Slot && !m.Super.Filling() }) {
			left = append(left, Left{c, "it is not full yet, and the leg that it replaces is not there"})
			continue
		}
		out = append(out, c)
	}
	return out, left
}

// twice refuses two that both have the data of one slot, and two that are both filled for it: the superblocks of one array never say that.
func twice(members []Candidate) error {
	type place struct {
		slot    int
		filling bool
	}
	seen := map[place]string{}
	for _, m := range members {
		at := place{m.Slot, m.Super.Filling()}
		if other, ok := seen[at]; ok {
			return &Refusal{Why: fmt.Sprintf("%s and %s both are leg %d, by their superblocks. A human must choose", other, m.Dev, m.Slot)}
		}
		seen[at] = m.Dev
	}
	return nil
}

// split finds a leg that was, in its own eyes, the only good copy of its set when it was written last, and that is not assembled: if
// another one of the set is, then two wrote.
func split(w Wanted, best Candidate, members []Candidate, left []Left) error {
	for _, l := range left {
		if l.Super == nil || l.Super.UUID != w.UUID || l.Super.Slot() != l.Slot || !alone(w, *l.Super, l.Slot) {
			continue
		}
		if l.Super.Filling() || followed(l.Candidate, best) { // what is being filled was never the good copy
			continue
		}
		for _, m := range members {
			if m.Slot/w.Copies == l.Slot/w.Copies {
				return &Refusal{Why: fmt.Sprintf("legs %d and %d each say that the other failed: both were written. A human must choose", l.Slot, m.Slot)}
			}
		}
	}
	return nil
}

// followed says whether a leg was replaced under its own eyes: it had another device beside it, and the freshest has that one in its slot. md
// lets go of a leg only when the other has everything, so the leg was not written after it.
func followed(leg, best Candidate) bool {
	for n := range leg.Super.Roles {
		if n != leg.Super.DevNumber && leg.Super.SlotOf(n) == leg.Slot && best.Super.SlotOf(n) == leg.Slot {
			return best.Super.SlotOf(leg.Super.DevNumber) != leg.Slot
		}
	}
	return false
}

// alone says whether a superblock has all others of the set of a slot as failed.
func alone(w Wanted, s Super, slot int) bool {
	for i := slot / w.Copies * w.Copies; i < slot/w.Copies*w.Copies+w.Copies; i++ {
		if i != slot && s.Has(i) {
			return false
		}
	}
	return true
}

func uncovered(w Wanted, members []Candidate) []string {
	var out []string
	for set := range w.RaidDisks / w.Copies {
		found := false
		for _, m := range members {
			found = found || m.Slot/w.Copies == set && m.Super.Complete() && !m.Super.Filling()
		}
		if !found {
			out = append(out, fmt.Sprint(set))
		}
	}
	return out
}

// NeverRan says of the superblocks that were found whether all of them were written by a creation that was cut off: an array that ran has
// a higher event count.
func NeverRan(all []Candidate) bool {
	for _, c := range all {
		if c.Super != nil && c.Super.Events > 0 {
			return false
		}
	}
	return true
}

package proxy

import (
	"encoding/json"
	"errors"
	"fmt"

	"cloudengine/events"
	"cloudengine/workers/md"
)

// offsetKiB is where the data begins on each leg. The log counts on 32 MiB of each leg for md, which leaves as much for a later use.
const offsetKiB = 16 << 10

// order is what is to be brought up, as the parameters of a step hold it.
type order struct {
	Wanted  md.Wanted    `json:"wanted"`
	Legs    []orderLeg   `json:"legs"` // exactly these, by slot
	Spec    *md.Spec     `json:"spec,omitempty"`
	Epoch   events.Epoch `json:"epoch"`
	Sectors uint64       `json:"sectors"`
}

type orderLeg struct {
	Slot int    `json:"slot"`
	Dev  string `json:"dev"`
	NAA  string `json:"naa"`
}

// birth brings the array up: it makes it, if it never was, else it assembles it.
func (p *planner) birth() {
	v, w := p.v, p.v.wish
	if w.Transport == "" {
		return
	}
	if why := v.robbed(); why != "" {
		p.note("%s", why)
		return
	}
	hopeful := p.locks()
	all, missing := p.candidates()
	for _, m := range missing {
		p.note("%s", m)
	}
	if hopeful {
		return // what is on them can be read once they are ours
	}
	wanted := md.Wanted{UUID: string(v.id), RaidDisks: len(w.Legs), Copies: w.Copies, ChunkKiB: w.ChunkKiB,
		MinEvents: max(w.MinEvents, p.seen.Floor[v.id])}
	if w.Create && md.NeverRan(ofArray(all, v.id)) {
		all = all[:min(len(all), len(v.legs))] // what follows a leg has no part in a creation
		if len(missing) == 0 && p.mayOverwrite(all) {
			p.bringUp(stepCreate, order{Wanted: wanted, Legs: legsOf(v, all), Spec: p.spec(wanted, all), Epoch: w.Epoch, Sectors: w.Sectors})
		}
		return
	}
	members, left, err := md.Choose(wanted, all)
	for _, l := range left {
		p.note("leg %d is left out: %s", l.Slot, l.Why)
	}
	if err != nil {
		p.note("%v", err)
		return
	}
	if len(missing) > 0 && p.seen.Ages[ageActive(v.id, w.Epoch)] < patience {
		return
	}
	p.bringUp(stepAssemble, order{Wanted: wanted, Legs: legsOf(v, members), Epoch: w.Epoch, Sectors: w.Sectors})
}

func (p *planner) bringUp(kind string, o order) {
	body, err := json.Marshal(o)
	if err != nil {
		p.note("encode order: %v", err)
		return
	}
	p.do(kind, "the document says that it is ours", "order", string(body))
}

// candidates gives the legs that are reserved and can be read, and says of the others what keeps them away.
func (p *planner) candidates() (all []md.Candidate, missing []string) {
	for _, l := range p.v.disks() {
		switch {
		case l.lun == nil:
			missing = append(missing, fmt.Sprintf("leg %d on %s is not there", l.Slot, l.At.Machine))
		case l.lun.State != "" && l.lun.State != "running":
			missing = append(missing, fmt.Sprintf("leg %d on %s is %s", l.Slot, l.At.Machine, l.lun.State))
		case !p.v.ours(l):
			missing = append(missing, fmt.Sprintf("leg %d on %s: %s", l.Slot, l.At.Machine, p.unlockedWhy(l)))
		case l.super.Err == nil:
			s := l.super.Super
			all = append(all, md.Candidate{Slot: l.Slot, Dev: l.lun.Dev, Super: &s})
		case errors.Is(l.super.Err, md.ErrNoSuper), errors.Is(l.super.Err, md.ErrDamaged):
			all = append(all, md.Candidate{Slot: l.Slot, Dev: l.lun.Dev})
		default:
			missing = append(missing, fmt.Sprintf("leg %d on %s: %v", l.Slot, l.At.Machine, l.super.Err))
		}
	}
	return all, missing
}

func ofArray(all []md.Candidate, id events.ArrayID) []md.Candidate {
	var out []md.Candidate
	for _, c := range all {
		if c.Super != nil && c.Super.UUID == string(id) {
			out = append(out, c)
		}
	}
	return out
}

func legsOf(v view, members []md.Candidate) []orderLeg {
	var out []orderLeg
	for _, m := range members {
		out = append(out, orderLeg{m.Slot, m.Dev, v.leg(m.Dev).NAA})
	}
	return out
}

func (p *planner) spec(wanted md.Wanted, all []md.Candidate) *md.Spec {
	s := &md.Spec{Wanted: wanted, Name: p.v.wish.Name, LegKiB: p.v.wish.legKiB(), OffsetKiB: offsetKiB}
	for _, c := range all {
		s.Devs = append(s.Devs, c.Dev)
	}
	return s
}

// mayOverwrite says whether the legs may lose what is on them. The log has chosen them, and a human has agreed to lose what is not ours; but
// what belongs to an array that runs here is not lost.
func (p *planner) mayOverwrite(all []md.Candidate) bool {
	for _, c := range all {
		if lun := p.v.legs[c.Slot].lun; lun.Bytes>>10 < p.v.wish.legKiB()+offsetKiB {
			p.note("leg %d is too small: %d KiB", c.Slot, lun.Bytes>>10)
			return false
		}
		for _, a := range p.seen.MD {
			if a.Of(c.Dev) != nil || c.Super != nil && a.UUID == c.Super.UUID {
				p.note("leg %d belongs to array %s, which runs", c.Slot, a.ID)
				return false
			}
		}
	}
	return true
}

// members keeps md's members: what does not answer is failed, what is faulty removed, what came back joined.
func (p *planner) members() {
	a, before := p.v.arrays[0], len(p.steps)
	for _, m := range a.Members {
		switch {
		case m.Is("faulty"):
			p.do(stepRemove, "it is faulty", "md", a.Name, "dev", m.Dev)
		case a.SyncAction == md.ActionFrozen && m.Slot < 0 && !p.v.waits(m.Dev): // md would take it into any slot that is free
			p.do(stepRemove, "a join was cut off before it had a slot", "md", a.Name, "dev", m.Dev)
		case p.v.dead(m.Dev) && m.Slot >= 0 && a.Spare(m.Slot):
			p.do(stepFail, "it does not answer", "md", a.Name, "dev", m.Dev)
		case p.v.unlocked(m.Dev) && m.Slot >= 0 && (a.Spare(m.Slot) || a.InSlot(m.Slot).Dev != m.Dev):
			p.do(stepFail, "its reservation is lost", "md", a.Name, "dev", m.Dev)
		}
	}
	follows := p.replacements(a)
	for _, l := range p.v.legs {
		if a.InSlot(l.Slot) == nil && !follows[l.Slot] {
			p.rejoin(a, l)
		}
	}
	p.sync(a, len(p.steps) > before)
}

// waits says of a member without a slot that it is a leg that came back while the array was frozen: its superblock says which slot md gives it
// at the thaw. While that cannot be read it counts as one.
func (v view) waits(dev string) bool {
	l := v.leg(dev)
	return l != nil && (l.super.Err != nil && errors.Is(l.super.Err, errSlow) || l.super.Err == nil && l.super.UUID == string(v.id) && l.super.Slot() == l.Slot)
}

// rejoin puts a leg back whose slot is empty.
func (p *planner) rejoin(a MD, l legView) {
	switch {
	case l.lun == nil:
		p.note("leg %d on %s is not there", l.Slot, l.At.Machine)
	case l.lun.State != "" && l.lun.State != "running":
		p.note("leg %d on %s is %s", l.Slot, l.At.Machine, l.lun.State)
	case a.Of(l.lun.Dev) != nil: // it is being removed
	case !p.v.ours(l):
		p.note("leg %d on %s: %s", l.Slot, l.At.Machine, p.unlockedWhy(l))
	case l.super.Err == nil && l.super.UUID != string(p.v.id):
		p.note("leg %d is a member of another array, %s", l.Slot, l.super.UUID)
	case l.super.Err != nil && !errors.Is(l.super.Err, md.ErrNoSuper):
		p.note("leg %d: %v", l.Slot, l.super.Err)
	case a.Spare(l.Slot):
		p.do(stepJoin, "its slot is empty", "md", a.Name, "dev", l.lun.Dev, "naa", l.NAA, "slot", fmt.Sprint(l.Slot),
			"epoch", p.v.wish.Epoch.String())
	}
}

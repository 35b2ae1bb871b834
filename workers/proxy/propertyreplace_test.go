package proxy_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/md"
)

// replacing is what the plane's log knows of a leg that is being replaced.
type replacing struct {
	old, new         *disk
	slot             int
	since, cancelled events.Generation
	cancel           bool
}

func (p *plane) replacements() []desired.Replacement {
	r := p.replacing
	if r == nil {
		return nil
	}
	want := desired.There
	if r.cancel {
		want = desired.Absent
	}
	return []desired.Replacement{{Leg: r.new.leg(r.slot), Want: want}}
}

// replace begins a replacement, as the decider does: one at a time, of an active array, by a disk of the leg's node.
func (p *plane) replace(t *rapid.T) {
	r, ok := p.last[arrayID]
	if p.replacing != nil || p.want != desired.Active || !ok || r.State != events.ArrayActive || !p.made {
		return
	}
	n := rapid.IntRange(0, len(p.w.disks)-1).Draw(t, "leg")
	old := p.w.disks[n]
	i := slices.IndexFunc(p.w.disks, func(d *disk) bool { return d.spare && d.node == old.node })
	if old.spare || i < 0 {
		return
	}
	p.replacing = &replacing{old: old, new: p.w.disks[i], slot: old.slot}
	p.render()
	p.replacing.since = p.told
}

func (p *plane) cancel() {
	if p.replacing == nil || p.replacing.cancel {
		return
	}
	p.replacing.cancel = true
	p.render()
	p.replacing.cancelled = p.told
}

// legs takes what a report says of a replacement, as the decider does. The disk that is no leg any more is wiped.
func (p *plane) legs(t *rapid.T, r events.ArrayReport) {
	x := p.replacing
	if x == nil || r.State != events.ArrayActive || x.slot >= len(r.Disks) {
		return
	}
	in, beside := r.Disks[x.slot], func(d *disk) bool { return slices.Contains(r.Beside, d.id()) }
	gone := x.new
	switch {
	case r.Generation.Compare(x.since) >= 0 && in == x.new.id() && r.Legs[x.slot] == events.LegInSync && !beside(x.old):
		gone = x.old
		x.new.spare, x.new.slot, x.old.spare = false, x.slot, true
	case x.cancel && r.Generation.Compare(x.cancelled) >= 0 && in != x.new.id() && !beside(x.new):
	default:
		return
	}
	if gone == x.old {
		if s := x.new.super; s.Replaces() || !s.Complete() || s.Slot() != x.slot {
			t.Fatalf("disk %s is told as the leg, and its superblock says %+v", x.new.naa, s)
		}
		p.replaced++
	} else {
		p.ended++
	}
	for _, a := range p.w.arrays {
		if a.Of(dev(gone.naa)) != nil {
			t.Fatalf("disk %s is to be wiped, and md has it: %+v", gone.naa, a.Members)
		}
	}
	gone.super, p.replacing = nil, nil
	p.render()
}

// write is a customer's, while md is as the log knows: what is written between a loss and its report, the event counts cannot tell.
func (p *plane) write(r events.ArrayReport) {
	if r.State != events.ArrayActive || len(p.w.arrays) != 1 || len(r.Disks) == 0 {
		return
	}
	a := p.w.arrays[0]
	var members []*disk
	for slot, id := range r.Disks {
		m := a.InSlot(slot)
		if m == nil || !m.Is("in_sync") {
			if id != "" {
				return
			}
			continue
		}
		d := p.w.disk(m.Dev)
		if d.id() != id || !p.w.works(d) {
			return
		}
		members = append(members, d)
	}
	p.w.version++
	for _, d := range members {
		d.version = p.w.version
	}
}

// otherOwner is what md did on another proxy: all legs were there, and what was being filled went on.
func (p *plane) otherOwner() {
	var best *disk
	for _, d := range p.w.disks {
		if d.super != nil && !d.super.Filling() && (best == nil || d.super.Events > best.super.Events) {
			best = d
		}
	}
	for _, d := range p.w.disks {
		if !d.spare {
			p.w.takes(d, "p2", p.epoch)
		}
	}
	number := func(d *disk) int { return slices.Index(p.w.disks, d) }
	s := *best.super
	s.Roles = slices.Clone(s.Roles)
	s.Events += 10
	s.Features = 0
	for _, d := range p.w.disks {
		if !d.spare && !s.Has(d.slot) {
			s.Roles[number(d)] = uint16(d.slot)
			d.super = &md.Super{}
		}
	}
	for _, d := range p.w.disks {
		if d.super == nil || s.SlotOf(number(d)) < 0 {
			continue
		}
		features := d.super.Features
		x := s
		x.DevNumber = number(d)
		if d.super.Filling() {
			x.Features = features
		} else {
			d.version = p.w.version
		}
		d.super = &x
	}
	p.known = max(p.known, s.Events)
}

// TestAnyReplacement is TestAnyHistory of an array that runs, whose legs are replaced: at no time is a slot without a disk that has all that
// was written, or has two; what is told as a leg is one for who has the array next; and no disk that is wiped is in md.
func TestAnyReplacement(t *testing.T) {
	replaced, ended := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(2, 2)
		w.addSpare(0)
		w.addSpare(1)
		p := &plane{engine: newEngine(w), want: desired.Active, epoch: 1, ready: map[events.VolumeID]int{}}
		w.mayZero = p.mayZero
		p.render()
		p.settle(t)
		p.believe(t)
		for range rapid.IntRange(1, 25).Draw(t, "rounds") {
			w.looks = rapid.IntRange(4, 12).Draw(t, "looks")
			switch rapid.IntRange(0, 9).Draw(t, "change") {
			case 0, 1, 2, 3:
				p.replace(t)
			case 4:
				p.cancel()
			case 5:
				p.want, p.epoch, p.given = desired.Active, p.epoch+1, false
				p.render()
			default:
				p.change(t)
			}
			p.disturb(t)
			p.passes(t, 12)
		}
		replaced, ended = replaced+p.replaced, ended+p.ended
	})
	t.Logf("%d replaced, %d ended", replaced, ended)
	if replaced == 0 || ended == 0 {
		t.Fatalf("%d replaced, %d ended: too little happens", replaced, ended)
	}
}

package proxy

import (
	"strings"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// maxMessage bounds the message of a report, in bytes.
const maxMessage = 500

// Describe says what is reported of what was seen, by array. Pure.
//
// Standby and absent are said only of an array whose steps are not under way and of which the kernel has nothing that writes. An array whose
// document has no opinion is left out.
func Describe(wishes []Wish, seen Observed, busy map[events.Ref]bool) []events.ArrayReport {
	var out []events.ArrayReport
	for _, id := range seen.ids(wishes) {
		p := planFor(id, wishes, seen)
		w := p.v.wish
		r := events.ArrayReport{Array: id, State: events.ArrayWaiting}
		switch {
		case w == nil:
			if p.v.givenUp() {
				continue
			}
			r.Epoch = p.v.epoch()
		case w.Wrong != "":
			r.Epoch, r.Generation = w.Epoch, w.Generation
		case w.ends():
			if busy[w.object()] {
				continue
			}
			r.Epoch, r.Generation = w.Epoch, w.Generation
			r.State = p.v.atRest()
		case w.active():
			r.Epoch, r.Generation = w.Epoch, w.Generation
			p.owner(&r)
		default:
			continue
		}
		r.Message = clip(strings.Join(p.notes, "; "))
		out = append(out, r)
	}
	return out
}

// atRest says how far an array is given up.
func (v view) atRest() string {
	switch {
	case !v.givenUp():
		return events.ArrayWaiting
	case v.wish.Want == desired.Standby && v.export != nil:
		return events.ArrayStandby
	case v.wish.Want == desired.Absent && (v.export != nil || v.front != nil):
		return events.ArrayWaiting
	}
	return events.ArrayAbsent
}

func clip(s string) string {
	if len(s) > maxMessage {
		return strings.ToValidUTF8(s[:maxMessage], "")
	}
	return s
}

// owner fills in what an owner sees.
func (p *planner) owner(r *events.ArrayReport) {
	v := p.v
	r.Made = !v.wish.Create
	for _, l := range v.legs {
		r.Legs = append(r.Legs, v.absent(l))
	}
	if !v.owned() {
		return
	}
	a := v.arrays[0]
	if v.record != nil && v.record.Err == nil && v.record.Found {
		r.Made = true
	}
	switch {
	case p.broken:
		r.State = events.ArrayBroken
	case v.opened() && v.export != nil && v.export.State == ExportActive:
		r.State, r.Ready, r.Wiped, r.Failed, r.Fills = events.ArrayActive, p.ready, p.wiped, p.failed, p.fills
	}
	for i := range v.legs {
		r.Legs[i] = v.legState(a, i)
	}
	r.Degraded = a.Degraded
	r.Disks, r.Beside = v.members(a)
	v.describeSync(r, p.seen)
	var settled bool
	if r.Events, settled = v.events(); !settled {
		p.note("superblocks are being written")
	}
}

func (v view) legState(a MD, slot int) string {
	if m := a.InSlot(slot); m != nil {
		if m.Is("in_sync") {
			return events.LegInSync
		}
		return events.LegRecovering
	}
	if l := v.legs[slot]; l.lun != nil {
		if m := a.Of(l.lun.Dev); m != nil && m.Is("faulty") {
			return events.LegFaulty
		}
	}
	return v.absent(v.legs[slot])
}

// absent says of a leg that is not in the array why, as far as its reservation tells.
func (v view) absent(l legView) string {
	switch s, _ := v.standing(l); s {
	case lockNone:
		return events.LegNoReservations
	case lockTaken:
		return events.LegReserved
	}
	return events.LegMissing
}

// events gives a lower bound of md's event count for all time to come, and whether the superblocks tell of all that md's state does.
//
// A member that is lost must never be taken for a good one later, so the count that is told with the loss must be higher than the lost
// member's: it is told from a superblock that knows of the loss. Otherwise md may take one event back when the array becomes clean
// (md_update_sb in drivers/md/md.c), and one less is told: also while md's state lacks members, as the superblock, which is read later, may be of
// after they were filled.
func (v view) events() (n uint64, settled bool) {
	a := v.arrays[0]
	for _, l := range v.disks() {
		if m := a.InSlot(l.Slot); m == nil || !m.Is("in_sync") || l.lun == nil || m.Dev != l.lun.Dev || l.super.Err != nil || l.super.UUID != string(v.id) {
			continue
		}
		full := true
		for slot := range a.RaidDisks {
			has := l.super.Has(slot)
			if a.InSlot(slot) == nil && has {
				return 0, false
			}
			full = full && has
		}
		least := l.super.Events
		if full && least > 0 {
			least--
		}
		n, settled = max(n, least), true
	}
	return n, settled
}

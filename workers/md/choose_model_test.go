package md

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// disks is a model of an array's disks over time: what md writes into their superblocks, and which write of its set each of them has. The first
// four are its legs, by slot; the others replace a leg. A device's number is its index.
type disks struct {
	disk    [6]Super
	slot    [6]int
	has     [6]int    // the last write of its set that a disk has; -1: not all of it
	state   [6]string // while it runs: in, filling, full (in, and md still calls it a replacement); empty: no member
	gone    [6]bool   // the log has it no more, or not yet
	acked   [2]int    // by set
	running bool
	events  uint64
	known   uint64 // the event count that the log knows
}

func newDisks() *disks {
	d := &disks{events: 1, running: true, slot: [6]int{0, 1, 2, 3, 0, 2}, gone: [6]bool{4: true, 5: true}}
	for i := range d.disk {
		d.disk[i] = *leg(d.slot[i], 0).Super
		d.disk[i].DevNumber = i
		if i < 4 {
			d.state[i] = "in"
		}
	}
	d.write()
	return d
}

// data says whether a disk is the one in its slot that counts.
func (d *disks) data(i int) bool { return d.state[i] == "in" || d.state[i] == "full" }

// in gives the disk with the data of a slot, or -1.
func (d *disks) in(slot int) int {
	for i := range d.disk {
		if d.slot[i] == slot && d.data(i) {
			return i
		}
	}
	return -1
}

// write updates the superblocks of members, as md_update_sb does.
func (d *disks) write() {
	d.events++
	var roles []uint16
	for i := range d.disk {
		if d.state[i] != "" {
			roles = append(roles, uint16(d.slot[i]))
		} else {
			roles = append(roles, roleFaulty)
		}
	}
	for i := range d.disk {
		if d.state[i] == "" {
			continue
		}
		d.disk[i].Events, d.disk[i].Roles = d.events, roles
		d.disk[i].Features = map[string]uint32{"filling": featureReplacement | featureRecovery, "full": featureReplacement}[d.state[i]]
	}
}

func (d *disks) degraded() bool {
	for slot := range 4 {
		if d.in(slot) < 0 {
			return true
		}
	}
	return false
}

// report tells the event count as workers/proxy does: one less while all are there, as it may fall by one then. And it tells which disks are
// in their slots for good: the log forgets the legs that they have followed.
func (d *disks) report() {
	n := d.events
	if !d.degraded() {
		n--
	}
	d.known = max(d.known, n)
	for i := 4; i < 6; i++ {
		if old := d.slot[i]; !d.gone[i] && d.state[i] == "in" && d.state[old] == "" {
			d.gone[old] = true
		}
	}
}

func (d *disks) step(t *rapid.T) {
	i := rapid.IntRange(0, 5).Draw(t, "disk")
	peer := d.in(d.slot[i] ^ 1)
	old := d.in(d.slot[i])
	switch rapid.SampledFrom([]string{"data", "data", "fail", "return", "dirty", "crash", "half", "replace", "replace", "full", "full", "cleared", "report"}).Draw(t, "what") {
	case "data":
		set := d.slot[i] / 2
		d.acked[set]++
		for j := range d.disk {
			if d.slot[j]/2 == set && d.data(j) {
				d.has[j] = d.acked[set]
			}
		}
	case "fail":
		if d.state[i] == "filling" || d.data(i) && peer >= 0 {
			d.state[i] = ""
			d.promote(d.slot[i])
			d.write()
			d.report()
		}
	case "return":
		if d.state[i] == "" && old < 0 && peer >= 0 && !d.gone[i] && d.disk[i].Events <= d.events {
			d.state[i], d.has[i] = "in", d.acked[d.slot[i]/2]
			d.write()
			d.report()
		}
	case "replace":
		if i >= 4 && d.state[i] == "" && old >= 0 && old < 4 {
			d.gone[i], d.state[i], d.has[i] = false, "filling", -1
			d.write()
		}
	case "full":
		d.full(i)
		d.write()
	case "cleared":
		if d.state[i] == "full" {
			d.state[i] = "in"
			d.write()
			d.report()
		}
	case "dirty":
		d.write()
	case "report":
		d.report()
	case "crash":
		d.running = false
	case "half": // a crash while superblocks are written, when the array becomes dirty or a disk is full
		was := d.disk
		if rapid.Bool().Draw(t, "full") && peer >= 0 { // in a set with one copy: see TestTornWhileTheOnlyCopyIsFollowed
			d.full(i)
		}
		d.write()
		for j := range d.disk {
			if d.state[j] != "" && rapid.Bool().Draw(t, "late") {
				d.disk[j] = was[j]
			}
		}
		d.running = false
	}
}

// full: a disk has everything, and md does without the one that it replaces, in the same update of the superblocks.
func (d *disks) full(i int) {
	if old := d.in(d.slot[i]); d.state[i] == "filling" && old >= 0 {
		d.state[i], d.state[old], d.has[i] = "full", "", d.acked[d.slot[i]/2]
	}
}

// promote: what is filled beside a leg that failed goes on as any leg that is filled; the model says at once.
func (d *disks) promote(slot int) {
	for i := range d.disk {
		if d.slot[i] == slot && d.state[i] == "filling" && d.in(slot) < 0 {
			d.state[i], d.has[i] = "in", d.acked[slot/2]
		}
	}
}

// assemble lets some disks be seen.
func (d *disks) assemble(t *rapid.T) {
	var seen []Candidate
	all := true
	for i := range d.disk {
		if d.gone[i] {
			continue
		}
		if rapid.IntRange(0, 3).Draw(t, "seen") == 0 {
			all = false
			continue
		}
		s := d.disk[i]
		seen = append(seen, Candidate{Slot: d.slot[i], Dev: fmt.Sprint("sd", i), Super: &s})
	}
	w := wanted
	w.MinEvents = d.known
	members, _, err := Choose(w, seen)
	if err != nil {
		var r *Refusal
		if !errors.As(err, &r) || !r.Wait && !beside(seen) {
			t.Fatalf("one array, never two writers, and: %v", err)
		}
		if all && r.Wait {
			t.Fatalf("all disks are there, and: %v", err)
		}
		return
	}
	d.state = [6]string{}
	for _, m := range members {
		i := m.Super.DevNumber
		if m.Super.Filling() {
			d.state[i] = "filling"
			continue
		}
		if other := d.in(m.Slot); other >= 0 {
			t.Fatalf("disks %d and %d both have slot %d", other, i, m.Slot)
		}
		if d.has[i] != d.acked[m.Slot/2] {
			t.Fatalf("disk %d has write %d of its set, %d was acknowledged", i, d.has[i], d.acked[m.Slot/2])
		}
		d.state[i] = "in"
		d.events = max(d.events, m.Super.Events)
	}
	for i := range d.disk {
		if d.state[i] == "filling" && d.in(d.slot[i]) < 0 {
			t.Fatalf("disk %d is filled beside nothing", i)
		}
	}
	d.running = true
	d.write()
	d.report()
}

// beside says whether some leg was, in its own eyes, the only copy of its set and being replaced when it was written last. When the disk that has
// followed it is lost again before the log knows of it, that cannot be told from a split: a human is asked once too often, and nothing is lost.
func beside(seen []Candidate) bool {
	for _, c := range seen {
		for n := range c.Super.Roles {
			if n != c.Super.DevNumber && c.Super.SlotOf(n) == c.Slot && alone(wanted, *c.Super, c.Slot) {
				return true
			}
		}
	}
	return false
}

// TestNoAcknowledgedWriteIsLost: whatever fails, returns, is replaced, crashes and is missing, an array that is assembled has all that was
// acknowledged, on each disk that counts; it is assembled if all disks are there; and no slot has two that count.
func TestNoAcknowledgedWriteIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDisks()
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			if d.running {
				d.step(t)
			} else {
				d.assemble(t)
			}
		}
	})
}

// TestTornWhileTheOnlyCopyIsFollowed: of a set with one copy, that is replaced, one superblock says that the new disk has followed it, and its own
// does not yet. Nobody can tell whether the old one has all writes, nor whether the new one is full: a human must look. With another copy in
// the set that one has everything.
func TestTornWhileTheOnlyCopyIsFollowed(t *testing.T) {
	torn := []Candidate{leg(0, 12, sees(1, roleFaulty), knows), fresh(4, 12, filling, sees(1, roleFaulty)), leg(2, 13, sees(1, roleFaulty), gone, knows)}
	if _, _, err := Choose(wanted, torn); err == nil || !strings.Contains(err.Error(), "no complete copy of set 0") {
		t.Errorf("torn: %v", err)
	}
	whole := []Candidate{leg(0, 12, knows), fresh(4, 12, filling), leg(1, 12, knows), leg(2, 13, gone, knows)}
	if members, _, err := Choose(wanted, whole); err != nil || len(members) != 2 {
		t.Errorf("with another copy: %+v, %v", members, err)
	}
}

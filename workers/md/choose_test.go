package md

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var wanted = Wanted{UUID: arrayID, RaidDisks: 4, Copies: 2, ChunkKiB: 64, MinEvents: 10}

// leg gives a healthy member of wanted.
func leg(slot int, events uint64, change ...func(*Super)) Candidate {
	s := &Super{UUID: arrayID, Level: 10, Layout: 258, ChunkKiB: 64, RaidDisks: 4, Events: events, DevNumber: slot, Roles: []uint16{0, 1, 2, 3}}
	for _, c := range change {
		c(s)
	}
	return Candidate{Slot: slot, Dev: fmt.Sprintf("sd%c", 'a'+slot), Super: s}
}

func sees(number int, role uint16) func(*Super) {
	return func(s *Super) { s.Roles = slices.Clone(s.Roles); s.Roles[number] = role }
}

func TestChoose(t *testing.T) {
	foreign := func(s *Super) { s.UUID = "ff112233-4455-6677-8899-aabbccddeeff" }
	recovering := func(s *Super) { s.Features |= featureRecovery }
	for _, x := range []struct {
		name    string
		legs    []Candidate
		members string // slots
		refused string
	}{
		{"all", []Candidate{leg(0, 12), leg(1, 12), leg(2, 12), leg(3, 12)}, "0123", ""},
		{"half", []Candidate{leg(1, 12), leg(2, 12)}, "12", ""},
		{"a set is missing", []Candidate{leg(0, 12), leg(1, 12)}, "", "no complete copy of set 1"},
		{"nothing", nil, "", "no leg"},
		{"blank ones only", []Candidate{{Slot: 0, Dev: "sda"}}, "", "no leg"},
		{"older than known", []Candidate{leg(0, 9), leg(1, 9), leg(2, 9), leg(3, 9)}, "", "event count 9: 10 was seen"},
		{"a crash between two writes", []Candidate{leg(0, 12), leg(1, 13), leg(2, 13), leg(3, 12)}, "0123", ""},
		{"one is older", []Candidate{leg(0, 12), leg(1, 14, sees(0, roleFaulty)), leg(2, 14), leg(3, 14)}, "123", ""},
		{"one is a bit older, and was failed", []Candidate{leg(0, 13), leg(1, 14, sees(0, roleFaulty)), leg(2, 14, sees(0, roleFaulty))}, "12", ""},
		{"a foreign one", []Candidate{leg(0, 12, foreign), leg(1, 12), leg(2, 12), leg(3, 12)}, "123", ""},
		{"a foreign one that is needed", []Candidate{leg(0, 12, foreign), leg(2, 12), leg(3, 12)}, "", "no complete copy of set 0"},
		{"a blank one", []Candidate{{Slot: 0, Dev: "sda"}, leg(1, 12), leg(2, 12), leg(3, 12)}, "123", ""},
		{"a recovering one", []Candidate{leg(0, 12, recovering), leg(1, 12), leg(2, 12)}, "012", ""},
		{"only a recovering one", []Candidate{leg(0, 12, recovering), leg(2, 12)}, "", "no complete copy of set 0"},
		{"another slot", []Candidate{leg(0, 12, func(s *Super) { s.DevNumber = 1 }), leg(2, 12)}, "", "says that it is in slot 1"},
		{"a spare", []Candidate{leg(0, 12, sees(0, roleSpare)), leg(1, 12), leg(2, 12)}, "12", ""},
		{"another geometry", []Candidate{leg(0, 12, func(s *Super) { s.Layout = 259 }), leg(1, 12), leg(2, 12)}, "", "another array than is wanted"},
		{"a split", []Candidate{leg(0, 45, sees(1, roleFaulty)), leg(1, 37, sees(0, roleFaulty)), leg(2, 45, sees(1, roleFaulty)), leg(3, 37, sees(0, roleFaulty))}, "",
			"each say that the other failed"},
		{"one that was failed twice in turns", []Candidate{leg(0, 50, sees(1, roleFaulty)), leg(1, 30, sees(2, roleFaulty)), leg(2, 50, sees(1, roleFaulty)),
			leg(3, 50, sees(1, roleFaulty))}, "023", ""},
	} {
		members, _, err := Choose(wanted, x.legs)
		got := ""
		for _, m := range members {
			got += fmt.Sprint(m.Slot)
		}
		if got != x.members || (err == nil) != (x.refused == "") || err != nil && !strings.Contains(err.Error(), x.refused) {
			t.Errorf("%s: members %q, %v", x.name, got, err)
		}
	}
}

// disks is a model of an array's legs over time: what md writes into their superblocks, and which write of each set they have.
type disks struct {
	legs    [4]Super
	has     [4]int // the last write of its set that a leg has
	acked   [2]int // by set
	running bool
	member  [4]bool // in sync, while it runs
	events  uint64
	known   uint64 // the event count that the log knows
}

func newDisks() *disks {
	d := &disks{events: 1, running: true, member: [4]bool{true, true, true, true}}
	for i := range d.legs {
		d.legs[i] = *leg(i, 0).Super
	}
	d.write()
	return d
}

// write updates the superblocks of members, as md_update_sb does.
func (d *disks) write() {
	d.events++
	var roles []uint16
	for i := range d.legs {
		if d.member[i] {
			roles = append(roles, uint16(i))
		} else {
			roles = append(roles, roleFaulty)
		}
	}
	for i := range d.legs {
		if d.member[i] {
			d.legs[i].Events, d.legs[i].Roles = d.events, roles
		}
	}
}

func (d *disks) degraded() bool { return d.member != [4]bool{true, true, true, true} }

// report tells the event count as workers/proxy does: one less while all are there, as it may fall by one then.
func (d *disks) report() {
	n := d.events
	if !d.degraded() {
		n--
	}
	d.known = max(d.known, n)
}

func (d *disks) step(t *rapid.T) {
	i := rapid.IntRange(0, 3).Draw(t, "leg")
	switch rapid.SampledFrom([]string{"data", "data", "fail", "return", "dirty", "crash", "half"}).Draw(t, "what") {
	case "data":
		d.acked[i/2]++
		for j := i / 2 * 2; j < i/2*2+2; j++ {
			if d.member[j] {
				d.has[j] = d.acked[i/2]
			}
		}
	case "fail":
		if d.member[i] && d.member[i^1] {
			d.member[i] = false
			d.write()
			d.report()
		}
	case "return":
		if !d.member[i] && d.legs[i].Events <= d.events {
			d.member[i], d.has[i] = true, d.acked[i/2]
			d.write()
			d.report()
		}
	case "dirty":
		d.write()
	case "crash":
		d.running = false
	case "half": // a crash while superblocks are written, of a clean array that becomes dirty
		old := d.legs[i]
		d.write()
		if d.member[i] {
			d.legs[i] = old
		}
		d.running = false
	}
}

// assemble lets some legs be seen.
func (d *disks) assemble(t *rapid.T) {
	var seen []Candidate
	for i := range d.legs {
		if rapid.IntRange(0, 3).Draw(t, "seen") > 0 {
			s := d.legs[i]
			seen = append(seen, Candidate{Slot: i, Dev: fmt.Sprint("sd", i), Super: &s})
		}
	}
	w := wanted
	w.MinEvents = d.known
	members, _, err := Choose(w, seen)
	if err != nil {
		var r *Refusal
		if !errors.As(err, &r) || !r.Wait {
			t.Fatalf("one array, never two writers, and: %v", err)
		}
		if len(seen) == 4 {
			t.Fatalf("all legs are there, and: %v", err)
		}
		return
	}
	d.member = [4]bool{}
	for _, m := range members {
		if d.has[m.Slot] != d.acked[m.Slot/2] {
			t.Fatalf("leg %d has write %d of its set, %d was acknowledged", m.Slot, d.has[m.Slot], d.acked[m.Slot/2])
		}
		d.member[m.Slot] = true
		d.events = max(d.events, m.Super.Events)
	}
	d.running = true
	d.write()
	d.report()
}

// TestNoAcknowledgedWriteIsLost: whatever fails, returns, crashes and is missing, an array that is assembled has all that was acknowledged,
// on each member; and it is assembled if all legs are there.
func TestNoAcknowledgedWriteIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDisks()
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if d.running {
				d.step(t)
			} else {
				d.assemble(t)
			}
		}
	})
}

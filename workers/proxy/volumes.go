package proxy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// zeroStep bounds what one step zeroes, so that a newer document need not wait for long: it stops a plan between two steps.
const zeroStep = 32 << 20

// join merges segments that follow each other, as LVM does.
func join(all []events.Segment) []events.Segment {
	var out []events.Segment
	for _, s := range all {
		if n := len(out); n > 0 && out[n-1].Start+out[n-1].Count == s.Start {
			out[n-1].Count += s.Count
			continue
		}
		if s.Count > 0 {
			out = append(out, s)
		}
	}
	return out
}

func total(all []events.Segment) int {
	n := 0
	for _, s := range all {
		n += s.Count
	}
	return n
}

// after gives segments without their first n extents.
func after(all []events.Segment, n int) []events.Segment {
	var out []events.Segment
	for _, s := range all {
		skip := min(n, s.Count)
		n -= skip
		if s.Count > skip {
			out = append(out, events.Segment{Start: s.Start + skip, Count: s.Count - skip})
		}
	}
	return out
}

// first gives the first n extents of segments.
func first(all []events.Segment, n int) []events.Segment {
	var out []events.Segment
	for _, s := range all {
		if s.Count = min(n, s.Count); s.Count > 0 {
			out = append(out, s)
		}
		n -= s.Count
	}
	return out
}

func equal(a, b []events.Segment) bool {
	a, b = join(a), join(b)
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// volumes keeps the records of volumes, and what is on new and deleted ones. A record is written after its extents were zeroed and filled: one
// that is there says that they are.
func (p *planner) volumes() {
	r := p.v.record
	if r == nil || r.Err != nil || !r.Found {
		return
	}
	w := p.v.wish
	if r.StartMiB != w.StartMiB || r.ExtentMiB != w.ExtentMiB || r.Extents < w.extents() {
		p.note("its records say extents of %d MiB from MiB %d on: that is not what the document says", r.ExtentMiB, r.StartMiB)
		return
	}
	owned := ownershipOf(w.Volumes, r.Record)
	for _, v := range lastFills(w.Volumes) {
		if why := p.refuse(v, r.Record, owned); why != "" {
			p.note("volume %s: %s", v.Volume, why)
			continue
		}
		switch v.Want {
		case desired.There:
			p.keep(v, r.Volumes[v.Volume])
		case desired.Absent:
			p.wipe(v, r.Volumes[v.Volume])
		}
	}
}

// fills says whether a volume is made from an image.
func fills(v desired.Volume) bool { return v.Source != (events.Blob{}) }

// lastFills puts those behind that are made from an image: they take long, and others need not wait for them. Those that are copied come before
// those whose image is fetched.
func lastFills(all []desired.Volume) []desired.Volume {
	class := func(v desired.Volume) int {
		switch {
		case !fills(v):
			return 0
		case v.From != "":
			return 1
		}
		return 2
	}
	return slices.SortedStableFunc(slices.Values(all), func(a, b desired.Volume) int { return class(a) - class(b) })
}

// refuse says why nothing may be done for a volume: its extents are another's, or none of this array. (I3)
func (p *planner) refuse(v desired.Volume, r Record, owned ownership) string {
	for _, s := range v.Segments {
		if s.Start < 0 || s.Count <= 0 || s.Start+s.Count > p.v.wish.extents() {
			return fmt.Sprintf("extents %d to %d are none of this array", s.Start, s.Start+s.Count-1)
		}
	}
	if owned.broken {
		return "the records give an extent to two volumes"
	}
	if other := owned.recorded.other(v.Volume, v.Segments); other != "" {
		return fmt.Sprintf("the records give its extents to %s", other)
	}
	switch other, ok := owned.clash[v.Volume]; {
	case ok && other == v.Volume:
		return "it has an extent twice"
	case ok:
		return fmt.Sprintf("the document gives its extents to %s too", other)
	}
	if have := r.Volumes[v.Volume]; !equal(have, first(v.Segments, total(have))) {
		return "its record says other extents"
	}
	return ""
}

// keep: a volume that shall be there.
func (p *planner) keep(v desired.Volume, have []events.Segment) {
	if equal(have, v.Segments) {
		p.ready = append(p.ready, v.Volume)
		return
	}
	if fills(v) && v.Keep == 0 && len(have) > 0 { // LVM adds segments one by one: a record that was cut off says nothing of what was filled
		p.book(stepDrop, v, total(have))
		return
	}
	clean := max(total(have), v.Keep) // those hold data, or are zeroed
	fill := fills(v) && clean == 0
	golden := p.golden(v)
	if fill && !p.mayFill(v, golden) {
		return
	}
	if p.zero(v, "new", clean) && (!fill || p.fill(v, golden)) {
		p.book(stepExtend, v, total(have))
	}
}

// wipe: a volume that is deleted. Its record goes last: while it is there, the extents are not wiped.
func (p *planner) wipe(v desired.Volume, have []events.Segment) {
	if len(have) == 0 {
		p.wiped = append(p.wiped, v.Volume) // it was wiped, or never handed out
		return
	}
	if p.zero(v, "wiped", 0) {
		p.book(stepDrop, v, total(have))
	}
}

// progressKey names what is being zeroed.
func progressKey(array events.ArrayID, v events.VolumeID, what string) string {
	return string(array) + "/" + string(v) + "/" + what
}

// zero plans the zeroing of a volume, without its first extents, in steps, and says whether that is all of it. Those that this process has done
// are not done again.
func (p *planner) zero(v desired.Volume, what string, from int) (all bool) {
	key := progressKey(p.v.id, v.Volume, what)
	done := max(from, p.seen.Zeroed[key])
	each := max(1, zeroStep>>20/p.v.wish.ExtentMiB)
	for _, s := range after(v.Segments, done) {
		for s.Count > 0 {
			if !p.mayMove() {
				return false
			}
			n := min(each, s.Count)
			r := p.run(events.Segment{Start: s.Start, Count: n})
			done += n
			p.do(stepZero, "extents of volume "+string(v.Volume)+" are "+what, "key", key, "done", strconv.Itoa(done),
				"offset", strconv.FormatInt(r.Offset, 10), "length", strconv.FormatInt(r.Length, 10))
			s.Start, s.Count = s.Start+n, s.Count-n
		}
	}
	return true
}

// run gives the bytes of extents on the front.
func (p *planner) run(s events.Segment) Run {
	w := p.v.wish
	return Run{Offset: (int64(w.StartMiB) + int64(s.Start)*int64(w.ExtentMiB)) << 20, Length: int64(s.Count) * int64(w.ExtentMiB) << 20}
}

// book changes the record of a volume that has so many extents.
func (p *planner) book(kind string, v desired.Volume, have int) {
	if kind == stepDrop {
		why := " is wiped"
		if v.Want == desired.There {
			why = " has a record that was cut off"
		}
		p.do(kind, "volume "+string(v.Volume)+why, "volume", string(v.Volume))
		return
	}
	body, err := json.Marshal(after(v.Segments, have))
	if err != nil {
		p.note("encode segments: %v", err)
		return
	}
	p.do(kind, "volume "+string(v.Volume)+" has its extents", "volume", string(v.Volume), "have", strconv.Itoa(have), "segments", string(body))
}

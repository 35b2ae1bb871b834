package proxy

import (
	"cmp"
	"slices"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// claim is a run of extents that something says to be a volume's.
type claim struct {
	start, end int
	volume     events.VolumeID
}

// claims are sorted by where they begin.
type claims []claim

func claimed(volume events.VolumeID, all []events.Segment, to claims) claims {
	for _, s := range all {
		if s.Count > 0 {
			to = append(to, claim{s.Start, s.Start + s.Count, volume})
		}
	}
	return to
}

func sorted(c claims) claims {
	slices.SortFunc(c, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end), cmp.Compare(a.volume, b.volume))
	})
	return c
}

// clashes says of each volume that has an extent of another's, or one of its own twice, whose that is. It looks at each claim once, beside the
// one before it that reaches furthest: who begins below that end meets it, and who is met by a later one only is that one itself, or met by it.
func (c claims) clashes() map[events.VolumeID]events.VolumeID {
	out := map[events.VolumeID]events.VolumeID{}
	var far claim
	for i, x := range c {
		if i > 0 && x.start < far.end {
			note := func(a, b events.VolumeID) {
				if had, ok := out[a]; !ok || had == a { // another's says more than its own
					out[a] = b
				}
			}
			note(x.volume, far.volume)
			note(far.volume, x.volume)
		}
		if i == 0 || x.end > far.end {
			far = x
		}
	}
	return out
}

// other gives a volume that has one of these extents and is not this one, or "". The claims must not meet each other.
func (c claims) other(v events.VolumeID, all []events.Segment) events.VolumeID {
	for _, s := range all {
		i, _ := slices.BinarySearchFunc(c, s.Start, func(x claim, at int) int { return cmp.Compare(x.end, at+1) }) // the first that ends behind it
		for ; s.Count > 0 && i < len(c) && c[i].start < s.Start+s.Count; i++ {
			if c[i].volume != v {
				return c[i].volume
			}
		}
	}
	return ""
}

// ownership is what document and records say about whose extents are whose, arranged so that asking for one volume costs little.
type ownership struct {
	clash    map[events.VolumeID]events.VolumeID // in the document
	recorded claims
	broken   bool // the records give one extent twice
}

func ownershipOf(volumes []desired.Volume, r Record) ownership {
	var wanted, recorded claims
	for _, v := range volumes {
		wanted = claimed(v.Volume, v.Segments, wanted)
	}
	for id, all := range r.Volumes {
		recorded = claimed(id, all, recorded)
	}
	o := ownership{clash: sorted(wanted).clashes(), recorded: sorted(recorded)}
	o.broken = len(o.recorded.clashes()) > 0
	return o
}

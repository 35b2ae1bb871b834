package proxy

import (
	"testing"

	"pgregory.net/rapid"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// TestClaimsAgreeWithComparingAll: whose extents clash, and with whom those of a volume do, is what comparing each with each says.
func TestClaimsAgreeWithComparingAll(t *testing.T) {
	segments := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) events.Segment {
		return events.Segment{Start: rapid.IntRange(0, 20).Draw(t, "start"), Count: rapid.IntRange(0, 4).Draw(t, "count")}
	}), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		names := []events.VolumeID{"a", "b", "c", "d"}
		var volumes []desired.Volume
		r := Record{Volumes: map[events.VolumeID][]events.Segment{}}
		for _, id := range names {
			volumes = append(volumes, desired.Volume{Volume: id, Segments: segments.Draw(t, "wanted "+string(id))})
			r.Volumes[id] = segments.Draw(t, "recorded "+string(id))
		}
		o := ownershipOf(volumes, r)
		broken := false
		for i, v := range volumes {
			clash := twice(v.Segments)
			for j, x := range volumes {
				clash = clash || i != j && meets(v.Segments, x.Segments)
				broken = broken || i != j && meets(r.Volumes[v.Volume], r.Volumes[x.Volume])
			}
			broken = broken || twice(r.Volumes[v.Volume])
			if _, got := o.clash[v.Volume]; got != clash {
				t.Fatalf("volume %s clashes: %t, by comparing all %t; %+v", v.Volume, got, clash, volumes)
			}
		}
		if o.broken != broken {
			t.Fatalf("the records are broken: %t, by comparing all %t; %+v", o.broken, broken, r)
		}
		for _, v := range volumes {
			met := false
			for id, all := range r.Volumes {
				met = met || id != v.Volume && meets(v.Segments, all)
			}
			if got := o.recorded.other(v.Volume, v.Segments); !broken && (got != "") != met {
				t.Fatalf("volume %s has extents of %q by the records, by comparing all of another: %t; %+v %+v", v.Volume, got, met, volumes, r)
			}
		}
	})
}

func meets(a, b []events.Segment) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Count > 0 && y.Count > 0 && x.Start < y.Start+y.Count && y.Start < x.Start+x.Count {
				return true
			}
		}
	}
	return false
}

func twice(all []events.Segment) bool {
	for i := range all {
		if meets(all[:i], all[i:i+1]) {
			return true
		}
	}
	return false
}

package proxy

import (
	"errors"
	"testing"

	"cloudengine/events"
	"cloudengine/workers/lvm2"
)

func TestRecordOfAGroup(t *testing.T) {
	g := &lvm2.Group{Name: "ce-0011", ExtentSectors: 8192, StartSectors: 8192, Extents: 15,
		Volumes: map[string][]lvm2.Segment{"v2": {{Start: 9, Count: 2}, {Start: 0, Count: 1}}, "v1": {{Start: 1, Count: 4}}}}
	r, err := recordOf(g, "ce-0011")
	if err != nil || !r.Found || r.StartMiB != 4 || r.ExtentMiB != 4 || r.Extents != 15 || len(r.Volumes) != 2 {
		t.Fatalf("got %+v, %v", r, err)
	}
	if !equal(r.Volumes["v2"], []events.Segment{{Start: 9, Count: 2}, {Start: 0, Count: 1}}) || !equal(r.Volumes["v1"], []events.Segment{{Start: 1, Count: 4}}) {
		t.Errorf("got %+v", r.Volumes)
	}
	if r, err := recordOf(g, "ce-0022"); !errors.Is(err, errGroup) || r.Found {
		t.Errorf("another array's group: %+v, %v", r, err)
	}
	g.StartSectors = 1
	if r, err := recordOf(g, "ce-0011"); !errors.Is(err, lvm2.ErrDamaged) || r.Found {
		t.Errorf("extents that begin within a MiB: %+v, %v", r, err)
	}
	if r, err := recordOf(nil, "ce-0011"); err != nil || r.Found {
		t.Errorf("nothing: %+v, %v", r, err)
	}
}

func TestSegments(t *testing.T) {
	all := []events.Segment{{Start: 5, Count: 3}, {Start: 8, Count: 2}, {Start: 0, Count: 1}}
	if !equal(all, []events.Segment{{Start: 5, Count: 5}, {Start: 0, Count: 1}}) || equal(all, all[:2]) || total(all) != 6 {
		t.Error("joined wrongly")
	}
	for n := range 8 {
		if got := append(first(all, n), after(all, n)...); !equal(got, all) || total(first(all, n)) != min(n, 6) {
			t.Errorf("cut at %d: %v", n, got)
		}
	}
	if !meets(all, []events.Segment{{Start: 9, Count: 1}}) || meets(all, []events.Segment{{Start: 1, Count: 4}, {Start: 10, Count: 9}}) {
		t.Error("meets is wrong")
	}
}

package lvm2

import (
	"cmp"
	"fmt"
	"slices"
)

// Group is a volume group on one device. Sectors have 512 bytes.
type Group struct {
	Name          string
	ExtentSectors int64
	StartSectors  int64 // where the first extent begins
	Extents       int64 // of the device
	Volumes       map[string][]Segment
}

// Segment is a run of extents of a volume, in the order of the volume.
type Segment struct{ Start, Count int64 }

// most bounds numbers in a text, so that no arithmetic overflows.
const most = 1 << 40

// Parse reads a group from its text. Anything but linear segments on one device is an error, and so is an extent that is in two.
func Parse(text []byte) (*Group, error) {
	all, err := parseText(string(text))
	if err != nil {
		return nil, err
	}
	var g *Group
	for name, v := range all {
		s, ok := v.(section)
		switch {
		case !ok:
		case g != nil:
			return nil, fmt.Errorf("read metadata: two groups: %w", ErrDamaged)
		default:
			if g, err = group(name, s); err != nil {
				return nil, err
			}
		}
	}
	if g == nil || all["contents"] != "Text Format Volume Group" || all["version"] != int64(1) {
		return nil, fmt.Errorf("read metadata: no group in it: %w", ErrDamaged)
	}
	return g, nil
}

func group(name string, s section) (*Group, error) {
	devices, _ := s["physical_volumes"].(section)
	device, _ := devices["pv0"].(section)
	g := &Group{Name: name, ExtentSectors: s.number("extent_size"), StartSectors: device.number("pe_start"), Extents: device.number("pe_count"),
		Volumes: map[string][]Segment{}}
	if len(devices) != 1 || g.ExtentSectors < 1 || g.StartSectors < 0 || g.Extents < 0 {
		return nil, fmt.Errorf("read group %q: %w", name, ErrDamaged)
	}
	volumes, ok := s["logical_volumes"].(section)
	if _, there := s["logical_volumes"]; there && !ok {
		return nil, fmt.Errorf("read volumes of group %q: %w", name, ErrDamaged)
	}
	for id, v := range volumes {
		lv, _ := v.(section)
		segments, err := lv.segments()
		if err != nil {
			return nil, fmt.Errorf("read volume %q: %w", id, err)
		}
		g.Volumes[id] = segments
	}
	return g, g.once()
}

// once makes sure that no extent is beyond the device, or in two segments.
func (g *Group) once() error {
	var all []Segment
	for _, segments := range g.Volumes {
		all = append(all, segments...)
	}
	slices.SortFunc(all, func(a, b Segment) int { return cmp.Compare(a.Start, b.Start) })
	for i, s := range all {
		if s.Start+s.Count > g.Extents || i > 0 && all[i-1].Start+all[i-1].Count > s.Start {
			return fmt.Errorf("read group %q: extent %d is beyond the device, or in two segments: %w", g.Name, s.Start, ErrDamaged)
		}
	}
	return nil
}

func (s section) number(name string) int64 {
	n, ok := s[name].(int64)
	if !ok || n < 0 || n > most {
		return -1
	}
	return n
}

// segments reads the segments of a volume: segment1 and so on, each a linear run on pv0 that begins where the one before it ends.
func (s section) segments() ([]Segment, error) {
	n := s.number("segment_count")
	if n < 1 || n > int64(len(s)) {
		return nil, ErrDamaged
	}
	var out []Segment
	at := int64(0)
	for i := range n {
		x, _ := s[fmt.Sprintf("segment%d", i+1)].(section)
		stripes, _ := x["stripes"].([]any)
		seg := Segment{Count: x.number("extent_count")}
		if x.number("start_extent") != at || seg.Count < 1 || x["type"] != "striped" || x.number("stripe_count") != 1 || len(stripes) != 2 || stripes[0] != "pv0" {
			return nil, fmt.Errorf("segment %d: %w", i+1, ErrDamaged)
		}
		start, ok := stripes[1].(int64)
		if !ok || start < 0 || start > most {
			return nil, fmt.Errorf("segment %d: %w", i+1, ErrDamaged)
		}
		seg.Start, at = start, at+seg.Count
		out = append(out, seg)
	}
	return out, nil
}

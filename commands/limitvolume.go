package commands

import "cloudengine/events"

// LimitVolume bounds what a VM may do with a volume, also while it runs. It takes the place of all limits before; 0 is none.
type LimitVolume struct {
	Volume    events.VolumeID `json:"volume"`
	ReadBPS   int64           `json:"read_bps,omitempty"`
	WriteBPS  int64           `json:"write_bps,omitempty"`
	ReadIOPS  int64           `json:"read_iops,omitempty"`
	WriteIOPS int64           `json:"write_iops,omitempty"`
}

// Bounds of limits. What a guest has asked for and is not done yet must be done before its disk can be taken away: at less than this that
// would take minutes.
const (
	minBPS  = 1 << 20
	maxBPS  = 1 << 40
	minIOPS = 10
	maxIOPS = 10_000_000
)

func (a LimitVolume) check() *Rejection {
	return first(checkID("volume", string(a.Volume)), a.bounded(0, 0))
}

// bounded refuses what is out of bounds: what is not 0 must be at least so many bytes and requests.
func (a LimitVolume) bounded(leastBPS, leastIOPS int64) *Rejection {
	for _, f := range []struct {
		name           string
		n, least, most int64
	}{
		{"read_bps", a.ReadBPS, leastBPS, maxBPS}, {"write_bps", a.WriteBPS, leastBPS, maxBPS},
		{"read_iops", a.ReadIOPS, leastIOPS, maxIOPS}, {"write_iops", a.WriteIOPS, leastIOPS, maxIOPS},
	} {
		if f.n < 0 || f.n > f.most || f.n != 0 && f.n < f.least {
			return invalid("field %q: want %d to %d, or 0 for no limit", f.name, max(1, f.least), f.most)
		}
	}
	return nil
}

// decideLimitVolume is the platform's: whoever has a volume cannot lift the limits of it.
func decideLimitVolume(d *decision, a LimitVolume) error {
	v, err := d.volume(a.Volume)
	if err != nil {
		return err
	}
	if err := isGolden(v, "limited"); err != nil {
		return err
	}
	if r := a.bounded(minBPS, minIOPS); r != nil {
		return r
	}
	want := events.VolumeLimited{ReadBPS: a.ReadBPS, WriteBPS: a.WriteBPS, ReadIOPS: a.ReadIOPS, WriteIOPS: a.WriteIOPS}
	if events.DiskLimits(want) != v.Limits {
		d.add(events.KindVolume, string(v.ID), want)
	}
	return nil
}

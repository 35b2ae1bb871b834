package commands

import "cloudengine/events"

// LimitNIC bounds what a VM may send and get through a NIC, also while it runs. It takes the place of both limits before; 0 is none.
type LimitNIC struct {
	NIC    events.NICID `json:"nic"`
	InBPS  int64        `json:"in_bps,omitempty"`
	OutBPS int64        `json:"out_bps,omitempty"`
}

// Bounds of limits, in bytes per second: 1 Mbit/s, at which DHCP and DNS are still answered in good time, and 25 Gbit/s, which still fit what tc(8)
// counts rates in.
const (
	minNICBPS = 125_000
	maxNICBPS = 3_125_000_000
)

func (a LimitNIC) check() *Rejection {
	for _, f := range []struct {
		name string
		n    int64
	}{{"in_bps", a.InBPS}, {"out_bps", a.OutBPS}} {
		if f.n < 0 || f.n > maxNICBPS {
			return invalid("field %q: want %d to %d, or 0 for no limit", f.name, minNICBPS, maxNICBPS)
		}
	}
	return checkID("nic", string(a.NIC))
}

// decideLimitNIC is the platform's: whoever has a NIC cannot lift the limits of it.
func decideLimitNIC(d *decision, a LimitNIC) error {
	nic, err := d.nic(a.NIC)
	if err != nil {
		return err
	}
	for name, n := range map[string]int64{"in_bps": a.InBPS, "out_bps": a.OutBPS} {
		if n != 0 && n < minNICBPS {
			return invalid("field %q: want %d to %d, or 0 for no limit", name, minNICBPS, maxNICBPS)
		}
	}
	if want := (events.NICLimited{InBPS: a.InBPS, OutBPS: a.OutBPS}); want != nic.Limits {
		d.add(events.KindNIC, string(nic.ID), want)
	}
	return nil
}

package network

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// Inspect tells what is there of all networks, beside what documents want. It changes nothing, and looks for itself.
func (w *Worker) Inspect(ctx context.Context, docs []desired.Document) (events.NetworksReport, error) {
	seen, err := w.Observe(ctx)
	if err != nil {
		return events.NetworksReport{}, err
	}
	return reportOf(Decode(docs), seen), nil
}

func reportOf(wishes []Wish, seen Observed) events.NetworksReport {
	out := events.NetworksReport{Networks: []events.NetworkReport{}, Filter: seen.Filter, FilterWant: filterOf(wishes, seen)}
	for vni, s := range seen.Nets {
		i := slices.IndexFunc(wishes, func(w Wish) bool { return w.VNI == vni && w.Want == desired.There })
		wish := Wish{Network: desired.Network{VNI: vni, MTU: s.MTU}}
		if i >= 0 {
			wish = wishes[i]
		}
		out.Networks = append(out.Networks, wish.report(s, seen))
	}
	slices.SortFunc(out.Networks, func(a, b events.NetworkReport) int { return a.VNI - b.VNI })
	return out
}

func (w Wish) report(s State, seen Observed) events.NetworkReport {
	r := events.NetworkReport{
		VNI: s.VNI, MTU: s.MTU, Up: s.Up && s.MAC == ServerMAC(s.VNI), Local: s.Local, Addresses: s.Addresses, Routes: s.Routes, Remotes: s.Remotes, Switch: s.Switch,
		Neighbours: s.Neighbours, Rules: s.Guard, Left: s.Stale,
	}
	if s.Local != "" {
		r.RulesWant = w.wanted(nil).Guard
	}
	for _, p := range s.Ports {
		v := events.VifReport{Device: p.Device, MTU: p.MTU, Up: p.Up, Joined: p.Joined, Rules: p.Guard, Shape: p.Shape}
		i := slices.IndexFunc(seen.Vifs, func(v Vif) bool { return v.Device == p.Device && v.VNI == s.VNI })
		if i >= 0 {
			vif := w.limited(seen.Vifs[i])
			v.MAC, v.Addresses, v.RulesWant, v.ShapeWant = vif.MAC, slices.Sorted(slices.Values(vif.Addresses)), digest(vif.rules()), vif.Limits.shape(!s.NoLeaf)
		}
		for _, port := range w.Ports {
			if port.MAC == v.MAC {
				v.InBPS, v.OutBPS = port.InBPS, port.OutBPS
			}
		}
		r.Vifs = append(r.Vifs, v)
	}
	slices.SortFunc(r.Vifs, func(a, b events.VifReport) int { return strings.Compare(a.Device, b.Device) })
	return r
}

// routes lists what somebody has added to the routes that the kernel makes of addresses.
func (x inside) routes() ([]string, error) {
	var out []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := x.links.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range all {
			if r.Protocol == unix.RTPROT_KERNEL || r.Table == unix.RT_TABLE_LOCAL || family == netlink.FAMILY_V6 && isOwn6(r) {
				continue
			}
			to := "default"
			if r.Dst != nil {
				to = r.Dst.String()
			}
			if r.Gw != nil {
				to += "@" + r.Gw.String()
			}
			out = append(out, to)
		}
	}
	slices.Sort(out)
	return out, nil
}

// isOwn6 says whether a route of IPv6 is one that the kernel makes for each device: of multicast, and unreachable ones.
func isOwn6(r netlink.Route) bool {
	return r.Dst != nil && r.Dst.IP.IsMulticast() || r.Type == unix.RTN_UNREACHABLE || r.Protocol == unix.RTPROT_UNSPEC
}

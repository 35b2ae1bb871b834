package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"cloudengine/events/desired"
)

// busyHost has 100 guests of 10 networks, of which each has 1,000 NICs: 10,000 entries of tunnels in all, and as many of bridges.
func busyHost() ([]desired.Document, Observed) {
	var docs []desired.Document
	seen := Observed{Nets: map[int]State{}}
	for n := range 10 {
		vni := testVNI + n
		x := desired.Network{Network: "n", VNI: vni, MTU: 1450, Local: hostX, Want: desired.There, Subnets: []desired.Subnet{{CIDR: "10.0.0.0/16", Server: "10.0.0.1"}}}
		for i := range 1000 {
			p := desired.Port{MAC: fmt.Sprintf("00:16:3e:%02x:%02x:%02x", n, i>>8, i&255), Addresses: []string{fmt.Sprintf("10.0.%d.%d", 1+i>>8, i&255)}, At: fmt.Sprintf("10.77.%d.9", i%200)}
			if i < 10 {
				p.At, p.Here, p.OutBPS = hostX, true, 1e6
				seen.Vifs = append(seen.Vifs, Vif{Device: Device(1+10*n+i, 0), VNI: vni, MAC: p.MAC, Addresses: p.Addresses})
			}
			x.Ports = append(x.Ports, p)
		}
		body, _ := json.Marshal(x)
		docs = append(docs, desired.Document{Version: 1, Kind: desired.KindNetwork, ID: fmt.Sprint(vni), Body: body})
	}
	wishes := Decode(docs)
	for _, w := range wishes {
		s := w.wanted(seen.Vifs)
		for _, v := range seen.Vifs {
			if v = w.limited(v); v.VNI == w.VNI {
				s.Ports = append(s.Ports, PortState{Device: v.Device, Up: true, MTU: w.MTU, Joined: true, Guard: digest(v.rules()), Shape: v.Limits.shape(true)})
			}
		}
		seen.Nets[w.VNI] = s
	}
	seen.Filter = filterOf(wishes, seen)
	return docs, seen
}

// BenchmarkPlanOfABusyHost is one look of a host with 100 guests and 10,000 entries at which nothing is to be done.
func BenchmarkPlanOfABusyHost(b *testing.B) {
	docs, seen := busyHost()
	w := &Worker{}
	for b.Loop() {
		if plans := w.Plan(docs, seen); len(plans) > 0 {
			b.Fatal(plans[0])
		}
	}
}

// BenchmarkFramesThroughAVif sends frames of a guest to another on the same host: through its rules, and through a bridge alone.
func BenchmarkFramesThroughAVif(b *testing.B) {
	for _, rules := range []bool{true, false} {
		b.Run(map[bool]string{true: "rules", false: "bare"}[rules], func(b *testing.B) {
			w, x, _ := hostsOf(b)
			if !rules {
				if err := x.k.in(testVNI, func(in inside) error {
					in.rules.DelTable(table(Device(1, 0)))
					return in.rules.Flush()
				}); err != nil {
					b.Fatal(err)
				}
			}
			from, f := w.raw("a", "eth0"), frame(macB, macA, 0x0800, ipv4(ipA, ipB, 17, nil, datagram(1, 2)))
			for b.Loop() {
				if _, err := unix.Write(from, f); err != nil && !errors.Is(err, unix.ENOBUFS) {
					b.Fatal(err)
				}
			}
		})
	}
}

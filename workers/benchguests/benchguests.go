// Package benchguests measures how many answers to guests one processor makes, DHCP and DNS: P14. The raw side makes the same bytes with the
// same library, without headers, checks and a document. Sockets are not in it: they cost the kernel more than both.
package benchguests

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"cloudengine/events/desired"
	"cloudengine/workers/dhcp"
	"cloudengine/workers/dns"

	"github.com/insomniacslk/dhcp/dhcpv4"
	library "github.com/miekg/dns"
)

// Result is one line of bench.json.
type Result struct {
	ID, Name         string
	Ours, Raw, Ratio float64 // answers per second; the ratio is the median of those of the runs
	Unit             string
	Runs             int
	Note             string
}

const (
	runs   = 7
	during = 300 * time.Millisecond // of one side of one run
)

// side makes one answer.
type side func() error

type line struct {
	id, name, note string
	made           func() (ours, raw side, err error)
}

func lines() []line {
	return []line{
		{"P14-dhcp", "DHCPv4 offers to a guest, on one processor",
			"ours adds checks, the packet's headers with their checksums, and a copy of the options; a guest may ask for 10 per second", offers},
		{"P14-dns", "answers to DNS queries of a guest, on one processor",
			"goal: 0.8; ours adds checks and look-ups; a guest may ask for 1000 per second", names},
	}
}

// IDs lists what Run can measure.
func IDs() (ids []string) {
	for _, l := range lines() {
		ids = append(ids, l.id)
	}
	return ids
}

// Run measures the lines that are wanted, both sides in turn.
func Run(ctx context.Context, wants func(id string) bool) (out []Result, err error) {
	for _, l := range lines() {
		if !wants(l.id) {
			continue
		}
		ours, raw, err := l.made()
		if err != nil {
			return out, fmt.Errorf("prepare %s: %w", l.id, err)
		}
		var all [3][]float64 // ours, raw, ratio
		for range runs {
			a, err := rate(ctx, ours)
			if err != nil {
				return out, fmt.Errorf("measure %s: %w", l.id, err)
			}
			b, err := rate(ctx, raw)
			if err != nil {
				return out, fmt.Errorf("measure the raw side of %s: %w", l.id, err)
			}
			for i, x := range []float64{a, b, a / b} {
				all[i] = append(all[i], x)
			}
		}
		for i := range all {
			slices.Sort(all[i])
		}
		out = append(out, Result{
			ID: l.id, Name: l.name, Ours: all[0][runs/2], Raw: all[1][runs/2], Ratio: all[2][runs/2], Unit: "1/s", Runs: runs,
			Note: l.note,
		})
	}
	return out, nil
}

func rate(ctx context.Context, s side) (float64, error) {
	n, began := 0, time.Now()
	for ; time.Since(began) < during; n += 100 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		for range 100 {
			if err := s(); err != nil {
				return 0, err
			}
		}
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// document is a network with as many NICs as one can have, a hundredth of them here.
func document() desired.Network {
	d := desired.Network{
		Network: "0190a1b2-0000-7000-8000-000000000001", Name: "blue", Account: "acme", VNI: 4096, MTU: 1450, Want: desired.There,
		Subnets: []desired.Subnet{{Subnet: "s", CIDR: "10.1.0.0/16", Server: "10.1.0.1"}},
	}
	for i := range 1000 {
		d.Ports = append(d.Ports, desired.Port{
			Host: fmt.Sprintf("web%d", i), MAC: fmt.Sprintf("00:16:3e:00:%02x:%02x", i>>8, i&255),
			Addresses: []string{fmt.Sprintf("10.1.%d.%d", 1+i>>8, i&255)},
			Here:      i%100 == 0,
		})
	}
	return d
}

var card = dhcp.MAC{0, 0x16, 0x3e, 0, 0, 0}

// offers is a DISCOVER and its OFFER.
func offers() (ours, raw side, err error) {
	n, err := dhcp.NewNetwork(document())
	if err != nil {
		return nil, nil, err
	}
	asked, err := dhcpv4.NewDiscovery(card[:])
	if err != nil {
		return nil, nil, err
	}
	data := asked.ToBytes()
	p := append(make([]byte, 28), data...) // the checksums of requests are not looked at
	p[0], p[9] = 0x45, 17
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[16:], []byte{255, 255, 255, 255})
	binary.BigEndian.PutUint16(p[22:], dhcpv4.ServerPort)
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(data)))
	offer, err := n.Answer4(card, p)
	if err != nil {
		return nil, nil, err
	}
	said, err := dhcpv4.FromBytes(offer[28:])
	if err != nil {
		return nil, nil, err
	}
	ours = func() error {
		_, err := n.Answer4(card, p)
		return err
	}
	raw = func() error {
		m, err := dhcpv4.FromBytes(data)
		if err != nil {
			return err
		}
		r := &dhcpv4.DHCPv4{
			OpCode: dhcpv4.OpcodeBootReply, HWType: m.HWType, TransactionID: m.TransactionID, Flags: m.Flags, ClientHWAddr: m.ClientHWAddr,
			YourIPAddr: said.YourIPAddr, Options: said.Options,
		}
		if len(r.ToBytes()) != len(offer)-28 {
			return errors.New("the raw side says something else")
		}
		return nil
	}
	return ours, raw, nil
}

// names is a query for an address.
func names() (ours, raw side, err error) {
	z, err := dns.NewZone(document())
	if err != nil {
		return nil, nil, err
	}
	q, err := (&library.Msg{}).SetQuestion("web999.blue.acme.internal.", library.TypeA).Pack()
	if err != nil {
		return nil, nil, err
	}
	from := netip.MustParseAddr("10.1.1.0")
	said, err := z.Answer(dns.Query{From: from, Data: q})
	if err != nil {
		return nil, nil, err
	}
	reply := &library.Msg{}
	if err := reply.Unpack(said); err != nil {
		return nil, nil, err
	}
	ours = func() error {
		_, err := z.Answer(dns.Query{From: from, Data: q})
		return err
	}
	raw = func() error {
		req := &library.Msg{}
		if err := req.Unpack(q); err != nil {
			return err
		}
		r := (&library.Msg{}).SetReply(req)
		r.Answer = reply.Answer
		p, err := r.Pack()
		if err == nil && len(p) != len(said) {
			err = errors.New("the raw side says something else")
		}
		return err
	}
	return ours, raw, nil
}

package fabric

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

const bootMAC = "52:54:00:00:00:01"

func macOf(i int) string { return fmt.Sprintf("52:54:00:01:00:%02x", i) }

// world is a machine's network in memory.
type world struct{ cards []Card }

func (w *world) card(device string) *Card {
	for i := range w.cards {
		if w.cards[i].Device == device {
			return &w.cards[i]
		}
	}
	panic("no card " + device)
}

func (w *world) Cards() ([]Card, error) {
	out := slices.Clone(w.cards)
	for i := range out {
		out[i].Addresses = slices.Clone(out[i].Addresses)
	}
	return out, nil
}
func (w *world) SetMTU(d string, n int) error { w.card(d).MTU = n; return nil }
func (w *world) SetUp(d string) error         { w.card(d).Up = true; return nil }
func (w *world) AddAddress(d string, p netip.Prefix) error {
	if c := w.card(d); !c.has(p) {
		c.Addresses = append(c.Addresses, p)
	}
	return nil
}

// RemoveAddress does as the kernel: with the first address of a subnet the others of it go too.
func (w *world) RemoveAddress(d string, p netip.Prefix) error {
	c := w.card(d)
	first := true
	for _, a := range c.Addresses {
		if a == p {
			break
		}
		first = first && a.Masked() != p.Masked()
	}
	c.Addresses = slices.DeleteFunc(c.Addresses, func(a netip.Prefix) bool { return a == p || first && a.Masked() == p.Masked() })
	return nil
}

func (w *world) AddRDMA(name, d string) error {
	c := w.card(d)
	c.RDMA, c.Soft = name, true
	return nil
}

func (w *world) RemoveRDMA(name string) error {
	for i := range w.cards {
		if w.cards[i].RDMA == name {
			w.cards[i].RDMA, w.cards[i].Soft = "", false
		}
	}
	return nil
}

func document(id string, f desired.Fabric) desired.Document {
	body, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	return desired.Document{Kind: desired.KindFabric, ID: id, Generation: events.Generation{Term: 1, Number: 1}, Body: body}
}

func wanted(transport, mac, address string) desired.Fabric {
	return desired.Fabric{Fabric: "f1", Transport: transport, MAC: mac, Address: address, MTU: 4200, Want: desired.There}
}

func TestPlans(t *testing.T) {
	p1, p2 := netip.MustParsePrefix("10.1.0.1/24"), netip.MustParsePrefix("10.1.0.9/24")
	ready := Card{Device: "eth1", MAC: macOf(1), MTU: 4200, Up: true, Addresses: []netip.Prefix{p1}, RDMA: "rxe_eth1", Soft: true}
	absent := wanted(SRP, macOf(1), "10.1.0.1/24")
	absent.Want = desired.Absent
	for _, c := range []struct {
		name  string
		card  Card
		doc   desired.Fabric
		kinds string
	}{
		{"from nothing", Card{Device: "eth1", MAC: macOf(1), MTU: 1500}, wanted(SRP, macOf(1), "10.1.0.1/24"), "load mtu add up add_rdma"},
		{"upper case", Card{Device: "eth1", MAC: macOf(1), MTU: 1500, Up: true}, wanted(ISCSI, strings.ToUpper(macOf(1)), "10.1.0.1/24"), "load mtu add"},
		{"another address", Card{Device: "eth1", MAC: macOf(1), MTU: 4200, Up: true, Addresses: []netip.Prefix{p2, p1}},
			wanted(ISCSI, macOf(1), "10.1.0.1/24"), "load remove add"},
		{"leave srp", ready, wanted(ISCSI, macOf(1), "10.1.0.1/24"), "load drop_rdma"},
		{"boot card", Card{Device: "eth0", MAC: bootMAC}, wanted(SRP, bootMAC, "10.1.0.1/24"), "refuse"},
		{"no card", Card{Device: "eth1", MAC: macOf(2)}, wanted(SRP, macOf(1), "10.1.0.1/24"), "refuse"},
		{"bridge port", Card{Device: "eth1", MAC: macOf(1), Master: "br0"}, wanted(SRP, macOf(1), "10.1.0.1/24"), "refuse"},
		{"bad address", ready, wanted(SRP, macOf(1), "10.1.0.1"), "refuse"},
		{"bad transport", ready, wanted("fc", macOf(1), "10.1.0.1/24"), "refuse"},
		{"absent", ready, absent, "drop_rdma remove"},
		{"absent, bridge port", Card{Device: "eth1", MAC: macOf(1), Master: "br0", Addresses: []netip.Prefix{p1}}, absent, ""},
		{"no opinion", ready, desired.Fabric{MAC: macOf(1), Address: "10.1.0.1/24"}, ""},
	} {
		plans := PlanFabrics(Decode([]desired.Document{document("d1", c.doc)}), Observed{Boot: bootMAC, Cards: []Card{c.card}})
		var kinds []string
		for _, p := range plans {
			for _, s := range p.Steps {
				kinds = append(kinds, s.Kind)
			}
		}
		if got := strings.Join(kinds, " "); got != c.kinds {
			t.Errorf("%s: planned %q, want %q", c.name, got, c.kinds)
		}
	}
}

func drawWorld(t *rapid.T) *world {
	booted := []netip.Prefix{netip.MustParsePrefix("10.77.0.5/24")}
	w := &world{cards: []Card{{Device: "eth0", MAC: bootMAC, MTU: 1500, Up: true, Addresses: booted}}}
	for i := range rapid.IntRange(0, 4).Draw(t, "cards") {
		c := Card{Device: fmt.Sprintf("eth%d", i+1), MAC: macOf(rapid.IntRange(1, 4).Draw(t, "mac")),
			MTU: rapid.SampledFrom([]int{1500, 4200}).Draw(t, "mtu"),
			Up:  rapid.Bool().Draw(t, "up"), Master: rapid.SampledFrom([]string{"", "", "", "br0"}).Draw(t, "master")}
		for range rapid.IntRange(0, 3).Draw(t, "addresses") {
			p := drawPrefix(t)
			if !c.has(p) {
				c.Addresses = append(c.Addresses, p)
			}
		}
		if rapid.Bool().Draw(t, "has rdma") {
			c.RDMA, c.Soft = "r_"+c.Device, rapid.Bool().Draw(t, "soft")
		}
		w.cards = append(w.cards, c)
	}
	return w
}

func drawPrefix(t *rapid.T) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("10.%d.0.%d/24", rapid.IntRange(1, 2).Draw(t, "net"), rapid.IntRange(1, 3).Draw(t, "host")))
}

func drawDocuments(t *rapid.T) []desired.Document {
	var docs []desired.Document
	for i := range rapid.IntRange(0, 3).Draw(t, "documents") {
		mac := bootMAC
		if rapid.IntRange(0, 5).Draw(t, "which") > 0 {
			mac = macOf(rapid.IntRange(1, 4).Draw(t, "mac"))
		}
		f := wanted(rapid.SampledFrom([]string{SRP, ISCSI}).Draw(t, "transport"), mac, drawPrefix(t).String())
		f.Want = rapid.SampledFrom([]string{desired.There, desired.There, desired.Absent, ""}).Draw(t, "want")
		docs = append(docs, document(fmt.Sprintf("d%d", i), f))
	}
	return docs
}

// TestPlansConvergeAndTouchOnlyWhatIsTold: whatever is there and wanted, cards without a document, the boot card, ports of a bridge and cards
// that two want stay as they are; the others become what is wanted, and then nothing is planned but refusals.
func TestPlansConvergeAndTouchOnlyWhatIsTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		net, docs := drawWorld(t), drawDocuments(t)
		before, _ := net.Cards()
		w := &Worker{Boot: strings.ToUpper(bootMAC), Network: net, Load: func(string, ...string) error { return nil }}
		var last []workers.Plan
		for range 4 {
			seen, err := w.Observe(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			last = w.Plan(docs, seen)
			if again := w.Plan(docs, seen); workers.Print(again) != workers.Print(last) {
				t.Fatal("the same input gives another plan")
			}
			for _, p := range last {
				for _, s := range p.Steps {
					if err := w.Apply(context.Background(), s); (err != nil) != (s.Kind == stepRefuse) {
						t.Fatalf("%s: %v", s, err)
					}
				}
			}
		}
		for _, p := range last {
			if p.Steps[0].Kind != stepRefuse {
				t.Fatalf("still planned: %s", workers.Print(last))
			}
		}
		checkWorld(t, before, net.cards, Decode(docs), w.Links())
	})
}

func checkWorld(t *rapid.T, before, after []Card, wishes []Wish, links []Link) {
	for i, c := range after {
		var there []Wish
		told := false
		alone := c.MAC != bootMAC && c.Master == ""
		for j, o := range after {
			alone = alone && (i == j || o.MAC != c.MAC)
		}
		for _, w := range wishes {
			if w.MAC == c.MAC {
				told = true
				if w.Want == desired.There {
					there = append(there, w)
				}
			}
		}
		if !told || !alone || len(there) > 1 {
			if fmt.Sprint(c) != fmt.Sprint(before[i]) {
				t.Fatalf("%+v became %+v", before[i], c)
			}
			continue
		}
		if len(there) == 0 {
			continue
		}
		ok := c.Up && c.MTU == there[0].MTU && len(c.Addresses) == 1 && c.Addresses[0].String() == there[0].Address
		if there[0].Transport == SRP {
			ok = ok && c.RDMA != ""
		} else {
			ok = ok && !(c.RDMA != "" && c.Soft)
		}
		if !ok || !slices.ContainsFunc(links, func(l Link) bool { return l.Device == c.Device && l.Transport == there[0].Transport }) {
			t.Fatalf("%+v is not what %+v wants; links %+v", c, there[0], links)
		}
	}
}

func TestStepsLookAgain(t *testing.T) {
	net := &world{cards: []Card{{Device: "eth1", MAC: macOf(1)}, {Device: "eth2", MAC: macOf(2), Master: "br0"}}}
	w := &Worker{Boot: bootMAC, Network: net}
	for _, s := range []workers.Step{
		{Kind: stepUp, Target: "eth1", Params: map[string]string{"mac": macOf(2)}},
		{Kind: stepUp, Target: "eth2", Params: map[string]string{"mac": macOf(2)}},
		{Kind: stepUp, Target: "eth0", Params: map[string]string{"mac": bootMAC}},
		{Kind: stepUp, Target: "eth1"},
	} {
		if err := w.Apply(context.Background(), s); err == nil {
			t.Errorf("%s was done", s)
		}
	}
}

func TestInterfaceID(t *testing.T) {
	if got, err := InterfaceID("52:54:00:01:00:03"); err != nil || got != "505400fffe010003" {
		t.Errorf("InterfaceID = %q, %v", got, err)
	}
	for _, bad := range []string{"", "52:54:00:01:00", "00:00:00:00:fe:80:00:00", "nonsense"} {
		if got, err := InterfaceID(bad); err == nil {
			t.Errorf("InterfaceID(%q) = %q", bad, got)
		}
	}
}

func TestRDMAOfCards(t *testing.T) {
	sys := t.TempDir()
	soft, hard := filepath.Join(sys, "class/infiniband/rxe_eth1"), filepath.Join(sys, "class/infiniband/mlx5_0/device/net/eth2")
	for _, d := range []string{soft, hard} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(soft, "parent"), []byte("eth1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := readRDMA(sys)
	if err != nil || len(got) != 2 || got["eth1"] != (rdmaDevice{"rxe_eth1", true}) || got["eth2"] != (rdmaDevice{"mlx5_0", false}) {
		t.Errorf("readRDMA = %v, %v", got, err)
	}
	if got, err := readRDMA(t.TempDir()); err != nil || len(got) != 0 {
		t.Errorf("without RDMA: %v, %v", got, err)
	}
}

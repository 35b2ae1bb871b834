//go:build lab

package fabric

import (
	"net"
	"os"
	"strings"
	"testing"

	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/modprobe"
)

func macOfDevice(t *testing.T, device string) string {
	t.Helper()
	i, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatalf("%v: give the machine cards with -nets 3", err)
	}
	return i.HardwareAddr.String()
}

// settle applies plans until there are none, and returns all steps.
func settle(t *testing.T, w *Worker, docs ...desired.Document) string {
	t.Helper()
	var all []string
	for range 5 {
		seen, err := w.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		plans := w.Plan(docs, seen)
		if len(plans) == 0 {
			return strings.Join(all, " ")
		}
		t.Logf("plan:\n%s", workers.Print(plans))
		for _, p := range plans {
			for _, s := range p.Steps {
				if err := w.Apply(t.Context(), s); err != nil {
					t.Fatalf("%s: %v", s, err)
				}
				all = append(all, s.Kind)
			}
		}
	}
	t.Fatal("the plans do not end")
	return ""
}

// TestRealCards attaches cards of a real kernel, and detaches them. The GID that SRP ports are named after must not need IPv6.
func TestRealCards(t *testing.T) {
	boot, mac, mac2 := macOfDevice(t, "eth0"), macOfDevice(t, "eth1"), macOfDevice(t, "eth2")
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/eth1/disable_ipv6", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	w := &Worker{Boot: boot, Load: modprobe.Load}
	srp, iscsi := wanted(SRP, mac, "10.2.0.1/24"), wanted(ISCSI, mac2, "10.1.0.1/24")
	srp.MTU, iscsi.MTU = 4100, 1500 // the lab's cards begin with 4200
	got := settle(t, w, document("d1", srp), document("d2", iscsi))
	if want := "load mtu add up add_rdma load mtu add up"; got != want {
		t.Errorf("did %q, want %q", got, want)
	}
	links := w.Links()
	if len(links) != 2 || links[0].RDMA != "rxe_eth1" || links[1].RDMA != "" || links[1].Device != "eth2" || links[0].Address.String() != "10.2.0.1/24" {
		t.Fatalf("Links = %+v", links)
	}
	id, err := InterfaceID(mac)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := os.ReadFile("/sys/class/infiniband/rxe_eth1/ports/1/gids/0")
	if got := strings.ReplaceAll(strings.TrimSpace(string(gid)), ":", ""); err != nil || got != "fe80000000000000"+id {
		t.Errorf("GID 0 is %s, want …%s, %v", got, id, err)
	}
	if i, err := net.InterfaceByName("eth0"); err != nil || i.MTU != 1500 && i.MTU != 4200 || i.Flags&net.FlagUp != 0 {
		t.Errorf("boot card: %+v, %v", i, err)
	}
	srp.Address = "10.2.0.7/24"
	if got := settle(t, w, document("d1", srp), document("d2", iscsi)); got != "remove add" {
		t.Errorf("another address: did %q", got)
	}
	srp.Want, iscsi.Want = desired.Absent, desired.Absent
	if got := settle(t, w, document("d1", srp), document("d2", iscsi)); got != "drop_rdma remove remove" {
		t.Errorf("leaving: did %q", got)
	}
	if links := w.Links(); len(links) != 0 {
		t.Errorf("after leaving: %+v", links)
	}
}

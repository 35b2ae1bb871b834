package netboot

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAddressesStayWithTheirMACs(t *testing.T) {
	s := newService(t, nil)
	all := twoMachines()
	steps := []struct {
		name     string
		machines []Machine
		want     map[string]string
	}{
		{"again", all, map[string]string{macOne: "10.77.0.11", macTwo: "10.77.0.12"}},
		{"first_removed", all[1:], map[string]string{macTwo: "10.77.0.12"}},
		{"first_comes_back_last", []Machine{all[1], all[0]}, map[string]string{macOne: "10.77.0.11", macTwo: "10.77.0.12"}},
		{"own_address_wins", []Machine{{ID: "id-3", Name: "c", MACs: []string{macUnknown}, Address: addrTwo}, all[1]},
			map[string]string{macUnknown: "10.77.0.12", macTwo: "10.77.0.11"}},
	}
	for _, step := range steps {
		if err := s.SetMachines(step.machines); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		again, err := New(s.opt) // what a restart finds
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		for mac, want := range step.want {
			for _, service := range []*Service{s, again} {
				if got, ok := service.Address(mac); !ok || got.String() != want {
					t.Errorf("%s: %s has %s (%t), want %s", step.name, mac, got, ok, want)
				}
			}
		}
		if len(s.machines.Addresses) != len(step.want) {
			t.Errorf("%s: addresses %v", step.name, s.machines.Addresses)
		}
	}
}

func TestSetMachinesRefuses(t *testing.T) {
	mac := []string{macUnknown}
	bad := map[string][]Machine{
		"same_mac":        append(twoMachines(), Machine{ID: "id-3", MACs: []string{macOne}}),
		"same_address":    {{ID: "a", MACs: []string{macOne}, Address: addrOne}, {ID: "b", MACs: mac, Address: addrOne}},
		"server_address":  {{ID: "a", MACs: mac, Address: testServer}},
		"foreign_address": {{ID: "a", MACs: mac, Address: netip.MustParseAddr("10.78.0.5")}},
		"network_address": {{ID: "a", MACs: mac, Address: testNetwork.Addr()}},
		"broadcast":       {{ID: "a", MACs: mac, Address: netip.MustParseAddr("10.77.0.255")}},
		"upper_case_mac":  {{ID: "a", MACs: []string{"52:54:00:77:00:AA"}}},
		"no_mac":          {{ID: "a"}},
		"no_id":           {{MACs: mac}},
		"infiniband_mac":  {{ID: "a", MACs: []string{"00:00:00:00:fe:80:00:00:00:00:00:00:02:00:5e:10:00:00:00:01"}}},
	}
	for name, machines := range bad {
		t.Run(name, func(t *testing.T) {
			s := newService(t, nil)
			if err := s.SetMachines(machines); err == nil {
				t.Fatal("taken")
			}
			if a, ok := s.Address(macOne); !ok || a != addrOne {
				t.Errorf("a refused list changed the machines: %v", s.machines)
			}
		})
	}
}

func TestPoolEnds(t *testing.T) {
	s := newService(t, func(o *Options) { o.PoolFirst = netip.MustParseAddr("10.77.0.253") })
	third := append(twoMachines(), Machine{ID: "id-3", Name: "c", MACs: []string{macUnknown}})
	if err := s.SetMachines(third); err == nil || !strings.Contains(err.Error(), "no address is left") {
		t.Errorf("third machine in a pool of two: %v", err)
	}
}

func TestBrokenCacheIsSaid(t *testing.T) {
	s := newService(t, nil)
	if err := os.WriteFile(filepath.Join(s.opt.DataDir, registryFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(s.opt); err == nil {
		t.Error("a broken cache was taken for an empty one")
	}
}

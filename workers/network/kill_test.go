package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"cloudengine/events/desired"
	"cloudengine/workers"
)

// killWorld is a host over the model whose agent dies and is started again.
type killWorld struct {
	m    *model
	vifs []Vif
	docs []desired.Document
}

func (k *killWorld) tell(n desired.Network) {
	body, _ := json.Marshal(n)
	k.docs = []desired.Document{{Version: 1, Kind: desired.KindNetwork, ID: string(n.Network), Body: body}}
}

// run is an agent from its start: it looks, plans and applies until there is nothing to do, or it is killed.
func (k *killWorld) run(t *testing.T) (killed bool) {
	t.Helper()
	w := &Worker{Edges: k.m, Domains: func(context.Context) ([]Vif, error) { return k.vifs, nil }}
	for range 8 {
		seen, err := w.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		plans := w.Plan(k.docs, seen)
		if len(plans) == 0 {
			return false
		}
		for _, s := range plans[0].Steps {
			if err := w.Apply(t.Context(), s); errors.Is(err, errKilled) {
				return true
			} else if err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	t.Fatal("the plans do not end")
	return false
}

// killScenarios are what changes on a host that has a network with guest a, whose rate is limited.
func killScenarios() map[string]func(k *killWorld) {
	gone := back(hostX, "", "", hostY)
	gone.Want = desired.Absent
	return map[string]func(k *killWorld){
		"a limit is changed":    func(k *killWorld) { k.tell(limits(9*mbit, 3*mbit)) },
		"limits are taken away": func(k *killWorld) { k.tell(limits(0, 0)) },
		"another guest comes": func(k *killWorld) {
			k.vifs, k.m.home = append(k.vifs, Vif{Device: Device(2, 0), VNI: testVNI, MAC: macB, Addresses: []string{ipB}}), []string{Device(2, 0)}
		},
		"a guest moves here": func(k *killWorld) { k.tell(back(hostX, hostX, hostX, hostX)) },
		"another host comes": func(k *killWorld) { k.tell(back(hostX, hostX, "10.77.3.3", hostY)) },
		"the host has another address": func(k *killWorld) {
			n := back("10.77.3.8", "10.77.3.8", hostX, hostY)
			n.Ports[0].OutBPS = 5 * mbit
			k.tell(n)
		},
		"the host leaves the underlay": func(k *killWorld) { k.tell(back("", "", "", hostY)) },
		"its servers move": func(k *killWorld) {
			n := limits(5*mbit, 5*mbit)
			n.Subnets[0].Server = "10.0.0.254"
			k.tell(n)
		},
		"its guest ends": func(k *killWorld) { k.vifs = nil; k.m.ends(testVNI, Device(1, 0)) },
		"the network goes": func(k *killWorld) {
			k.vifs = nil
			k.m.ends(testVNI, Device(1, 0))
			k.tell(gone)
		},
	}
}

// fresh is a host with the network and its guest; killed after so many small steps of their making, and started again.
func fresh(t *testing.T, left int) (*killWorld, bool) {
	k := &killWorld{m: &model{nets: map[int]*modelNet{}, home: []string{Device(1, 0)}, left: left}}
	k.vifs = []Vif{{Device: Device(1, 0), VNI: testVNI, MAC: macA, Addresses: []string{ipA}}}
	k.tell(limits(5*mbit, 5*mbit))
	killed := k.run(t)
	k.m.left = -1
	return k, killed
}

// TestKilledBetweenAnyTwoSteps: an agent that dies between any two small steps of making, changing or removing a network, and is started again, ends
// where one ends that was not killed, with nothing left over; and at no moment was a vif or a tunnel up without its rules.
func TestKilledBetweenAnyTwoSteps(t *testing.T) {
	check := func(t *testing.T, k *killWorld, want *model, at int) {
		t.Helper()
		if k.run(t) {
			t.Fatal("it was killed twice")
		}
		got := *k.m
		got.left, want.left = 0, 0
		if len(got.broken) > 0 {
			t.Errorf("killed after %d steps: %v", at, got.broken)
		}
		if a, b := stateOf(t, &got), stateOf(t, want); !reflect.DeepEqual(a, b) {
			t.Errorf("killed after %d steps, it ends with\n%+v\nwant\n%+v", at, a, b)
		}
	}
	whole, _ := fresh(t, -1)
	t.Run("made", func(t *testing.T) {
		n := 0
		for ; ; n++ {
			k, killed := fresh(t, n)
			if check(t, k, whole.m, n); !killed {
				break
			}
		}
		t.Logf("killed %d times", n)
	})
	for name, change := range killScenarios() {
		t.Run(name, func(t *testing.T) {
			want, _ := fresh(t, -1)
			change(want)
			want.run(t)
			n := 0
			for ; ; n++ {
				k, _ := fresh(t, -1)
				change(k)
				k.m.left = n
				killed := k.run(t)
				k.m.left = -1
				if check(t, k, want.m, n); !killed {
					break
				}
			}
			if n == 0 {
				t.Error("nothing was to be done")
			}
			t.Logf("killed %d times", n)
		})
	}
}

// stateOf is all that is there.
func stateOf(t *testing.T, m *model) string {
	t.Helper()
	out := m.filter + fmt.Sprint(m.home)
	vnis, _ := m.Networks()
	for _, vni := range vnis {
		s, err := m.State(vni)
		if err != nil {
			t.Fatal(err)
		}
		out += fmt.Sprintf("\n%+v", s)
	}
	return out
}

// TestKilledBetweenStepsOnTheKernel is a sample of that with real namespaces.
func TestKilledBetweenStepsOnTheKernel(t *testing.T) {
	w, x, _ := twoHosts(t)
	for name, docs := range map[string][2]desired.Network{
		"limits come":      {limits(0, 0), limits(40*mbit, 40*mbit)},
		"limits go":        {limits(40*mbit, 40*mbit), limits(0, 0)},
		"it leaves":        {limits(0, 0), back("", "", "", hostY)},
		"it comes back":    {back("", "", "", hostY), limits(0, 0)},
		"its servers move": {limits(0, 0), movedServers()},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 0; ; n++ {
				x.tell(docs[0])
				more := x.tellSome(docs[1], n)
				x.work = &Worker{Edges: x.k, Domains: x.work.Domains}
				x.settle()
				if plans := x.plans(); len(plans) > 0 {
					t.Fatalf("after %d steps it does not end: %s", n, workers.Print(plans))
				}
				if !more {
					break
				}
			}
		})
	}
	x.tell(limits(0, 0))
	if !w.hears("a", "c", ipC, soon) || !w.hears("c", "a", ip6A, soon) {
		t.Error("afterwards guests do not reach each other")
	}
}

func movedServers() desired.Network {
	n := limits(0, 0)
	n.Subnets[0].Server = "10.0.0.254"
	return n
}

// tellSome gives the host a document, and carries out so many steps of its first plans; it says whether there were more.
func (x *hostOf) tellSome(n desired.Network, steps int) bool {
	x.w.t.Helper()
	body, _ := json.Marshal(n)
	x.docs[0].Body = body
	for _, p := range x.plans() {
		for _, s := range p.Steps {
			if steps--; steps < 0 {
				return true
			}
			if err := x.work.Apply(x.w.t.Context(), s); err != nil {
				x.w.t.Fatal(err)
			}
		}
	}
	return false
}

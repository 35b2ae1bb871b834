package network

import (
	"slices"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// twoStand is a host on which two networks stand, one with guests on host Y, the other with guests on a third host.
func twoStand(t *testing.T) (wishes []Wish, seen Observed) {
	t.Helper()
	seen.Nets = map[int]State{}
	for i, at := range []string{hostY, "10.77.3.7"} {
		x := desired.Network{Network: events.NetworkID([]string{"n", "m"}[i]), VNI: testVNI + i, MTU: 1450, Local: hostX, Want: desired.There,
			Subnets: []desired.Subnet{{CIDR: "10.0.0.0/24", Server: "10.0.0.1"}},
			Ports:   []desired.Port{{NIC: "far", MAC: macC, Addresses: []string{"10.0.0.9"}, At: at}}}
		w := Wish{Network: x}
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
		wishes, seen.Nets[x.VNI] = append(wishes, w), w.wanted(nil)
	}
	seen.Filter = filterOf(wishes, seen)
	return wishes, seen
}

// TestI9AFilterForgetsNoHostOfWhatStands: in a term that has begun, documents come one by one; a network without one, or with one that cannot be
// followed, stays as it is, and its hosts are let in.
func TestI9AFilterForgetsNoHostOfWhatStands(t *testing.T) {
	wishes, seen := twoStand(t)
	whole := events.FilterOpenTo + hostY + " 10.77.3.7"
	if hostY > "10.77.3.7" {
		whole = events.FilterOpenTo + "10.77.3.7 " + hostY
	}
	if seen.Filter != whole {
		t.Fatalf("the filter is %q, want %q", seen.Filter, whole)
	}
	wrong := wishes[1]
	wrong.MTU = 1
	for what, x := range map[string][]Wish{"no document": nil, "one document": wishes[:1], "the other": wishes[1:], "one that is wrong": {wishes[0], wrong}} {
		if got := filterOf(x, seen); got != whole {
			t.Errorf("%s: the filter would be %q, want %q", what, got, whole)
		}
	}
	gone := wishes[1]
	gone.Want = desired.Absent
	if got := filterOf([]Wish{wishes[0], gone}, seen); got != events.FilterOpenTo+hostY {
		t.Errorf("a network that is to go keeps its hosts: %q", got)
	}
}

// TestAHostOfOneNetworkWaitsForNoOther: the filter is set right by the plan of the network whose host is new, too.
func TestAHostOfOneNetworkWaitsForNoOther(t *testing.T) {
	wishes, seen := twoStand(t)
	wishes[1].Ports = append(slices.Clone(wishes[1].Ports), desired.Port{NIC: "new", MAC: macB, Addresses: []string{"10.0.0.8"}, At: "10.77.3.8"})
	for _, p := range PlanNetworks(wishes, seen) {
		if p.Object == wishes[1].object() && slices.ContainsFunc(p.Steps, func(s workers.Step) bool { return s.Kind == stepFilter }) {
			return
		}
	}
	t.Fatal("the network with a new host does not let it in")
}

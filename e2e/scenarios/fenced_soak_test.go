//go:build soak

package scenarios

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"cloudengine/e2e/rack"
	"cloudengine/events"
)

// proxyFencedOff stops the processors of the proxy that has the array, while its controller cannot be reached: nothing proves that it is off.
// Both storage nodes close its legs to it, and the other proxy has the array. When it wakes up, with what it had queued, it reaches no leg,
// and gives up what it holds; the guest's disk never fails and never holds something else than the guest wrote.
func proxyFencedOff(t *testing.T) {
	hung, before, last := arrayWhole(t, ""), writing(t, 1), lastFact(t)
	if err := shared.CutBMC(hung); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shared.RestoreBMC(hung) }) // may be done twice
	began := time.Now()
	if err := shared.Freeze(hung); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shared.Thaw(hung) }) // as this
	eventually(t, 10*time.Minute, "the other proxy has the array", func() (bool, string) {
		a := row(t, events.KindArray, sanArray)
		return text(a, "state") == events.ArrayActive && text(a, "owner_name") != hung, fmt.Sprint(a)
	})
	t.Logf("the array was taken over %.0f s after its owner hung, without its controller", time.Since(began).Seconds())
	facts := factsSince(t, last)
	closed := 0
	for _, f := range facts {
		if f == (events.ArrayLegFenced{}).EventType() {
			closed++
		}
	}
	if legs := 2 * sanSets; closed < legs || !slices.Contains(facts, events.ArrayFencingBegan{}.EventType()) {
		t.Errorf("%d of %d legs were closed: %v", closed, legs, facts)
	}
	if on, err := shared.IsOn(hung); err != nil || !on {
		t.Errorf("the proxy that hung lost its power: %t, %v", on, err)
	}
	next := arrayWhole(t, "")
	lost := stalled(t, "proxy that hung, fenced off", before, 20)

	if err := shared.Thaw(hung); err != nil {
		t.Fatal(err)
	}
	if err := shared.RestoreBMC(hung); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Minute, hung+" has given the array up", func() (bool, string) {
		a, m := row(t, events.KindArray, sanArray), row(t, events.KindMachine, hung)
		return a["fenced_off"] == nil && text(m, "state") == "up", fmt.Sprint(a, m)
	})
	stalled(t, "the proxy that was fenced off woke", lost, 60)
	arrayWhole(t, next)
	must(t, "array", "failover", sanArray, "--to", hung, "--wait", "--timeout", "5m") // and it may have it again
	arrayWhole(t, hung)
	stalled(t, "the array is back on it", lost, 20)
}

// fencedByHand closes the legs to a proxy that serves: the guest notices a pause. What it still was to write never lands.
func fencedByHand(t *testing.T) {
	owner, before := arrayWhole(t, ""), writing(t, 1)
	must(t, "array", "failover", sanArray, "--fence", "--wait", "--timeout", "5m")
	if next := arrayWhole(t, ""); next == owner || !slices.Contains(ofRole(rack.RoleProxy), next) {
		t.Fatalf("the array is on %s, and was on %s", next, owner)
	}
	stalled(t, "proxy that serves, fenced off", before, 40)
}

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

	wakes(t, hung, next, lost)
	must(t, "array", "failover", sanArray, "--to", hung, "--wait", "--timeout", "5m") // and it may have it again
	arrayWhole(t, hung)
	stalled(t, "the array is back on it", lost, 20)
}

// wakes lets a proxy that was fenced off go on, with what it had queued: it gives up what it holds, and the array stays with its owner.
func wakes(t *testing.T, hung, owner string, since written) {
	t.Helper()
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
	stalled(t, "the proxy that was fenced off woke", since, 60)
	arrayWhole(t, owner)
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

// nodeRebootedInTakeover resets a storage node as soon as the legs of a proxy that hangs, and is not proven off, are being closed. What the
// node had not said before is said by its new boot, which exports nothing until it is told to; the array is whole with both copies then.
func nodeRebootedInTakeover(t *testing.T) {
	const node = "node1"
	hung, before, last := arrayWhole(t, ""), writing(t, 1), lastFact(t)
	boot := text(row(t, events.KindMachine, node), "boot")
	if err := shared.CutBMC(hung); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shared.RestoreBMC(hung) }) // may be done twice
	if err := shared.Freeze(hung); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shared.Thaw(hung) }) // as this
	eventually(t, 5*time.Minute, "the legs are being closed", func() (bool, string) {
		facts := factsSince(t, last)
		return slices.Contains(facts, events.ArrayFencingBegan{}.EventType()), fmt.Sprint(facts)
	})
	began := time.Now()
	if err := shared.Reset(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	done(t, theChain(t).TakenOver(t.Context(), hung))
	t.Logf("the array was taken over %.0f s after a storage node was reset in the middle", time.Since(began).Seconds())
	next := arrayWhole(t, "")
	if now := text(row(t, events.KindMachine, node), "boot"); now == boot {
		t.Errorf("%s was reset, and is in the same boot %s", node, boot)
	}
	lost := stalled(t, "storage node reset while a proxy was fenced off", before, 20)
	wakes(t, hung, next, lost)
}

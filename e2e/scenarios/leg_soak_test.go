//go:build soak

package scenarios

import (
	"fmt"
	"testing"
	"time"

	"cloudengine/events"
)

// legReplaced replaces a leg on each storage node while the VM writes: on the first without more, on the second with the array moving to the other
// proxy meanwhile. The disks that were legs are wiped and free then. A node that is drained has nowhere to give its legs, with two nodes and two
// copies; and while a node is off, its legs cannot follow to the other one.
func legReplaced(t *testing.T) {
	arrayWhole(t, "")
	before := writing(t, 1)
	first := legOn(t, "node1")
	must(t, "array", "replace", sanArray, "--disk", first, "--wait", "--timeout", "8m")
	legLeft(t, first)
	stalled(t, "leg replaced", before, 20)

	second := legOn(t, "node2")
	must(t, "array", "replace", sanArray, "--disk", second)
	must(t, "array", "failover", sanArray, "--wait", "--timeout", "5m")
	eventually(t, 8*time.Minute, "the leg on node2 is replaced", func() (bool, string) {
		a := row(t, events.KindArray, sanArray)
		return a["replacing"] == nil, fmt.Sprint(a)
	})
	legLeft(t, second)
	arrayWhole(t, "")
	lost := stalled(t, "leg replaced while the array moved", before, 20)

	refusedWith(t, 4, "not enough free disks", "machine", "drain", "node1")
	if err := shared.Kill(t.Context(), "node1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Minute, "the array is degraded, and node1 silent", func() (bool, string) {
		a, m := row(t, events.KindArray, sanArray), row(t, events.KindMachine, "node1")
		return text(a, "degraded") == fmt.Sprint(sanSets) && text(m, "state") != "up", fmt.Sprint(a, m)
	})
	refusedWith(t, 4, "no free disk", "array", "replace", sanArray, "--disk", legOn(t, "node1"))
	must(t, "machine", "power", "on", "node1", "--wait", "--timeout", "5m")
	arrayWhole(t, "")
	stalled(t, "storage node without power, and back", lost, 20)
}

// legOn names a leg of the array on a storage node.
func legOn(t *testing.T, node string) string {
	t.Helper()
	for _, d := range rows(t, events.KindDisk) {
		if text(d, "node_name") == node && text(d, "array_name") == sanArray {
			return text(d, "serial")
		}
	}
	t.Fatalf("%s has no leg", node)
	return ""
}

// legLeft waits until a disk that was a leg is wiped and free.
func legLeft(t *testing.T, serial string) {
	t.Helper()
	eventually(t, 5*time.Minute, "disk "+serial+" is free", func() (bool, string) {
		d := row(t, events.KindDisk, serial)
		return d["array"] == nil && d["wiping"] == nil && d["signature"] == nil, fmt.Sprint(d)
	})
}

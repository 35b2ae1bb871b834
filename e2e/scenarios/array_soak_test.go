//go:build soak

package scenarios

import (
	"fmt"
	"testing"
	"time"

	"cloudengine/events"
)

// TestSoakStorage makes the chain over iSCSI, and takes a storage node's power away while the VM writes.
func TestSoakStorage(t *testing.T) {
	for _, m := range shared.Machines() {
		logOnFailure(t, m.Name)
		must(t, "machine", "power", "on", m.Name, "--wait", "--timeout", "5m")
	}
	over(t, events.TransportISCSI, func() {
		t.Run("failover", arrayMoved)
		t.Run("node", nodeDied)
	})
	over(t, events.TransportSRP, func() { t.Run("node", nodeDied) })
}

// nodeDied takes a storage node's power away while the VM writes, and gives it back: its legs are joined again.
func nodeDied(t *testing.T) {
	before := writing(t, 1)
	if err := shared.Kill(t.Context(), "node1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Minute, "the array is degraded and active", func() (bool, string) {
		a := row(t, events.KindArray, sanArray)
		return text(a, "state") == events.ArrayActive && text(a, "degraded") == "2", fmt.Sprint(a)
	})
	lost := writing(t, before.writes+20)
	must(t, "machine", "power", "on", "node1", "--wait", "--timeout", "5m")
	arrayWhole(t, "")
	writing(t, lost.writes+20)
}

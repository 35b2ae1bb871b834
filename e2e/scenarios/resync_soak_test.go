//go:build soak

package scenarios

import (
	"fmt"
	"testing"
	"time"

	"cloudengine/events"
)

// arrayChecked compares the copies of the array while the VM writes: nothing was planted, so nothing differs.
func arrayChecked(t *testing.T) {
	owner, before := arrayWhole(t, ""), writing(t, 1)
	last := text(row(t, events.KindArray, sanArray), "checked_at")
	must(t, "array", "check", sanArray)
	eventually(t, 15*time.Minute, "the check is done", func() (bool, string) {
		a := row(t, events.KindArray, sanArray)
		return text(a, "checked_at") != last, fmt.Sprint(a)
	})
	if a := row(t, events.KindArray, sanArray); text(a, "mismatches") != "0" || text(a, "owner_name") != owner {
		t.Errorf("after the check: %v", a)
	}
	stalled(t, "check", before, 20)
}

// resyncPaused takes a storage node away and gives it back while the array is paused: its legs wait. They are copied to, within a limit, when
// it is not paused any more. The VM writes all the while.
func resyncPaused(t *testing.T) {
	arrayWhole(t, "")
	before := writing(t, 1)
	must(t, "array", "resync", sanArray, "--pause", "--limit", "4MiB/s")
	t.Cleanup(func() { must(t, "array", "resync", sanArray, "--resume", "--limit", "100MiB/s") })
	lost := nodeLost(t, before)
	must(t, "machine", "power", "on", "node1", "--wait", "--timeout", "5m")
	eventually(t, 5*time.Minute, "its legs are there, and wait", func() (bool, string) {
		a := row(t, events.KindArray, sanArray)
		return text(a, "sync_needs") == events.SyncRecover, fmt.Sprint(a)
	})
	waited := stalled(t, "legs that wait for a pause to end", lost, 60)
	if a := row(t, events.KindArray, sanArray); text(a, "degraded") != fmt.Sprint(sanSets) || text(a, "state") != events.ArrayActive {
		t.Errorf("while it is paused: %v", a)
	}
	must(t, "array", "resync", sanArray, "--resume")
	arrayWhole(t, "")
	stalled(t, "legs joined again within a limit", waited, 20)
	if a := row(t, events.KindArray, sanArray); text(a, "degraded_ms") == "0" {
		t.Errorf("the time that it was degraded is not counted: %v", a)
	}
}

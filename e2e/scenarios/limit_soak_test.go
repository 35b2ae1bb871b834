//go:build soak

package scenarios

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"cloudengine/events"
)

// loadRead is what the guest says at each tick: bytes that it read, and the time that took.
var loadRead = regexp.MustCompile(`guest: load xvda read=(\d+) ms=(\d+)`)

// diskLimited bounds what a guest may read from its disk, changes that while it reads, and compares the guest's own figures with it. The VM beside it, on the
// same array, is not bound.
func diskLimited(t *testing.T) {
	const name = "loady"
	before := writing(t, 1)
	must(t, "volume", "create", name, "--account", "demo", "--pool", sanPool, "--size", "32MiB", "--wait", "--timeout", "5m")
	guest(t, name, events.TypePV, "ce.load="+events.SlotPrimary)
	must(t, "volume", "attach", name, "--vm", name)
	must(t, "vm", "start", name, "--wait", "--timeout", "5m")
	for range 2 { // the least that a limit may be: the emulated chain gives little more
		free := loadRate(t, name, 2)
		must(t, "volume", "limit", name, "--read", "1MiB/s")
		bound := loadRate(t, name, 3)
		t.Logf("under a limit of 1 MiB/s its guest reads %.2f MiB/s; without one %.2f", bound, free)
		if free < 1.2 || bound > 1.05 || bound < 0.8 {
			t.Errorf("the limit is not seen in the guest")
		}
		must(t, "volume", "limit", name, "--none")
	}
	stalled(t, "beside a guest that is bound", before, 20)
	eventually(t, 2*time.Minute, "verify finds nothing while both read and write", func() (bool, string) {
		a := verifies(t, "--storage")
		return a.Clean && len(a.Findings) == 0, findings(a)
	})
	must(t, "vm", "stop", name, "--wait", "--timeout", "5m")
	must(t, "volume", "detach", name)
	must(t, "vm", "delete", name)
	must(t, "volume", "delete", name, "--wait", "--timeout", "5m")
}

// loadRate gives MiB/s over so many ticks of the guest, of which the first begins after this was called and a tick has passed.
func loadRate(t *testing.T, vm string, ticks int) float64 {
	t.Helper()
	said := func() [][]string {
		return loadRead.FindAllStringSubmatch(must(t, "vm", "console", vm, "--bytes", "65536"), -1)
	}
	from, all := len(said())+1, [][]string(nil) // what changed may have changed within a tick
	eventually(t, 3*time.Minute, "its guest reads on", func() (bool, string) {
		all = said()
		return len(all) >= from+ticks, fmt.Sprint(all)
	})
	var bytes, ms float64
	for _, m := range all[from : from+ticks] {
		b, err1 := strconv.ParseFloat(m[1], 64)
		d, err2 := strconv.ParseFloat(m[2], 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("its guest said %q", m[0])
		}
		bytes, ms = bytes+b, ms+d
	}
	return bytes / (1 << 20) / (ms / 1000)
}

package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
)

// TestResize: a VM that runs gets smaller and as large as before while it runs, gets a vCPU more, and gets what is beyond its domain at its
// next start. What its host counts follows what its guest has really given back.
func TestResize(t *testing.T) {
	host := text(row(t, events.KindVM, "web1"), "host_name")
	logOnFailure(t, host)
	for _, kind := range []string{events.TypePV, events.TypePVH} {
		t.Run(kind, func(t *testing.T) { resized(t, host, kind) })
	}
	verified(t)
}

func resized(t *testing.T, host, kind string) {
	name := "size-" + kind
	must(t, "vm", "create", name, "--account", "demo", "--template", "guest", "--type", kind, "--ram", "160MiB", "--vcpus", "1", "--max-vcpus", "2")
	must(t, "vm", "start", name, "--host", host, "--wait", "--timeout", "5m")
	eventually(t, 4*time.Minute, "its guest is up", func() (bool, string) { // only then it can give anything back
		out := must(t, "vm", "console", name)
		return strings.Contains(out, "guest: I am"), out
	})
	id := text(row(t, events.KindVM, name), "id")
	has := func(mib, vcpus int) {
		t.Helper()
		eventually(t, 2*time.Minute, fmt.Sprintf("it has %d MiB and %d vCPUs", mib, vcpus), func() (bool, string) {
			have, err := domainsOf(t, host, id)
			return err == nil && len(have) == 1 && have[0].MemoryMiB == mib && have[0].VCPUs == vcpus, fmt.Sprint(have, err)
		})
	}
	used := func() string { return text(row(t, events.KindHost, host), "used_mib") }
	before := used()
	must(t, "vm", "resize", name, "--ram", "128MiB", "--wait", "--timeout", "3m")
	has(128, 1)
	eventually(t, time.Minute, "what it gave back is free", func() (bool, string) { return used() != before, used() })
	must(t, "vm", "resize", name, "--ram", "160MiB", "--vcpus", "2", "--wait", "--timeout", "3m")
	has(160, 2)
	eventually(t, time.Minute, "what it takes is counted again", func() (bool, string) { return used() == before, used() })
	must(t, "vm", "resize", name, "--ram", "192MiB", "--vcpus", "1")
	has(160, 1)
	eventually(t, time.Minute, "it says what it runs with", func() (bool, string) {
		out := must(t, "vm", "show", name)
		return strings.Contains(out, "160 MiB and 1 vCPUs until its next start"), out
	})
	must(t, "vm", "stop", name, "--wait", "--timeout", "3m")
	must(t, "vm", "start", name, "--host", host, "--wait", "--timeout", "5m")
	has(192, 1)
	agree(t, name)
	must(t, "vm", "stop", name, "--wait", "--timeout", "3m")
	must(t, "vm", "delete", name)
}

package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
)

// What the scenario of a guest that boots from its disk makes.
const (
	debTemplate = "debian"
	debVM       = "deb1"
	debKey      = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann@example"
)

// guestBootsFromItsDisk: an image of Debian becomes a template, a volume is filled from it, and the guest boots from that by its own boot loader
// and kernel, on each of the hosts. It is told its name and a key the way cloud-init reads them.
func guestBootsFromItsDisk(t *testing.T, hosts ...string) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "id.pub")
	if err := os.WriteFile(key, []byte(debKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	must(t, "template", "import", debTemplate, "--disk", built("debian/disk.img.zst"), "--min-ram", "256MiB")
	t.Logf("the image is a template after %.0f s", time.Since(began).Seconds())
	began = time.Now()
	must(t, "vm", "create", debVM, "--account", "demo", "--template", debTemplate, "--type", events.TypePV, "--ram", "384MiB", "--vcpus", "1",
		"--pool", sanPool, "--ssh-key", key, "--wait", "--timeout", "15m")
	t.Logf("its disk is made and filled after %.0f s", time.Since(began).Seconds())
	for _, host := range hosts {
		began = time.Now()
		must(t, "vm", "start", debVM, "--host", host, "--wait", "--timeout", "5m")
		eventually(t, 15*time.Minute, "Debian is ready on "+host, func() (bool, string) {
			out := must(t, "vm", "console", debVM, "--bytes", "65536")
			return strings.Contains(out, "debian ready: hostname="+debVM+" keys=1"), out
		})
		t.Logf("it has booted from its disk on %s after %.0f s", host, time.Since(began).Seconds())
		must(t, "vm", "shutdown", debVM, "--wait", "--timeout", "5m")
	}
	must(t, "volume", "detach", debVM)
	must(t, "vm", "delete", debVM)
	must(t, "volume", "delete", debVM, "--wait", "--timeout", "10m")
	must(t, "template", "delete", debTemplate)
}

package scenarios

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudengine/bootimage"
	"cloudengine/commands/api/client"
	"cloudengine/events"
)

// TestImageRollAndBack: a host is given another image and boots it; one that does not boot is taken back by itself; and the host goes back.
func TestImageRollAndBack(t *testing.T) {
	host := idleHost(t)
	first := imageOf(t, host)
	more := imageLike(t, first, func(initrd []byte) []byte {
		tail, err := bootimage.Tail(int64(len(initrd)), bootimage.File{Path: "/etc/cloudengine/second", Data: []byte("a second version\n")})
		if err != nil {
			t.Fatal(err)
		}
		return append(initrd, append(tail, make([]byte, (4-len(tail)%4)%4)...)...)
	})
	broken := imageLike(t, first, func(initrd []byte) []byte { return initrd[:len(initrd)/3/4*4] })

	second := strings.TrimSpace(must(t, "bootimage", "add", more, "--reason", "scenario"))
	interrupted(t, host, "bootimage", "roll", second, "--machines", host, "--canary", "1", "--reason", "scenario")
	if now := imageOf(t, host); now != second {
		t.Fatalf("%s runs image %s after the roll, want %s", host, now, second)
	}
	ready(t, host)
	boot := text(row(t, events.KindHost, host), "boot")
	must(t, "bootimage", "roll", second, "--machines", host, "--reason", "scenario") // it is so already
	if again := text(row(t, events.KindHost, host), "boot"); again != boot {
		t.Fatalf("the same roll again has rebooted %s", host)
	}

	third := strings.TrimSpace(must(t, "bootimage", "add", broken, "--reason", "scenario"))
	refusedWith(t, 1, "runs image "+second+" again", "bootimage", "roll", third, "--machines", host, "--deadline", "1m", "--reason", "scenario")
	ready(t, host)

	refusedWith(t, 4, "runs image "+first, "bootimage", "rm", first)
	must(t, "machine", "set-image", host, second) // nothing to do
	must(t, "machine", "set-image", host, first, "--reason", "scenario")
	if now := imageOf(t, host); now != second {
		t.Fatalf("setting an image has changed what %s runs: %s", host, now)
	}
	must(t, "bootimage", "roll", first, "--machines", host, "--reason", "scenario")
	if now := imageOf(t, host); now != first {
		t.Fatalf("%s runs image %s after going back, want %s", host, now, first)
	}
	ready(t, host)
	must(t, "machine", "set-image", host, "default")
}

// interrupted kills a roll while the host is on its way and runs it again: it goes on, and switches the power once in all.
func interrupted(t *testing.T, host string, words ...string) {
	t.Helper()
	last, id := lastFact(t), text(row(t, events.KindMachine, host), "id")
	first := command(t.Context(), words...)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, "its power is switched", func() (bool, string) {
		state := text(row(t, events.KindMachine, host), "state")
		return state == "off" || state == "powered" || state == "booting", state
	})
	_ = first.Process.Kill()
	if err := first.Wait(); err == nil {
		t.Fatal("the roll was over before it could be interrupted")
	}
	must(t, words...)
	switched := 0
	followFor(t, client.Feed{Kind: events.KindMachine, ID: id, After: last}, func(_ uint64, m events.FeedMessage) {
		if _, is := m.Event.Data.(events.MachinePowerWanted); is {
			switched++
		}
	})
	if switched != 1 {
		t.Errorf("the power of %s was switched %d times by a roll that was interrupted and repeated", host, switched)
	}
}

// TestDiscoveredMachine: a machine that nobody knows asks for a boot, is shown, waits, and becomes a host when it was added.
func TestDiscoveredMachine(t *testing.T) {
	host := idleHost(t)
	m, err := shared.Machine(host)
	if err != nil {
		t.Fatal(err)
	}
	must(t, "machine", "remove", host, "--reason", "scenario")
	if err := shared.Reset(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	eventually(t, 8*time.Minute, "it is shown as discovered, with what its firmware says", func() (bool, string) {
		out := must(t, "machine", "discovered", "ls")
		return strings.Contains(out, m.MAC) && strings.Contains(out, m.Serial) && strings.Contains(out, "Virtual rack"), out
	})
	eventually(t, 8*time.Minute, "it waits, and says on its console what to do", func() (bool, string) {
		lines, err := shared.SerialTail(host, 30)
		return err == nil && strings.Contains(strings.Join(lines, "\n"), "machine add NAME --discovered"), fmt.Sprint(lines, err)
	})
	must(t, "machine", "add", host, "--discovered", m.MAC, "--bmc", m.BMC.String(), "--bmc-user", m.BMCUser, "--bmc-secret", host+"-bmc", "--reason", "scenario")
	eventually(t, 8*time.Minute, "it boots anew and is a host", func() (bool, string) {
		out, errs, code := cli(t, "host", "show", host, "-o", "json")
		return code == 0 && strings.Contains(out, `"ready": true`), out + errs
	})
	if got := text(row(t, events.KindMachine, host), "serial"); got != m.Serial {
		t.Errorf("its serial number is %q, want %q", got, m.Serial)
	}
	if out := must(t, "machine", "discovered", "ls", "-o", "name"); out != "" {
		t.Errorf("it is still among the discovered: %s", out)
	}
	eventually(t, 2*time.Minute, "its controller is known again", func() (bool, string) {
		r := row(t, events.KindMachine, host)
		return text(r, "bmc_healthy") == "true", fmt.Sprint(r)
	})
}

// TestImageBuildsAgain: from its manifest and our sources, nothing of the first build at hand but the packages, an image has the same bytes.
func TestImageBuildsAgain(t *testing.T) {
	current := filepath.Join(repo, "bin/image/current")
	want, err := bootimage.Verify(current)
	if err != nil {
		t.Fatal(err)
	}
	out, cache := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(cache, "debs"), 0o755); err != nil {
		t.Fatal(err)
	}
	debs, err := filepath.Glob(filepath.Join(repo, "bin/cache/debs/*.deb"))
	if err != nil {
		t.Fatal(err)
	}
	for _, deb := range debs {
		if err := os.Link(deb, filepath.Join(cache, "debs", filepath.Base(deb))); err != nil {
			if raw, rerr := os.ReadFile(deb); rerr != nil || os.WriteFile(filepath.Join(cache, "debs", filepath.Base(deb)), raw, 0o644) != nil {
				t.Fatal(err)
			}
		}
	}
	again := strings.TrimSpace(must(t, "bootimage", "build", "--source", repo, "--like", current, "--out", out, "--cache", cache))
	got, err := bootimage.Verify(filepath.Join(out, again))
	if err != nil {
		t.Fatal(err)
	}
	if got.Version != want.Version {
		t.Errorf("it is another image:\n%s", must(t, "bootimage", "diff", current, filepath.Join(out, again)))
	}
	for _, p := range want.Parts {
		a, aerr := os.ReadFile(filepath.Join(current, p.Name))
		b, berr := os.ReadFile(filepath.Join(out, again, p.Name))
		if aerr != nil || berr != nil || !bytes.Equal(a, b) {
			t.Errorf("%s has other bytes (%v, %v)", p.Name, aerr, berr)
		}
	}
}

// idleHost finds a host that runs no VM.
func idleHost(t *testing.T) string {
	t.Helper()
	for _, m := range shared.Machines() {
		if r := row(t, events.KindHost, m.Name); text(r, "vms") == "0" && text(r, "ready") == "true" {
			return m.Name
		}
	}
	t.Fatal("every host runs a VM: this scenario needs one that may be switched off")
	return ""
}

// imageOf tells which image a machine has enrolled with.
func imageOf(t *testing.T, machine string) string {
	t.Helper()
	return text(row(t, events.KindMachine, machine), "image")
}

func ready(t *testing.T, host string) {
	t.Helper()
	if r := row(t, events.KindHost, host); text(r, "ready") != "true" || text(r, "cordoned") != "false" {
		t.Fatalf("%s is not back in placement: %v", host, r)
	}
	if c := text(row(t, events.KindMachine, host), "contradiction"); c != "" {
		t.Fatalf("%s contradicts: %s", host, c)
	}
}

// imageLike makes another version of an image of this rack, with a changed initramfs, and gives its directory.
func imageLike(t *testing.T, version string, change func([]byte) []byte) string {
	t.Helper()
	from, to := filepath.Join(dir, "data", "netboot", "images", version), t.TempDir()
	m, err := bootimage.ReadManifest(from)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range m.Parts {
		raw, err := os.ReadFile(filepath.Join(from, p.Name))
		if err != nil {
			t.Fatal(err)
		}
		if p.Name == bootimage.InitrdFile {
			raw = change(raw)
		}
		sum := sha256.Sum256(raw)
		m.Parts[i].Size, m.Parts[i].SHA256 = int64(len(raw)), hex.EncodeToString(sum[:])
		if err := os.WriteFile(filepath.Join(to, p.Name), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Seal(); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, bootimage.ManifestFile), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return to
}

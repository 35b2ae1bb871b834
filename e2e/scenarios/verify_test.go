package scenarios

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
)

// byHand3 is a domain that someone makes by hand.
const byHand3 = "0c0c0c0c-1111-4222-8333-444444444444"

// verifies runs "verify" and gives what it found. Exit code and answer must agree.
func verifies(t *testing.T, sections ...string) wire.CloudVerifyAnswer {
	t.Helper()
	out, errs, code := cli(t, append([]string{"verify", "-o", "json"}, sections...)...)
	var a wire.CloudVerifyAnswer
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatalf("verify: %v, exit code %d\n%s%s", err, code, out, errs)
	}
	if a.Clean != (code == 0) || code > 1 {
		t.Fatalf("verify: exit code %d, and clean is %t\n%s", code, a.Clean, errs)
	}
	return a
}

func findings(a wire.CloudVerifyAnswer) string {
	var b strings.Builder
	for _, f := range a.Findings {
		fmt.Fprintf(&b, "\n%s %s %s: %s; want %s, have %s %s", f.Severity, f.Check, f.Object(), f.What, f.Want, f.Have, f.Moving)
	}
	return b.String()
}

// isClean waits until verify finds nothing, and everything answers.
func isClean(t *testing.T, limit time.Duration) {
	t.Helper()
	eventually(t, limit, "verify finds nothing", func() (bool, string) {
		a := verifies(t)
		return a.Clean && len(a.Findings) == 0, findings(a)
	})
}

// finds runs verify, which must find one of these checks of an object whose name or id holds a text. A host whose tools hang for a moment,
// as they do under emulation, is asked again; so is one where something moves still.
func finds(t *testing.T, section, object string, checks ...string) {
	t.Helper()
	for try := 1; ; try++ {
		a := verifies(t, "--"+section)
		t.Logf("verify --%s:%s", section, findings(a))
		silent := false
		for _, f := range a.Findings {
			silent = silent || f.Severity == "?" || f.Severity == "settling"
			if slices.Contains(checks, f.Check) && strings.Contains(f.Name+" "+f.ID, object) && f.Severity != "settling" {
				return
			}
		}
		if !silent || try == 6 {
			t.Fatalf("verify --%s does not find %v of %s:%s", section, checks, object, findings(a))
		}
	}
}

// TestVerifyFindsPlantedFaults: what someone changes by hand, in the database, in the files of the server, or on a host, is found by one
// command, and nothing is found before and after.
func TestVerifyFindsPlantedFaults(t *testing.T) {
	host := text(row(t, events.KindVM, "web1"), "host_name")
	logOnFailure(t, host)
	guest(t, "planted", events.TypePV)
	must(t, "vm", "start", "planted", "--host", host, "--wait", "--timeout", "5m")
	isClean(t, 3*time.Minute)
	t.Run("rows", plantedRows)
	t.Run("files", plantedFiles)
	t.Run("stamp", func(t *testing.T) { plantedStamp(t, host) })
	t.Run("domain", func(t *testing.T) { plantedDomain(t, host) })
	t.Run("memory", func(t *testing.T) { plantedMemory(t, host) })
	t.Run("mended", func(t *testing.T) { plantedAndMended(t, host) })
	t.Run("silent", func(t *testing.T) { plantedWhileSilent(t, host) })
	isClean(t, 3*time.Minute)
	t.Log(must(t, "verify", "--power"))
	must(t, "vm", "stop", "planted", "--wait", "--timeout", "5m")
	must(t, "vm", "delete", "planted")
}

func plantedRows(t *testing.T) {
	db := database(t)
	for _, c := range []struct{ plant, mend, check, object string }{
		{"UPDATE vms SET memory_mib = memory_mib + 1 WHERE name = 'planted'", "UPDATE vms SET memory_mib = memory_mib - 1 WHERE name = 'planted'", "row_changed", "planted"},
		{"UPDATE accounts SET id = 'ffffffff-0000-4000-8000-000000000000' WHERE name = 'demo'", "UPDATE accounts SET id = (SELECT account FROM vms WHERE name = 'planted') WHERE name = 'demo'",
			"row_missing", "demo"},
		{"INSERT INTO secrets VALUES ('ffffffff-0000-4000-8000-000000000000', 'mine', 1, 'f00d', 1, NOW(6))", "DELETE FROM secrets WHERE name = 'mine'", "row_extra", "mine"},
	} {
		if _, err := db.Exec(c.plant); err != nil {
			t.Fatal(err)
		}
		finds(t, "rows", c.object, c.check)
		if _, err := db.Exec(c.mend); err != nil {
			t.Fatal(err)
		}
	}
}

func plantedFiles(t *testing.T) {
	path := filepath.Join(dir, "data", "blobs", text(row(t, events.KindTemplate, "guest"), "kernel_sha256"))
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(was)-1)); err != nil {
		t.Fatal(err)
	}
	finds(t, "files", "guest", "blob")
	if err := os.WriteFile(path, was, 0o644); err != nil {
		t.Fatal(err)
	}
}

// plantedStamp: the agent leaves a domain alone whose stamp is of a grant that it does not know.
func plantedStamp(t *testing.T, host string) {
	d := one(t, host, "planted")
	node := fmt.Sprintf("/local/domain/0/cloudengine/%d/epoch", d.DomID)
	write := func(epoch string) {
		eventually(t, 30*time.Second, "the stamp is "+epoch, func() (bool, string) {
			sh(t, host, "xenstore-write "+node+" "+epoch)
			said := sh(t, host, "xenstore-read "+node)
			return strings.Contains(said, epoch), said
		})
	}
	write("9.9")
	finds(t, "hosts", "planted", "stamp_high")
	write(d.Epoch.String())
	isClean(t, 3*time.Minute)
	if now := one(t, host, "planted"); now.DomID != d.DomID {
		t.Fatalf("its domain was %+v and is %+v", d, now)
	}
}

func plantedDomain(t *testing.T, host string) {
	makeByHand(t, host, "byhand3", byHand3, "")
	finds(t, "hosts", "byhand3", "domain_unknown", "orphan")
	eventually(t, time.Minute, "the log knows it", func() (bool, string) {
		all := orphans(t)
		return all[byHand3] != nil, fmt.Sprint(all)
	})
	finds(t, "hosts", "byhand3", "orphan")
	must(t, "host", "orphan", "stop", byHand3, "--reason", "planted, e2e")
	isClean(t, 3*time.Minute)
}

// plantedMemory: the guest gives memory back when it is told to, and nobody mends that.
func plantedMemory(t *testing.T, host string) {
	d := one(t, host, "planted")
	sh(t, host, fmt.Sprintf("%s mem-set %d %dm", xl, d.DomID, d.MemoryMiB-16))
	eventually(t, time.Minute, "the guest gives memory back", func() (bool, string) {
		have, err := domainsOf(t, host, d.UUID)
		return err == nil && len(have) == 1 && have[0].MemoryMiB < d.MemoryMiB, fmt.Sprint(have, err)
	})
	finds(t, "hosts", "planted", "memory")
	sh(t, host, fmt.Sprintf("%s mem-set %d %dm", xl, d.DomID, d.MemoryMiB))
	isClean(t, 3*time.Minute)
}

// plantedAndMended: the agent looks every 15 s and mends these. Planted just after it has looked, they are there long enough; and the more
// often it had to mend the same, the longer it waits.
func plantedAndMended(t *testing.T, host string) {
	d := one(t, host, "planted")
	for _, c := range []struct {
		check, plant string
		mended       func(events.DomainReport) bool
	}{
		{"weight", fmt.Sprintf("%s sched-credit -d %d -w 999", xl, d.DomID), func(now events.DomainReport) bool { return now.Weight == d.Weight }},
		{"paused", fmt.Sprintf("%s pause %d", xl, d.DomID), func(now events.DomainReport) bool { return now.State == events.DomainRunning }},
	} {
		mended := func() {
			eventually(t, time.Minute, c.check+" is mended", func() (bool, string) {
				have, err := domainsOf(t, host, d.UUID)
				return err == nil && len(have) == 1 && c.mended(have[0]), fmt.Sprint(have, err)
			})
		}
		found := false
		for try := 0; try < 8 && !found; try++ {
			sh(t, host, c.plant)
			mended()
			sh(t, host, c.plant) // now the agent has just looked
			a := verifies(t, "--hosts")
			for _, f := range a.Findings {
				found = found || f.Check == c.check && f.Severity == "error"
			}
			t.Logf("verify --hosts:%s", findings(a))
			mended()
		}
		if !found {
			t.Fatalf("%s: it was not found in eight tries", c.check)
		}
	}
}

// plantedWhileSilent: an agent that is stopped answers nothing. What became of its host is not known, and is told so: "?".
func plantedWhileSilent(t *testing.T, host string) {
	d := one(t, host, "planted")
	signal := func(number int) {
		sh(t, host, fmt.Sprintf("for p in /proc/[0-9]*; do read c < $p/comm && case $c in noded) /bbin/kill -%d ${p#/proc/};; esac; done", number))
	}
	signal(19) // SIGSTOP
	sh(t, host, fmt.Sprintf("%s destroy %d", xl, d.DomID))
	out, _, code := cli(t, "verify", "--hosts")
	if code != 1 || !strings.Contains(out, "?") || !strings.Contains(out, host) {
		t.Errorf("verify: exit code %d\n%s", code, out)
	}
	t.Log(out)
	signal(18) // SIGCONT
	isClean(t, 3*time.Minute)
	if now := one(t, host, "planted"); now.DomID == d.DomID || now.Epoch != d.Epoch {
		t.Fatalf("its domain was %+v and is %+v", d, now)
	}
}

package scenarios

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"
)

// TestGuestsEndByThemselves: power-off is the end of the grant and of the wish; a crash is shown; a reboot is made again under the same
// grant, also while the control plane cannot be reached.
func TestGuestsEndByThemselves(t *testing.T) {
	host := text(row(t, events.KindVM, "web1"), "host_name")
	logOnFailure(t, host)
	bystander := one(t, host, "web1")
	for name, word := range map[string]string{"off": "poweroff", "crash": "crash", "again": "reboot"} {
		guest(t, name, events.TypePV, "ce.after=15:"+word)
		must(t, "vm", "start", name, "--host", host, "--wait", "--timeout", "5m")
	}
	t.Run("poweroff", func(t *testing.T) { poweredOff(t, host) })
	t.Run("crash", func(t *testing.T) { crashed(t, host) })
	t.Run("reboot", func(t *testing.T) { rebooted(t, host) })
	if now := one(t, host, "web1"); now.DomID != bystander.DomID {
		t.Fatalf("web1 was %+v and is %+v", bystander, now)
	}
	verified(t)
}

func poweredOff(t *testing.T, host string) {
	eventually(t, 2*time.Minute, "powered off", vmState(t, "off", "stopped"))
	vm := row(t, events.KindVM, "off")
	if text(vm, "wanted") != "stopped" || text(vm, "host") != "" {
		t.Fatalf("after the guest's power-off: %v", vm)
	}
	all := strings.Join(facts(t, client.Feed{Kind: events.KindVM, ID: text(vm, "id")}, events.VMGrantEnded{}.EventType()), " ")
	if strings.Count(all, events.VMRunGranted{}.EventType()) != 1 {
		t.Fatalf("it was granted more than once: %s", all)
	}
	if d := one(t, host, "off"); d.UUID != "" {
		t.Fatalf("there still is %+v", d)
	}
	must(t, "vm", "delete", "off")
}

func crashed(t *testing.T, host string) {
	eventually(t, 2*time.Minute, "crashed", vmState(t, "crash", "crashed"))
	d := one(t, host, "crash")
	if d.State != events.DomainCrashed || d.ShutdownReason != "crash" {
		t.Fatalf("the host says %+v", d)
	}
	if out := must(t, "vm", "console", "crash", "--bytes", "65536"); !strings.Contains(out, "guest: crashing") {
		t.Fatalf("the console does not tell of the crash:\n%s", out)
	}
	must(t, "vm", "reboot", "crash", "--wait", "--timeout", "5m")
	if again := one(t, host, "crash"); again.DomID == d.DomID || again.Epoch != d.Epoch {
		t.Fatalf("after the reboot: %+v, before: %+v", again, d)
	}
	must(t, "vm", "stop", "crash", "--wait", "--timeout", "5m")
	if d := one(t, host, "crash"); d.UUID != "" {
		t.Fatalf("there still is %+v", d)
	}
	must(t, "vm", "delete", "crash")
}

func rebooted(t *testing.T, host string) {
	vm := row(t, events.KindVM, "again")
	id := text(vm, "id")
	first := one(t, host, "again").DomID
	eventually(t, 3*time.Minute, "made again", func() (bool, string) {
		have, err := domainsOf(t, host, id)
		return err == nil && len(have) == 1 && have[0].DomID > first, fmt.Sprint(have, err)
	})
	if err := shared.CutBus(host); err != nil {
		t.Fatal(err)
	}
	cut := 0
	eventually(t, time.Minute, "there is one while cut off", func() (bool, string) { cut = domIDByHand(t, host, id); return cut > 0, "none" })
	eventually(t, 3*time.Minute, "made again while cut off", func() (bool, string) {
		now := domIDByHand(t, host, id)
		return now > cut, fmt.Sprint(now)
	})
	eventually(t, 2*time.Minute, "unknown", vmState(t, "again", "unknown"))
	if err := shared.Restore(host); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, "known again", func() (bool, string) {
		r := row(t, events.KindVM, "again")
		return text(r, "state") == "running" && text(row(t, events.KindHost, host), "silent") != "true", fmt.Sprint(r)
	})
	if now := row(t, events.KindVM, "again"); text(now, "epoch") != text(vm, "epoch") || text(now, "host_name") != host {
		t.Fatalf("a reboot needs no new grant; before %v, after %v", vm, now)
	}
	must(t, "vm", "stop", "again", "--wait", "--timeout", "5m")
	if d := one(t, host, "again"); d.UUID != "" {
		t.Fatalf("there still is %+v", d)
	}
	must(t, "vm", "delete", "again")
}

// domIDByHand asks xl at the console for the domain of a UUID; 0: there is none just now. Two are a failure.
func domIDByHand(t *testing.T, host, uuid string) int {
	t.Helper()
	rows := regexp.MustCompile(`(?m)^\S+ +(\d+) .* `+regexp.QuoteMeta(uuid)+` `).FindAllStringSubmatch(sh(t, host, xl+" list -v"), -1)
	if len(rows) > 1 {
		t.Fatalf("two domains of %s: %q", uuid, rows)
	}
	if len(rows) == 0 {
		return 0
	}
	n, err := strconv.Atoi(rows[0][1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

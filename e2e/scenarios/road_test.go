package scenarios

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"
)

// TestRoad: the VM that "up" has started agrees in the log, in MariaDB, in the CLI, in xl and in xenstore.
func TestRoad(t *testing.T) {
	vm := row(t, events.KindVM, "web1")
	if text(vm, "state") != "running" {
		t.Fatalf("web1: %v", vm)
	}
	agree(t, "web1")
	if out := must(t, "vm", "console", "web1"); !strings.Contains(out, "name=web1") {
		t.Fatalf("the guest does not say who it is on its console:\n%s", out)
	}
	if out := must(t, "vm", "list", "-o", "name"); !strings.Contains(out, "web1") {
		t.Fatalf("vm list: %s", out)
	}
}

// agree compares the read model by the bus, the table by SQL, and the host's own tools. They are asked one after the other, so what moves
// in between is asked again.
func agree(t *testing.T, name string) {
	t.Helper()
	db := database(t)
	eventually(t, time.Minute, name+" is the same everywhere", func() (bool, string) {
		what := differs(t, db, name)
		return what == "", what
	})
}

// differs says in what the three differ.
func differs(t *testing.T, db *sql.DB, name string) string {
	t.Helper()
	vm := row(t, events.KindVM, name)
	var sqlState, sqlHost string
	var mem, vcpus, weight int
	if err := db.QueryRow("SELECT state, host_name, memory_mib, vcpus, weight FROM vms WHERE name = ?", name).Scan(&sqlState, &sqlHost, &mem, &vcpus, &weight); err != nil {
		t.Fatalf("read MariaDB: %v", err)
	}
	all, err := domainsOf(t, text(vm, "host_name"), text(vm, "id"))
	if err != nil {
		return err.Error()
	}
	if len(all) != 1 {
		return fmt.Sprintf("host %s has %d domains of %s, must have one", text(vm, "host_name"), len(all), name)
	}
	d := all[0]
	here := fmt.Sprint(d.State, d.MemoryMiB, d.VCPUs, d.Weight, d.UUID, d.DomID)
	there := fmt.Sprint(text(vm, "state"), text(vm, "memory_mib"), text(vm, "vcpus"), text(vm, "weight"), text(vm, "id"), text(vm, "domid"))
	if strings.ReplaceAll(here, " ", "") != strings.ReplaceAll(there, " ", "") {
		return fmt.Sprintf("xl says %s, the log says %s", here, there)
	}
	if fmt.Sprint(sqlState, sqlHost, mem, vcpus, weight) != fmt.Sprint(text(vm, "state"), text(vm, "host_name"), d.MemoryMiB, d.VCPUs, d.Weight) {
		return fmt.Sprintf("MariaDB says %s on %s, %d MiB, %d vCPUs, weight %d; xl says %s", sqlState, sqlHost, mem, vcpus, weight, here)
	}
	if !d.Stamped || d.Epoch.String() != text(vm, "epoch") {
		return fmt.Sprintf("xenstore says epoch %s, the log says %s", d.Epoch, text(vm, "epoch"))
	}
	return ""
}

// TestLife: a PVH guest from creation to deletion.
func TestLife(t *testing.T) {
	must(t, "vm", "create", "life", "--account", "demo", "--template", "guest", "--type", "pvh", "--ram", "128MiB", "--vcpus", "1")
	must(t, "vm", "start", "life", "--wait", "--timeout", "5m")
	agree(t, "life")
	must(t, "vm", "pause", "life", "--wait")
	eventually(t, time.Minute, "paused", vmState(t, "life", "paused"))
	agree(t, "life")
	must(t, "vm", "resume", "life", "--wait")
	agree(t, "life")
	before := row(t, events.KindVM, "life")
	must(t, "vm", "reboot", "life", "--wait", "--timeout", "5m")
	after := row(t, events.KindVM, "life")
	if text(before, "epoch") != text(after, "epoch") || text(before, "domid") == text(after, "domid") {
		t.Fatalf("a reboot is a new domain under the same grant; before %s %s, after %s %s",
			text(before, "epoch"), text(before, "domid"), text(after, "epoch"), text(after, "domid"))
	}
	agree(t, "life")
	refusedWith(t, 4, "stop it first", "vm", "delete", "life")
	must(t, "vm", "shutdown", "life", "--wait", "--timeout", "5m")
	if r := row(t, events.KindVM, "life"); text(r, "state") != "stopped" {
		t.Fatalf("after the shutdown: %v", r)
	}
	must(t, "vm", "start", "life", "--wait", "--timeout", "5m")
	must(t, "vm", "stop", "life", "--wait")
	must(t, "vm", "delete", "life")
	refusedWith(t, 3, "", "vm", "show", "life")
}

// TestBadInput: a clear error each, and nothing changes.
func TestBadInput(t *testing.T) {
	refusedWith(t, 2, "want a size", "vm", "create", "bad", "--account", "demo", "--template", "guest", "--ram", "0")
	refusedWith(t, 4, "more than any host", "vm", "create", "bad", "--account", "demo", "--template", "guest", "--ram", "64GiB")
	refusedWith(t, 2, "name", "vm", "create", "Bad_Name!", "--account", "demo", "--template", "guest", "--ram", "128MiB")
	refusedWith(t, 4, "already", "vm", "create", "web1", "--account", "demo", "--template", "guest", "--ram", "128MiB")
	refusedWith(t, 5, "running_vms", "machine", "power", "off", text(row(t, events.KindVM, "web1"), "host_name"))
	refusedWith(t, 3, "nosuch", "vm", "start", "nosuch")
}

// TestCutOffThenProvenOff: silence is not proof. The VM runs elsewhere after the power was read back off, and its first host comes back
// with a new boot and an empty list.
func TestCutOffThenProvenOff(t *testing.T) {
	vm := row(t, events.KindVM, "web1")
	first, epoch := text(vm, "host_name"), text(vm, "epoch")
	feed := client.Feed{Kind: events.KindVM, ID: text(vm, "id"), New: true}
	_ = feed
	if err := shared.CutBus(first); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Minute, "unknown", vmState(t, "web1", "unknown"))
	refusedWith(t, 5, "end_proof", "vm", "start", "web1")
	must(t, "machine", "power", "off", first, "--override", "running_vms", "--reason", "cut off, e2e", "--wait", "--timeout", "5m")
	eventually(t, 5*time.Minute, "runs elsewhere", func() (bool, string) {
		r := row(t, events.KindVM, "web1")
		return text(r, "state") == "running" && text(r, "host_name") != first, text(r, "state") + " on " + text(r, "host_name")
	})
	if text(row(t, events.KindVM, "web1"), "epoch") == epoch {
		t.Fatal("the VM runs elsewhere under the same epoch")
	}
	agree(t, "web1")
	if err := shared.Restore(first); err != nil {
		t.Fatal(err)
	}
	must(t, "machine", "power", "on", first, "--wait", "--timeout", "5m")
	eventually(t, 10*time.Minute, "ready again", func() (bool, string) {
		r := row(t, events.KindHost, first)
		return text(r, "ready") == "true" || text(r, "ready") == "1", fmt.Sprint(r)
	})
	if d := inspect(t, first); len(d) != 0 {
		t.Fatalf("after a new boot there are domains: %+v", d)
	}
}

// TestOverrideAndTheHostComesBackRunning: a human's word lets the VM run elsewhere; the old host returns with the old domain, which is
// paused and destroyed at once, and both facts are in the log.
func TestOverrideAndTheHostComesBackRunning(t *testing.T) {
	vm := row(t, events.KindVM, "web1")
	first := text(vm, "host_name")
	if err := shared.CutBus(first); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Minute, "unknown", vmState(t, "web1", "unknown"))
	must(t, "vm", "start", "web1", "--override", "end_proof", "--reason", "I pulled its plug, e2e", "--wait", "--timeout", "5m")
	second := row(t, events.KindVM, "web1")
	if text(second, "host_name") == first {
		t.Fatal("started on the silent host")
	}
	if err := shared.Restore(first); err != nil {
		t.Fatal(err)
	}
	types := facts(t, client.Feed{Kind: events.KindVM, ID: text(vm, "id")}, events.VMStaleDomainEnded{}.EventType())
	if all := strings.Join(types, " "); !strings.Contains(all, events.VMStaleDomainFound{}.EventType()) {
		t.Fatalf("the stale domain was ended, and not recorded as found: %s", all)
	}
	if d := inspect(t, first); len(d) != 0 {
		t.Fatalf("the old domain is still there: %+v", d)
	}
	agree(t, "web1")
}

package scenarios

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
)

// Domains that someone makes by hand on a host.
const (
	adopted  = "0a0a0a0a-1111-4222-8333-444444444444"
	unwanted = "0b0b0b0b-1111-4222-8333-444444444444"
)

// makeByHand does what a person does who knows nothing of us: a file and "xl create", which leaves a process behind that waits for the
// domain's end. It boots what noded has fetched for its own.
func makeByHand(t *testing.T, host, name, uuid, words string) {
	t.Helper()
	template := row(t, events.KindTemplate, "guest")
	const blobs = "/run/cloudengine/blobs/"
	sh(t, host, fmt.Sprintf(`printf '%%s\n' 'name="%s"' 'uuid="%s"' 'type="pv"' 'memory=128' 'vcpus=1' 'kernel="%s"' 'ramdisk="%s"' 'cmdline="console=hvc0 ce.name=%s %s"' > /tmp/%s.cfg`,
		name, uuid, blobs+text(template, "kernel_sha256"), blobs+text(template, "ramdisk_sha256"), name, words, name))
	sh(t, host, xl+" create -q /tmp/"+name+".cfg > /tmp/"+name+".log 2>&1")
}

func orphans(t *testing.T) map[string]map[string]any {
	t.Helper()
	var list []map[string]any
	if err := json.Unmarshal([]byte(must(t, "host", "orphan", "list", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]any{}
	for _, o := range list {
		out[text(o, "uuid")] = o
	}
	return out
}

// byHand finds a domain on a host by its UUID.
func byHand(t *testing.T, host, uuid string) (found []events.DomainReport) {
	t.Helper()
	for _, d := range inspect(t, host) {
		if d.UUID == uuid {
			found = append(found, d)
		}
	}
	return found
}

// TestOrphans: what is no VM of ours is listed and left alone, until someone adopts or stops it.
func TestOrphans(t *testing.T) {
	host := text(row(t, events.KindVM, "web1"), "host_name")
	logOnFailure(t, host)
	guest(t, "heir", events.TypePV)
	must(t, "vm", "create", "other", "--account", "demo", "--template", "guest", "--ram", "160MiB", "--vcpus", "1")
	makeByHand(t, host, "byhand1", adopted, "ce.after=75:reboot")
	makeByHand(t, host, "byhand2", unwanted, "")
	eventually(t, time.Minute, "listed", func() (bool, string) {
		all := orphans(t)
		o := all[adopted]
		return o != nil && all[unwanted] != nil && text(o, "memory_mib") == "128" && text(o, "vcpus") == "1" && text(o, "name") == "byhand1", fmt.Sprint(all)
	})
	made := byHand(t, host, adopted)
	if len(made) != 1 || made[0].Stamped || made[0].State != events.DomainRunning {
		t.Fatalf("it was not left alone: %+v", made)
	}
	refusedWith(t, 4, "must be equal", "host", "orphan", "adopt", adopted, "--vm", "other")
	refusedWith(t, 4, "already", "host", "orphan", "adopt", adopted, "--vm", "web1")
	must(t, "host", "orphan", "adopt", adopted, "--vm", "heir")
	eventually(t, time.Minute, "adopted", vmState(t, "heir", "running"))
	vm, now := row(t, events.KindVM, "heir"), one(t, host, "heir")
	if now.UUID != adopted || now.DomID != made[0].DomID || now.State != events.DomainRunning {
		t.Fatalf("the orphan was %+v and is %+v", made[0], now)
	}
	if left := orphans(t); left[adopted] != nil || left[unwanted] == nil {
		t.Fatalf("orphans after the adoption: %v", left)
	}
	eventually(t, 2*time.Minute, "its console is read", func() (bool, string) {
		out := must(t, "vm", "console", "heir")
		return strings.Contains(out, "name=byhand1"), out
	})
	must(t, "host", "orphan", "stop", unwanted, "--reason", "nobody knows it, e2e")
	eventually(t, time.Minute, "the orphan is gone", func() (bool, string) {
		all := orphans(t)
		return len(all) == 0 && len(byHand(t, host, unwanted)) == 0, fmt.Sprint(all)
	})
	// Its guest reboots. The process that "xl create" had left behind would make it again too, and it would run twice.
	eventually(t, 6*time.Minute, "its guest reboots, and it is made again", func() (bool, string) {
		have, err := domainsOf(t, host, text(vm, "id"))
		return err == nil && len(have) == 1 && have[0].UUID == text(vm, "id") && have[0].State == events.DomainRunning, fmt.Sprint(have, err)
	})
	if d := one(t, host, "heir"); d.Epoch != now.Epoch {
		t.Fatalf("made again it is %+v", d)
	}
	if twins := byHand(t, host, adopted); len(twins) != 0 {
		t.Fatalf("the VM runs twice: %+v", twins)
	}
	agree(t, "heir")
	must(t, "vm", "stop", "heir", "--wait")
	one(t, host, "heir")
	must(t, "vm", "delete", "heir")
	must(t, "vm", "delete", "other")
	verified(t)
}

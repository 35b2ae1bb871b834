package scenarios

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
)

// machineArgs keep the kernel from looking for hardware by ports, each access to which is an exit to the device model: it boots ten times as fast.
const machineArgs = "console=ttyS0 quiet pci=noearly iommu=noaperture"

// deviceModels asks at the console which processes emulate machines, and gives the domain that each is for. They must have no rights there.
func deviceModels(t *testing.T, host string) (domains []int) {
	t.Helper()
	out := sh(t, host, `for p in /proc/[0-9]*; do read c < $p/comm && case $c in xen-qemu*) echo model ${p#/proc/};; esac; done; echo over`)
	for _, m := range regexp.MustCompile(`(?m)^model (\d+)`).FindAllStringSubmatch(out, -1) {
		status := sh(t, host, "cat /proc/"+m[1]+"/status 2>/dev/null || true")
		if strings.TrimSpace(status) == "" || strings.Contains(status, "State:\tZ") {
			continue // it has ended; a thread of it may wait in the kernel for long (synchronize_rcu_expedited, seen under emulation)
		}
		uid := regexp.MustCompile(`Uid:\s+(\d+)\s+(\d+)`).FindStringSubmatch(status)
		if uid == nil || uid[1] == "0" || uid[2] == "0" || !strings.Contains(status, "CapEff:\t0000000000000000") {
			t.Fatalf("a device model has rights in the control domain:\n%s", status)
		}
		if !regexp.MustCompile(`SigIgn:\s+[0-9a-f]*[13579bdf][0-9a-f]{6}\b`).MatchString(status) { // SIGXFSZ, 25
			t.Fatalf("a device model would die of a full log:\n%s", status)
		}
		user, err := strconv.Atoi(uid[1])
		if err != nil {
			t.Fatal(err)
		}
		domains = append(domains, user-131072) // bootimage/build: one user for each domain
	}
	return domains
}

// TestHVM: an emulated machine from creation to deletion. Its guest finds the machine's devices and Xen's own, reboots by itself while the
// agent is killed, and leaves nothing behind; what it printed last can be read when it is gone.
func TestHVM(t *testing.T) {
	host := text(row(t, events.KindVM, "web1"), "host_name")
	logOnFailure(t, host)
	bystander := one(t, host, "web1")
	must(t, "template", "import", "machine", "--kernel", built("guest/vmlinuz"), "--ramdisk", built("guest/guest.img"),
		"--cmdline", machineArgs, "--min-ram", "96MiB")
	must(t, "vm", "create", "emu", "--account", "demo", "--template", "machine", "--type", "hvm", "--ram", "128MiB", "--vcpus", "1",
		"--cmdline", machineArgs+" ce.after=60:reboot")
	must(t, "vm", "start", "emu", "--host", host, "--wait", "--timeout", "5m")
	first := one(t, host, "emu")
	if first.MemoryMiB != 128 {
		t.Fatalf("the host says %+v", first)
	}
	eventually(t, 8*time.Minute, "the guest says what it is", func() (bool, string) {
		out := must(t, "vm", "console", "emu", "--bytes", "65536")
		return strings.Contains(out, "type=HVM") && regexp.MustCompile(`drivers emulated=8086:1237\S*5853:0001\S* xen=\S*vkbd\S* clock=xen`).MatchString(out), out
	})
	if models := deviceModels(t, host); fmt.Sprint(models) != fmt.Sprint([]int{first.DomID}) {
		t.Fatalf("device models are for %v, its domain is %d", models, first.DomID)
	}
	k := startKilling(t, host, first.UUID, 3)
	eventually(t, 8*time.Minute, "its guest rebooted, and it was made again", func() (bool, string) {
		have, err := domainsOf(t, host, first.UUID)
		return err == nil && len(have) == 1 && have[0].DomID > first.DomID && have[0].Epoch == first.Epoch && have[0].State == events.DomainRunning, fmt.Sprint(have, err)
	})
	t.Logf("the agent was killed %d times, xl %d times", k.stop(), k.tools)
	must(t, "vm", "stop", "emu", "--wait", "--timeout", "5m")
	one(t, host, "emu")
	eventually(t, time.Minute, "its device models and console are gone", func() (bool, string) {
		models, left := deviceModels(t, host), sh(t, host, "ls /var/log/xen /var/log/xen/console")
		return len(models) == 0 && !strings.Contains(left, "-emu"), fmt.Sprint(models, left)
	})
	if out := must(t, "vm", "console", "emu", "--last-run", "--bytes", "65536"); !strings.Contains(out, "name=emu") {
		t.Fatalf("the end of its console was not kept:\n%s", out)
	}
	must(t, "vm", "delete", "emu")
	must(t, "template", "delete", "machine")
	if now := one(t, host, "web1"); now.DomID != bystander.DomID {
		t.Fatalf("web1 was %+v and is %+v", bystander, now)
	}
	verified(t)
}

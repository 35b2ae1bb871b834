package host_test

import (
	"context"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/host"
	"cloudengine/workers/workertest"
)

func seedOf(hostname string) desired.Seed {
	return desired.Seed{Hostname: hostname, Keys: []string{"ssh-ed25519 AAAA a@b"}}
}

// diskBooted is a domain that boots from its disk and is told its host name.
func diskBooted(want string, epoch uint64, hostname string) desired.Domain {
	d := storedVM(want, epoch)
	s := seedOf(hostname)
	d.Kernel, d.Cmdline, d.Boot, d.Seed = events.Blob{}, "", desired.BootDisk, &s
	return d
}

func runsSeeded(epoch uint64, hostname string) func(fatal, *engine) {
	return func(t fatal, e *engine) {
		e.wantDomain(t, vm1, events.DomainRunning, epoch)
		want := host.SeedName(vm1, seedOf(hostname))
		all := e.h.DisksOf(vm1)
		if len(all) != 1 || len(all[0]) != 2 || all[0][1].Slot != host.SeedSlot || !all[0][1].ReadOnly || !strings.HasSuffix(all[0][1].Path, want) {
			t.Fatalf("disks %+v, want the seed %s", all, want)
		}
		e.wantSeeds(t, want)
	}
}

func goneSeeded(epoch uint64) func(fatal, *engine) {
	return func(t fatal, e *engine) {
		gone(vm1, epoch)(t, e)
		e.wantSeeds(t)
	}
}

func (e *engine) wantSeeds(t fatal, names ...string) {
	t.Helper()
	have, err := e.h.Seeds().Have(context.Background())
	if err != nil {
		t.Fatalf("list seeds: %v", err)
	}
	ok := len(have) == len(names)
	for i := range have {
		ok = ok && have[i].Name == names[i] && have[i].Device != ""
	}
	if !ok {
		t.Fatalf("seeds %+v, want %v", have, names)
	}
}

func TestSeedNames(t *testing.T) {
	name := host.SeedName(vm1, seedOf("web"))
	if vm, ok := host.SeedVM(name); !ok || vm != vm1 {
		t.Errorf("%s is of %q, %t", name, vm, ok)
	}
	if host.SeedName(vm1, seedOf("web2")) == name || host.SeedName(vm2, seedOf("web")) == name {
		t.Error("two seeds of one name")
	}
	for _, bad := range []string{"", ".", string(vm1), string(vm1) + ".", "../x.0123456789abcdef", ".0123456789abcdef", string(vm1) + ".0123456789abcdeF", string(vm1) + ".0123456789abcdef0"} {
		if vm, ok := host.SeedVM(bad); ok {
			t.Errorf("%q is of %q", bad, vm)
		}
	}
}

// TestADomainNeverRunsOnAnothersSeed: what the kernel serves is compared, not what was asked for.
func TestADomainNeverRunsOnAnothersSeed(t *testing.T) {
	e := newTestEngine(t, vmDoc(1, diskBooted(desired.Paused, 1, "web")))
	e.h.Seeds().Steal(host.SeedName(vm1, seedOf("web")))
	e.take(t, vmDoc(2, diskBooted(desired.Running, 1, "web")))
	for range 3 {
		if _, err := e.pass(t.Context()); err == nil || !strings.Contains(err.Error(), "not one of its own") {
			t.Fatalf("not noticed: %v", err)
		}
	}
	e.wantDomain(t, vm1, events.DomainPaused, 1)
}

// TestWhatAGuestIsToldChangesAtItsNextStart: a domain that is there keeps its seed, and goes on.
func TestWhatAGuestIsToldChangesAtItsNextStart(t *testing.T) {
	e := newTestEngine(t, vmDoc(1, diskBooted(desired.Paused, 1, "web")))
	e.take(t, vmDoc(2, diskBooted(desired.Running, 1, "other")))
	e.mustSettle(t)
	runsSeeded(1, "web")(t, e)
	e.h.Guest(string(vm1), "reboot")
	e.mustSettle(t)
	runsSeeded(1, "other")(t, e)
	unsaid := diskBooted(desired.Running, 1, "")
	unsaid.Seed, unsaid.Restarts = nil, 1
	e.take(t, vmDoc(3, unsaid))
	e.mustSettle(t)
	e.wantSeeds(t)
	runsWithDisks(vm1, 1, "xvda", string(vol1))(t, e)
}

// TestSeedsThatNobodyHasGo: those of VMs of which there is no document, and no domain.
func TestSeedsThatNobodyHasGo(t *testing.T) {
	e := newTestEngine(t, vmDoc(1, diskBooted(desired.Running, 1, "web")))
	if _, err := e.h.Seeds().Make(t.Context(), vm2, seedOf("lost")); err != nil {
		t.Fatal(err)
	}
	e.mustSettle(t)
	runsSeeded(1, "web")(t, e)

	e.wishes = workers.NewWishes(machineID, bootID) // no document, but a domain
	e.restart()
	e.mustSettle(t)
	e.wantSeeds(t, host.SeedName(vm1, seedOf("web")))
}

func TestWhatCannotBootFromItsDisk(t *testing.T) {
	machine, diskless, unknown := diskBooted(desired.Running, 1, "web"), diskBooted(desired.Running, 1, "web"), diskBooted(desired.Running, 1, "web")
	machine.Type, machine.Disks = events.TypeHVM, nil
	diskless.Disks = nil
	unknown.Boot = "network"
	for name, d := range map[string]desired.Domain{"HVM without a disk": machine, "no disk": diskless, "unknown": unknown} {
		e := newEngine(workertest.NewHost(2048))
		e.take(t, vmDoc(1, d))
		if _, err := e.pass(t.Context()); err == nil || !workers.IsPermanent(err) {
			t.Errorf("%s: %v", name, err)
		}
		e.wantNone(t, vm1)
	}
	e := newEngine(workertest.NewHost(2048))
	e.w.Seeds = nil
	e.take(t, vmDoc(1, diskBooted(desired.Running, 1, "web")))
	if _, err := e.pass(t.Context()); err == nil || !workers.IsPermanent(err) {
		t.Errorf("without seeds: %v", err)
	}
}

// TestMachineBootsFromItsDisk: the BIOS of an HVM domain does it, and the first disks are emulated too.
func TestMachineBootsFromItsDisk(t *testing.T) {
	c := host.Config{Name: "n", UUID: "u", Type: events.TypeHVM, VCPUs: 1, MemoryMiB: 64,
		Disks: []host.Disk{{Slot: "xvda", Path: "/dev/mapper/ce-1"}, {Slot: host.SeedSlot, Path: "/run/seeds/x", ReadOnly: true}}}
	text := c.Text()
	for _, want := range []string{
		"boot = \"c\"\n", `"format=raw,vdev=xvda,access=rw,backendtype=phy,direct-io-safe,script=ce-hotplug,target=/dev/mapper/ce-1"`,
		`"format=raw,vdev=xvdz,access=r,backendtype=phy,direct-io-safe,script=ce-hotplug,target=/run/seeds/x" ]`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "kernel") {
		t.Errorf("it has a kernel:\n%s", text)
	}
	c.Kernel = "/run/blobs/k"
	if text := c.Text(); strings.Contains(text, "\nboot =") || !strings.Contains(text, "kernel = \"/run/blobs/k\"\n") {
		t.Errorf("with a kernel of its own:\n%s", text)
	}
}

func TestConfigurationOfADiskThatIsBootedFrom(t *testing.T) {
	c := host.Config{Name: "n", UUID: "u", Type: events.TypePVH, VCPUs: 1, MemoryMiB: 64, Kernel: host.BootLoaders[events.TypePVH],
		Disks: []host.Disk{{Slot: "xvda", Path: "/dev/mapper/ce-1"}, {Slot: host.SeedSlot, Path: "/run/seeds/x", ReadOnly: true}}}
	text := c.Text()
	for _, want := range []string{
		"kernel = \"/usr/lib/grub-xen/grub-i386-xen_pvh.bin\"\n",
		`"format=raw,vdev=xvdz,access=r,backendtype=phy,script=ce-hotplug,target=/run/seeds/x" ]`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "cmdline") {
		t.Errorf("it has a command line:\n%s", text)
	}
	c.Disks[1].Slot = "xvda"
	x := &host.XL{Path: "/bin/false", Dir: t.TempDir()}
	if err := x.Create(t.Context(), c); err == nil || !strings.Contains(err.Error(), "two disks as xvda") {
		t.Errorf("two disks of one slot: %v", err)
	}
}

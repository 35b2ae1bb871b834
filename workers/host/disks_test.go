package host_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/host"
	"cloudengine/workers/workertest"
)

const (
	vol1 = events.VolumeID("0190cccc-0000-7000-8000-0000000000c1")
	vol2 = events.VolumeID("0190cccc-0000-7000-8000-0000000000c2")
)

func diskOf(slot string, v events.VolumeID, extents int) desired.Disk {
	return desired.Disk{Slot: slot, Volume: v, Array: "0190dddd-0000-7000-8000-0000000000d1", ExtentMiB: 4, StartMiB: 1,
		Segments: []events.Segment{{Start: 7, Count: extents}}}
}

// runsWithDisks checks a domain that runs and its disks: slots and volumes by turns.
func runsWithDisks(vm events.VMID, epoch uint64, slotsAndVolumes ...string) func(fatal, *engine) {
	return func(t fatal, e *engine) {
		e.wantDomain(t, vm, events.DomainRunning, epoch)
		var want []host.Disk
		for i := 0; i < len(slotsAndVolumes); i += 2 {
			want = append(want, host.Disk{Slot: slotsAndVolumes[i], Path: workertest.DevicePath(events.VolumeID(slotsAndVolumes[i+1]))})
		}
		all := e.h.DisksOf(vm)
		if len(all) != 1 || len(all[0]) != len(want) {
			t.Fatalf("disks %v, want %v", all, want)
		}
		for i, d := range all[0] {
			if d != want[i] {
				t.Fatalf("disk %v, want %v", d, want[i])
			}
		}
	}
}

func storedVM(want string, epoch uint64) desired.Domain {
	d := wish(vm1, want, epoch)
	d.Disks = []desired.Disk{diskOf("xvda", vol1, 3)}
	return d
}

func TestADomainWaitsForItsDisk(t *testing.T) {
	e := newEngine(workertest.NewHost(2048))
	e.h.SetDevice(vol1, false)
	e.take(t, vmDoc(1, storedVM(desired.Running, 1)))
	for range 3 {
		if _, err := e.pass(t.Context()); err == nil || !strings.Contains(err.Error(), "disk xvda: /dev/mapper/ce-"+string(vol1)) {
			t.Fatalf("it is not told what is missing: %v", err)
		}
	}
	e.wantNone(t, vm1)
	e.h.SetDevice(vol1, true)
	e.mustSettle(t)
	runsWithDisks(vm1, 1, "xvda", string(vol1))(t, e)
	e.h.Guest(string(vm1), "reboot")
	e.mustSettle(t)
	runsWithDisks(vm1, 1, "xvda", string(vol1))(t, e)
}

// TestADomainNeverRunsOnAnotherDevice: a device number that was given again between the creation of a domain and its start.
func TestADomainNeverRunsOnAnotherDevice(t *testing.T) {
	e := newEngine(workertest.NewHost(2048))
	e.take(t, vmDoc(1, storedVM(desired.Paused, 1)))
	e.mustSettle(t)
	e.h.Renumber(vol1)
	e.take(t, vmDoc(2, storedVM(desired.Running, 1)))
	for range 3 {
		if _, err := e.pass(t.Context()); err == nil || !strings.Contains(err.Error(), "other disks") {
			t.Fatalf("not noticed: %v", err)
		}
	}
	e.wantDomain(t, vm1, events.DomainPaused, 1)
	e.take(t, vmDoc(3, storedVM(desired.Absent, 1)))
	e.mustSettle(t)
	e.wantNone(t, vm1)
}

func TestAnAgentWithoutDisksMakesNoDomainWithDisks(t *testing.T) {
	e := newEngine(workertest.NewHost(2048))
	e.w.Disks = nil
	e.take(t, vmDoc(1, storedVM(desired.Running, 1)))
	if _, err := e.pass(context.Background()); err == nil {
		t.Fatal("it was made")
	}
	e.wantNone(t, vm1)
}

func TestConfigurationOfDisks(t *testing.T) {
	c := host.Config{Name: "n", UUID: "u", Type: events.TypePV, VCPUs: 1, MemoryMiB: 64, Kernel: "/k",
		Disks: []host.Disk{{Slot: "xvda", Path: "/dev/mapper/ce-1"}, {Slot: "xvdb", Path: "/dev/mapper/ce-2"}}}
	want := `disk = [ "format=raw,vdev=xvda,access=rw,backendtype=phy,script=ce-hotplug,target=/dev/mapper/ce-1", ` +
		`"format=raw,vdev=xvdb,access=rw,backendtype=phy,script=ce-hotplug,target=/dev/mapper/ce-2" ]` + "\n"
	if got := c.Text(); !strings.Contains(got, want) {
		t.Errorf("got\n%s", got)
	}
	for _, bad := range []host.Disk{
		{Slot: "sda", Path: "/dev/x"}, {Slot: "xvda", Path: "x"}, {Slot: "xvda", Path: "/dev/x\" ]"}, {Slot: "xvda,target=/etc", Path: "/x"},
	} {
		c.Disks = []host.Disk{bad}
		x := &host.XL{Path: "/bin/false", Dir: t.TempDir()}
		if err := x.Create(t.Context(), c); err == nil || errors.Is(err, host.ErrTool) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

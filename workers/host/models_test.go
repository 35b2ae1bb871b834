package host_test

import (
	"context"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// A device model whose domain is gone is ended, and until then nothing says that the VM ended: it may still write for it.
func TestDeviceModelThatOutlivesItsDomain(t *testing.T) {
	machine := wish(vm1, desired.Running, 1)
	machine.Type = events.TypeHVM
	e := newTestEngine(t, vmDoc(1, machine))
	d := e.wantDomain(t, vm1, events.DomainRunning, 1)
	e.take(t, vmDoc(2, wish(vm1, desired.Absent, 1)))
	if err := e.h.Act(t.Context(), "destroy", d.DomID); err != nil {
		t.Fatal(err)
	}
	e.h.LeaveModel(d.DomID, true)
	seen, err := e.w.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if snap := e.w.Describe(e.wishes.All(), seen, nil); len(snap.Ended) != 0 {
		t.Fatalf("told as ended while its device model lives: %+v", snap.Ended)
	}
	e.mustSettle(t)
	e.wantEnded(t, vm1, 1, events.EndedDestroyed)
	if left, err := e.h.DeviceModels(context.Background()); err != nil || len(left) != 0 {
		t.Fatalf("left: %v, %v", left, err)
	}
}

// A guest without its device model hangs: it is told as crashed, and a restart makes it again.
func TestDomainWhoseDeviceModelIsGone(t *testing.T) {
	machine := wish(vm1, desired.Running, 1)
	machine.Type = events.TypeHVM
	e := newTestEngine(t, vmDoc(1, machine))
	d := e.wantDomain(t, vm1, events.DomainRunning, 1)
	e.h.LeaveModel(d.DomID, false)
	if got := e.wantDomain(t, vm1, events.DomainCrashed, 1); got.ShutdownReason != "device_model" {
		t.Fatalf("told as %+v", got)
	}
	machine.Restarts = 1
	e.take(t, vmDoc(2, machine))
	e.mustSettle(t)
	if got := e.wantDomain(t, vm1, events.DomainRunning, 1); got.DomID == d.DomID {
		t.Fatal("it was not made again")
	}
}

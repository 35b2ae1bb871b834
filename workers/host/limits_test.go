package host_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/workertest"
)

var slow = events.DiskLimits{WriteBPS: 10 << 20, ReadIOPS: 500}

func limitedVM(want string, epoch uint64, l events.DiskLimits) desired.Domain {
	d := storedVM(want, epoch)
	d.Disks[0].Limits = l
	return d
}

func hasLimits(t fatal, e *engine, want events.DiskLimits) {
	t.Helper()
	if got := e.h.LimitsOf(vol1); got != want {
		t.Fatalf("the disk has limits %+v, want %+v", got, want)
	}
}

// TestADomainRunsWithItsLimits: from its first instruction on, after a change while it runs, and again after it rebooted.
func TestADomainRunsWithItsLimits(t *testing.T) {
	e := newEngine(workertest.NewHost(2048))
	var calls []string
	e.h.Called = func(call string) { calls = append(calls, strings.Fields(call)[0]) }
	e.take(t, vmDoc(1, limitedVM(desired.Running, 1, slow)))
	e.mustSettle(t)
	hasLimits(t, e, slow)
	if l, u := slices.Index(calls, "limit"), slices.Index(calls, "unpause"); l < 0 || u < l {
		t.Errorf("it ran before it was limited: %v", calls)
	}
	calls = nil
	e.h.Guest(string(vm1), "reboot")
	e.mustSettle(t)
	hasLimits(t, e, slow)
	if l, u := lastIndex(calls, "limit"), slices.Index(calls, "unpause"); l < slices.Index(calls, "create") || u < l {
		t.Errorf("it ran again before it was limited: %v", calls)
	}
	domid := e.wantDomain(t, vm1, events.DomainRunning, 1).DomID
	other := events.DiskLimits{ReadBPS: 1 << 20}
	for i, l := range []events.DiskLimits{other, {}, slow} {
		e.take(t, vmDoc(uint64(2+i), limitedVM(desired.Running, 1, l)))
		e.mustSettle(t)
		hasLimits(t, e, l)
	}
	if d := e.wantDomain(t, vm1, events.DomainRunning, 1); d.DomID != domid {
		t.Errorf("domain %d became %d by a change of limits", domid, d.DomID)
	}
}

// TestAnEndWaitsForNoThrottle: limits are taken away before a domain is destroyed, and a throttle that fails does not keep it.
func TestAnEndWaitsForNoThrottle(t *testing.T) {
	for _, failing := range []bool{false, true} {
		e := newEngine(workertest.NewHost(2048))
		e.take(t, vmDoc(1, limitedVM(desired.Running, 1, slow)))
		e.mustSettle(t)
		if failing {
			e.h.Fail = func(call string) error {
				if strings.HasPrefix(call, "limit") {
					return errors.New("injected")
				}
				return nil
			}
		}
		var calls []string
		e.h.Called = func(call string) { calls = append(calls, strings.Fields(call)[0]) }
		e.take(t, vmDoc(2, wish(vm1, desired.Absent, 1)))
		e.mustSettle(t)
		e.wantNone(t, vm1)
		if l, d := slices.Index(calls, "limit"), slices.Index(calls, "destroy"); l < 0 || d < l {
			t.Errorf("failing %t: it was destroyed with its limits: %v", failing, calls)
		}
	}
}

func lastIndex(all []string, want string) int {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i] == want {
			return i
		}
	}
	return -1
}

// TestAnAgentWithoutAThrottle starts no domain that has limits, and says why.
func TestAnAgentWithoutAThrottle(t *testing.T) {
	e := newEngine(workertest.NewHost(2048))
	e.w.Throttle = nil
	e.take(t, vmDoc(1, limitedVM(desired.Running, 1, slow)))
	if _, err := e.pass(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot limit") {
		t.Fatalf("the step gave %v", err)
	}
	e.take(t, vmDoc(2, storedVM(desired.Running, 1)))
	e.mustSettle(t)
	e.wantDomain(t, vm1, events.DomainRunning, 1)
}

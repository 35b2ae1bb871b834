package power

import (
	"testing"

	"cloudengine/events"
)

func TestPlan(t *testing.T) {
	on, off, unknown := events.PowerIsOn, events.PowerIsOff, events.PowerIsUnknown
	for _, c := range []struct {
		action string
		seen   Observed
		want   string
	}{
		{events.PowerStatus, Observed{State: unknown}, "read"},
		{events.PowerStatus, Observed{State: on}, ""},
		{events.PowerStatus, Observed{State: off, OffReads: 1}, ""},
		{events.PowerOn, Observed{State: unknown}, "read"},
		{events.PowerOn, Observed{State: on}, ""},
		{events.PowerOn, Observed{State: off, OffReads: 1}, "boot_pxe power_on read"},
		{events.PowerOff, Observed{State: unknown}, "read"},
		{events.PowerOff, Observed{State: on}, "power_off read"},
		{events.PowerOff, Observed{State: off, OffReads: 1}, "read"},
		{events.PowerOff, Observed{State: off, OffReads: 2}, ""},
		{events.PowerCycle, Observed{State: unknown, WasOff: true}, "read"},
		{events.PowerCycle, Observed{State: on}, "power_off read"},
		{events.PowerCycle, Observed{State: off, OffReads: 1}, "read"},
		{events.PowerCycle, Observed{State: off, OffReads: 2}, "report_off"},
		{events.PowerCycle, Observed{State: off, OffReads: 2, WasOff: true}, "boot_pxe power_on read"},
		{events.PowerCycle, Observed{State: on, WasOff: true}, ""},
		{"explode", Observed{State: on}, ""},
	} {
		if got := text(Plan(c.action, c.seen)); got != c.want {
			t.Errorf("%s with %+v: got %q, want %q", c.action, c.seen, got, c.want)
		}
	}
}

// Only what was asked for is ever planned: no step cuts the power for on and status, none gives it for off and status.
func TestPlanStaysWithinTheAction(t *testing.T) {
	for _, action := range []string{events.PowerOn, events.PowerOff, events.PowerCycle, events.PowerStatus, "", "x"} {
		for _, state := range []string{events.PowerIsOn, events.PowerIsOff, events.PowerIsUnknown, ""} {
			for reads := range 4 {
				for _, was := range []bool{false, true} {
					for _, s := range Plan(action, Observed{state, reads, was}) {
						cuts := s.Kind == StepPowerOff && (action != events.PowerOff && action != events.PowerCycle || was && action == events.PowerCycle)
						gives := s.Kind == StepPowerOn && (action != events.PowerOn && action != events.PowerCycle || action == events.PowerCycle && !was)
						if cuts || gives || s.Why == "" {
							t.Errorf("%s in %s, %d, %v: %+v", action, state, reads, was, s)
						}
					}
				}
			}
		}
	}
}

package power

import (
	"strings"

	"cloudengine/events"
)

// StepKind is what a step does.
type StepKind string

// The steps.
const (
	StepRead      StepKind = "read"       // read the power state again, in a new session
	StepBootPXE   StepKind = "boot_pxe"   // let the next boot be from the network
	StepPowerOn   StepKind = "power_on"   //
	StepPowerOff  StepKind = "power_off"  //
	StepReportOff StepKind = "report_off" // report that the power is proven off, before it comes back
)

// Step is one thing to do, as data.
type Step struct {
	Kind StepKind
	Why  string
}

// readsForProof is how often in a row, each some time after the other, off must be read.
const readsForProof = 2

// Observed is what is known of a machine's power.
type Observed struct {
	State    string // events.PowerIsOn …
	OffReads int    // how often off was read in a row, each some time after the other
	WasOff   bool   // of a cycle: its off was proven and reported, or the machine has booted anew since
}

// Plan gives the next steps towards what a power action wants; none when it is so. It is total, and after its steps one observes and
// plans again.
func Plan(action string, o Observed) []Step {
	switch {
	case o.State != events.PowerIsOn && o.State != events.PowerIsOff:
		return []Step{{StepRead, "the power state is not known"}}
	case action == events.PowerOn, action == events.PowerCycle && o.WasOff:
		return planOn(o)
	case action == events.PowerOff:
		return planOff(o)
	case action == events.PowerCycle:
		if steps := planOff(o); len(steps) > 0 {
			return steps
		}
		return []Step{{StepReportOff, "the power is proven off; it will not stay so"}}
	}
	return nil // status
}

func planOn(o Observed) []Step {
	if o.State == events.PowerIsOn {
		return nil
	}
	return []Step{
		{StepBootPXE, "machines have no disks"}, // before the power is there, or the firmware has made its choice
		{StepPowerOn, "the power is off"},
		{StepRead, "see whether it is on"},
	}
}

func planOff(o Observed) []Step {
	switch {
	case o.State == events.PowerIsOn:
		return []Step{{StepPowerOff, "the power is on"}, {StepRead, "see whether it is off"}}
	case o.OffReads < readsForProof:
		return []Step{{StepRead, "one reading is no proof"}}
	}
	return nil
}

// text prints steps for logs.
func text(steps []Step) string {
	kinds := make([]string, len(steps))
	for i, s := range steps {
		kinds[i] = string(s.Kind)
	}
	return strings.Join(kinds, " ")
}

package verify

import (
	"cloudengine/events"
	"cloudengine/projections"
)

// PowerAnswer is what a BMC answered.
type PowerAnswer struct {
	State   string // events.PowerIsOn or PowerIsOff
	Missing string // why there is no answer
}

// WithBMC lists the machines whose power can be read.
func (c *Cloud) WithBMC() []events.MachineID {
	var out []events.MachineID
	for _, m := range rows[projections.Machine](c, events.KindMachine) {
		if m.BMCAddress != nil {
			out = append(out, events.MachineID(m.ID))
		}
	}
	return out
}

// Power compares what BMCs answered with what the log believes.
func (c *Cloud) Power(answers map[events.MachineID]PowerAnswer) []Finding {
	var out List
	running := c.operations()
	for _, id := range keys(answers) {
		m := row[projections.Machine](c, events.KindMachine, string(id))
		if m == nil {
			continue
		}
		a := answers[id]
		f := Finding{Section: Power, Severity: Wrong, Check: "power", Kind: "machine", ID: m.ID, Name: m.Name, Have: a.State, Moving: underWay(running[m.ID])}
		alive := m.State == projections.MachineUp || m.State == projections.MachineSilent || m.State == projections.MachineBooting
		switch {
		case a.Missing != "":
			f.Severity, f.Check, f.What, f.Have, f.Moving = Unknown, "unanswered", "its BMC does not answer ("+a.Missing+")", "?", ""
			f.Next = "\"cloudengine machine power status\" asks again; check the BMC's address, user and secret: without it nothing proves this machine off"
		case a.State == events.PowerIsOff && alive:
			f.What, f.Want = "its BMC says off, and the log believes that it is "+m.State, "on"
			f.Next = "\"cloudengine machine power off\" proves it, so that its VMs can start elsewhere; if the machine answers, the BMC is another machine's: correct it"
		case a.State == events.PowerIsOn && m.State == projections.MachineOff:
			f.Severity, f.What, f.Want = Critical, "I5: the log took it for off, and its BMC says on", "off"
			f.Next = "it was switched on behind the control plane's back: it must boot over the network, which ends what it ran; \"cloudengine machine power cycle\" makes sure"
		default:
			continue
		}
		out.Add(f)
	}
	return out.All
}

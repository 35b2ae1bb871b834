package commands

import "cloudengine/events"

// PowerMachine asks for a power action.
type PowerMachine struct {
	Machine events.MachineID `json:"machine"`
	Action  string           `json:"action"`
}

func (a PowerMachine) check() *Rejection {
	switch a.Action {
	case events.PowerOn, events.PowerOff, events.PowerCycle, events.PowerStatus:
		return checkID("machine", string(a.Machine))
	}
	return invalid("field \"action\": want on, off, cycle or status")
}

func decidePower(d *decision, a PowerMachine) error {
	m, err := d.machine(a.Machine)
	if err != nil {
		return err
	}
	if m.Data.BMC == nil {
		return reject(events.CodeConflict, "machine %q has no BMC: its power cannot be reached", m.Name)
	}
	if h, ok := d.s.hosts[m.ID]; ok && (a.Action == events.PowerOff || a.Action == events.PowerCycle) {
		if n := len(h.grants); n > 0 && !d.c.overrides(GuardRunningVMs) {
			return guarded(GuardRunningVMs, "machine %q runs, or may run, %d VMs: stop them first, or end them with --override=%s --reason \"…\"", m.Name, n, GuardRunningVMs)
		}
	}
	if a.Action == events.PowerOff || a.Action == events.PowerCycle {
		if name := d.s.lastCopy(m.ID); name != "" && !d.c.overrides(GuardLastCopy) {
			return guarded(GuardLastCopy, "storage node %q has the last good copy of data of array %q: wait until its other copies are in sync, or let it stand still with --override=%s --reason \"…\"",
				m.Name, name, GuardLastCopy)
		}
	}
	if a.Action != events.PowerStatus {
		for _, op := range m.ops {
			if d.s.ops[op].Verb == "drain" { // it goes on while the machine is off: its disks are not chosen
				continue
			}
			d.endOperation(op, events.OperationFailed{Message: "a later power action took its place"})
		}
	}
	d.add(events.KindMachine, string(m.ID), events.MachinePowerWanted{Action: a.Action, Operation: d.c.Intent, Boot: m.Boot})
	d.startOperation(events.Ref{Kind: events.KindMachine, ID: string(m.ID)}, powerTimeout)
	return nil
}

// ReportPower is what the power worker read back.
type ReportPower struct {
	Machine   events.MachineID `json:"machine"`
	Operation events.IntentID  `json:"operation,omitempty"`
	Boot      string           `json:"boot,omitempty"` // the machine's boot that the worker knew before it began to read
	State     string           `json:"state"`
	Reads     int              `json:"reads"`
	Error     string           `json:"error,omitempty"`
	GUID      string           `json:"guid,omitempty"` // of the controller that was read; the same at each reading
}

func (a ReportPower) check() *Rejection {
	switch a.State {
	case events.PowerIsOn, events.PowerIsOff, events.PowerIsUnknown:
	default:
		return invalid("field \"state\": want on, off or unknown")
	}
	if len(a.Error) > maxText {
		return invalid("field \"error\": want at most %d bytes", maxText)
	}
	return checkID("machine", string(a.Machine))
}

// readsForProof is how often a BMC must have said off in a row.
const readsForProof = 2

func decideReportPower(d *decision, a ReportPower) error {
	m, err := d.machine(a.Machine)
	if err != nil {
		return err
	}
	if m.BMCGUID != "" && a.GUID != m.BMCGUID && a.State != events.PowerIsUnknown { // whose power was read is not known (I5)
		a.State, a.Reads, a.Error = events.PowerIsUnknown, 0, otherController(m, a.GUID)
	}
	proof := a.State == events.PowerIsOff && a.Reads >= readsForProof && m.BMCProven && a.GUID == m.BMCGUID && a.Boot != "" && a.Boot == m.Boot && a.Error == ""
	op, open := d.s.ops[a.Operation]
	ends := proof && (d.s.hasGrants(m.ID, a.Boot) || d.s.ownsArrays(m.ID, a.Boot))
	if !open && !ends && (a.State == m.Power || a.State == events.PowerIsUnknown && m.Power == "") {
		return nil
	}
	d.add(events.KindMachine, string(m.ID), events.MachinePowerObserved{State: a.State, Reads: a.Reads, Boot: a.Boot, Operation: a.Operation, Proof: proof, Error: a.Error})
	if open && op.Object.ID == string(m.ID) {
		d.finishPower(m, op, a)
	}
	if proof {
		d.endGrants(m, a.Boot, events.ProofPowerOff)
		d.endOwners(m, a.Boot, events.ProofPowerOff)
	}
	return nil
}

// finishPower ends the operation when what was read is what was asked for.
func (d *decision) finishPower(m *Machine, op *Operation, a ReportPower) {
	if a.Error != "" {
		d.endOperation(op.ID, events.OperationFailed{Message: a.Error})
		return
	}
	goal := events.PowerStatus
	if m.powerOp == op.ID {
		goal = m.powerGoal
	}
	done := goal == events.PowerStatus || goal == events.PowerOff && a.State == events.PowerIsOff && a.Reads >= readsForProof ||
		(goal == events.PowerOn || goal == events.PowerCycle) && a.State == events.PowerIsOn
	if done {
		d.endOperation(op.ID, events.OperationDone{Message: "power is " + a.State})
	}
}

// ReportBMC is the result of a health check.
type ReportBMC struct {
	Machine events.MachineID `json:"machine"`
	Healthy bool             `json:"healthy"`
	Detail  string           `json:"detail,omitempty"`
	GUID    string           `json:"guid,omitempty"` // of the controller that answered
}

func (a ReportBMC) check() *Rejection {
	if len(a.Detail) > maxText || len(a.GUID) > 64 {
		return invalid("field \"detail\": want at most %d bytes, and 64 of \"guid\"", maxText)
	}
	return checkID("machine", string(a.Machine))
}

func decideReportBMC(d *decision, a ReportBMC) error {
	m, err := d.machine(a.Machine)
	if err != nil {
		return err
	}
	if a.Healthy && m.BMCGUID != "" && a.GUID != m.BMCGUID { // whose power it tells is not known: this is no proof (I5)
		a.Healthy, a.Detail = false, otherController(m, a.GUID)
	}
	known, learns := m.bmcChecked, a.Healthy && a.GUID != m.BMCGUID
	if known && m.BMCHealthy == a.Healthy && !learns {
		return nil
	}
	d.add(events.KindMachine, string(m.ID), events.MachineBMCChecked{Healthy: a.Healthy, Detail: a.Detail, GUID: a.GUID})
	return nil
}

func otherController(m *Machine, guid string) string {
	return "another controller answers: GUID " + clip(guid) + ", where it was " + m.BMCGUID + "; if it was replaced, remove the machine and add it again"
}

// SilenceReport says that a machine was not heard of, or is heard again. It comes from the active dispatcher.
type SilenceReport struct {
	Machine events.MachineID `json:"machine"`
	Boot    string           `json:"boot"`
}

func (a SilenceReport) check() *Rejection { return checkID("machine", string(a.Machine)) }

func decideSilent(d *decision, a SilenceReport) error {
	m, err := d.machine(a.Machine)
	if err != nil {
		return err
	}
	if m.Silent || m.BootOver || m.Boot == "" || m.Boot != a.Boot {
		return nil
	}
	d.add(events.KindMachine, string(m.ID), events.MachineSilent{Boot: m.Boot})
	for _, vm := range d.s.grantedOn(m.ID) {
		d.add(events.KindVM, string(vm.ID), events.VMBecameUnknown{Host: m.ID})
	}
	return nil
}

func decideReturned(d *decision, a SilenceReport) error {
	m, err := d.machine(a.Machine)
	if err != nil {
		return err
	}
	if !m.Silent || m.Boot != a.Boot {
		return nil
	}
	d.returned(m)
	return nil
}

// returned ends a machine's silence.
func (d *decision) returned(m *Machine) {
	d.add(events.KindMachine, string(m.ID), events.MachineReturned{Boot: m.Boot})
	for _, vm := range d.s.grantedOn(m.ID) {
		d.add(events.KindVM, string(vm.ID), events.VMBecameKnown{Host: m.ID})
	}
}

// endGrants ends every grant that a boot of a machine holds, by one proof.
func (d *decision) endGrants(m *Machine, boot, proof string) {
	for _, vm := range d.s.grantedOn(m.ID) {
		if vm.Grant.Boot == boot {
			d.endGrant(vm, proof, "")
		}
	}
	for _, g := range d.s.ghostsOn(m.ID) {
		if g.ghost.Boot == boot {
			d.add(events.KindVM, string(g.vm.ID), events.VMStaleDomainEnded{Host: m.ID, Boot: boot, Epoch: g.ghost.Epoch})
		}
	}
}

func (s *State) hasGrants(m events.MachineID, boot string) bool {
	for _, vm := range s.grantedOn(m) {
		if vm.Grant.Boot == boot {
			return true
		}
	}
	for _, g := range s.ghostsOn(m) {
		if g.ghost.Boot == boot {
			return true
		}
	}
	return false
}

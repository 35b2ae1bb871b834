package projections

import (
	"encoding/json"
	"time"

	"cloudengine/events"
)

// What a machine does, as far as is known.
const (
	MachineKnown   = "added"   // never seen
	MachinePowered = "powered" // its BMC says that it is on; nothing was heard of it yet
	MachineBooting = "booting" // our netboot server gave it its boot files
	MachineUp      = "up"      // its agent is enrolled
	MachineSilent  = "silent"  // was up, and nothing is heard of it: this proves nothing
	MachineOff     = "off"     // its BMC says so
)

// Machine is a row of machines.
type Machine struct {
	ID            string          `json:"id"`
	Name          string          `json:"name"`
	State         string          `json:"state"`
	Roles         json.RawMessage `json:"roles"`
	MACs          json.RawMessage `json:"macs"`
	Serial        *string         `json:"serial"`
	PowerState    *string         `json:"power_state"`
	PowerWanted   *string         `json:"power_wanted"`
	PowerError    *string         `json:"power_error"`
	BMCAddress    *string         `json:"bmc_address"`
	BMCUser       *string         `json:"bmc_user"`
	BMCSecret     *string         `json:"bmc_secret"`
	BMCHealthy    *bool           `json:"bmc_healthy"`
	BMCDetail     *string         `json:"bmc_detail"`
	Boot          *string         `json:"boot"`
	Image         *string         `json:"image"`
	ImageWanted   *string         `json:"image_wanted"`
	ImageNext     *string         `json:"image_next"`
	ImageBefore   *string         `json:"image_before"`
	ImageServed   *string         `json:"image_served"`
	ImageDecision *uint64         `json:"image_decision"`
	PublicKey     *string         `json:"public_key"`
	ServedAt      *time.Time      `json:"served_at"`
	EnrolledAt    *time.Time      `json:"enrolled_at"`
	Product       *string         `json:"product"`
	CPUs          *int            `json:"cpus"`
	MemoryMiB     *int            `json:"memory_mib"`
	Inventory     json.RawMessage `json:"inventory"`
	StorageReady  *bool           `json:"storage_ready"`
	Draining      bool            `json:"draining"`
	Contradiction *string         `json:"contradiction"`
	CreatedAt     time.Time       `json:"created_at"`
	ChangedBy     uint64          `json:"changed_by"`
	ChangedAt     time.Time       `json:"changed_at"`
}

var machineTable = newTable[Machine]("machines")

var machines = &Model{
	Kind: events.KindMachine, Table: machineTable, Scope: ScopeNone, Named: "name", event: machineEvent,
	Reads: []string{"machine.added.v1", "machine.storage_ready.v1", "machine.removed.v1", "machine.power_wanted.v1", "machine.power_observed.v1", "machine.bmc_checked.v1",
		"machine.boot_served.v1", "machine.enrolled.v1", "machine.silent.v1", "machine.returned.v1", "machine.contradicted.v1",
		"machine.image_wanted.v1", "machine.drain_began.v1", "machine.drain_ended.v1", "bootimage.default_set.v1"},
}

func machineEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.MachineAdded:
		m := &Machine{ID: id, Name: d.Name, State: MachineKnown, Roles: asJSON(d.Roles), MACs: asJSON(d.MACs), Serial: known(d.Serial), CreatedAt: f.now()}
		if d.BMC != nil {
			m.BMCAddress, m.BMCUser, m.BMCSecret = known(d.BMC.Address), known(d.BMC.User), known(d.BMC.Secret)
		}
		var err error
		if m.ImageNext, err = defaultImage(f); err != nil {
			return err
		}
		f.put(machineTable, id, m)
		return nil
	case events.MachineRemoved:
		f.delete(machineTable, id)
		return nil
	case events.BootimageDefaultSet:
		return machinesFollow(f, id)
	case events.MachineImageWanted:
		return machineImage(f, id, d)
	}
	return change(f, machineTable, id, func(m *Machine) { machineChanged(m, e.Data, f.now()) })
}

func machineChanged(m *Machine, data events.Payload, now time.Time) {
	switch d := data.(type) {
	case events.MachineDrainBegan:
		m.Draining = true
	case events.MachineDrainEnded:
		m.Draining = false
	case events.MachinePowerWanted:
		m.PowerWanted = known(d.Action)
	case events.MachinePowerObserved:
		machinePower(m, d)
	case events.MachineBMCChecked:
		m.BMCHealthy, m.BMCDetail = &d.Healthy, known(d.Detail)
	case events.MachineBootServed:
		m.ServedAt, m.ImageServed = &now, known(d.Image)
		m.State = MachineBooting
	case events.MachineEnrolled:
		m.Boot, m.Image, m.PublicKey, m.EnrolledAt = known(d.Boot), known(d.Image), known(d.Key), &now
		m.Product, m.CPUs, m.MemoryMiB, m.Inventory = known(d.Inventory.Product), known(d.Inventory.CPUs), known(d.Inventory.MemoryMiB), asJSON(d.Inventory)
		if m.Serial == nil {
			m.Serial = known(d.Inventory.Serial)
		}
		m.State, m.Contradiction, m.StorageReady = MachineUp, nil, nil
		on := events.PowerIsOn
		m.PowerState, m.PowerError = &on, nil
	case events.StorageReady:
		ready := m.Boot != nil && *m.Boot == d.Boot
		m.StorageReady = &ready
	case events.MachineSilent:
		m.State = MachineSilent
	case events.MachineReturned:
		m.State = MachineUp
	case events.MachineContradicted:
		m.Contradiction = known(d.Code + ": " + d.Message)
	}
}

func machineImage(f *fold, id string, d events.MachineImageWanted) error {
	next := known(d.Image)
	if next == nil {
		var err error
		if next, err = defaultImage(f); err != nil {
			return err
		}
	}
	return change(f, machineTable, id, func(m *Machine) {
		m.ImageWanted, m.ImageNext, m.ImageBefore, m.ImageDecision = known(d.Image), next, known(d.Before), known(f.rec.Number)
	})
}

// machinePower: a machine that was up is off only by proof; a machine that never enrolled has nothing to prove.
func machinePower(m *Machine, d events.MachinePowerObserved) {
	m.PowerState, m.PowerError = known(d.State), known(d.Error)
	enrolled := m.State == MachineUp || m.State == MachineSilent
	switch {
	case d.State == events.PowerIsOff && (d.Proof || !enrolled):
		m.State = MachineOff
	case d.State == events.PowerIsOn && (m.State == MachineKnown || m.State == MachineOff):
		m.State = MachinePowered
	}
}

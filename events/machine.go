package events

// Roles of machines.
const (
	RoleHost = "host" // runs domains
)

// MachineAdded makes a machine known, before it was ever switched on.
type MachineAdded struct {
	Name   string   `json:"name"`
	MACs   []string `json:"macs"`             // of its boot NICs, lower case with colons
	Serial string   `json:"serial,omitempty"` // if given, enrolment must match it
	Roles  []string `json:"roles"`
	BMC    *BMC     `json:"bmc,omitempty"`
}

// BMC is how a machine's power is reached: IPMI 2.0 over LAN.
type BMC struct {
	Address string `json:"address"` // host:port, port 623 by default
	User    string `json:"user"`
	Secret  string `json:"secret"` // name of the secret that holds the password
}

// EventType gives the wire name.
func (MachineAdded) EventType() string { return "machine.added.v1" }

// MachineRemoved makes a machine unknown again.
type MachineRemoved struct{}

// EventType gives the wire name.
func (MachineRemoved) EventType() string { return "machine.removed.v1" }

// Power actions.
const (
	PowerOn     = "on"
	PowerOff    = "off"
	PowerCycle  = "cycle"
	PowerStatus = "status" // only look
)

// MachinePowerWanted asks the power worker for an action. The worker answers with the command report_power for the same operation.
type MachinePowerWanted struct {
	Action    string   `json:"action"`
	Operation IntentID `json:"operation"`
	Boot      string   `json:"boot,omitempty"` // the machine's boot when the action was decided: a proof is about this boot
}

// EventType gives the wire name.
func (MachinePowerWanted) EventType() string { return "machine.power_wanted.v1" }

// Power states.
const (
	PowerIsOn      = "on"
	PowerIsOff     = "off"
	PowerIsUnknown = "unknown"
)

// MachinePowerObserved says what the BMC read back.
type MachinePowerObserved struct {
	State     string   `json:"state"`
	Reads     int      `json:"reads"`          // consecutive equal reads
	Boot      string   `json:"boot,omitempty"` // of the power action that was answered
	Operation IntentID `json:"operation,omitempty"`
	Proof     bool     `json:"proof"` // off, read twice or more, through a BMC proven healthy earlier: ends the grants of Boot
	Error     string   `json:"error,omitempty"`
}

// EventType gives the wire name.
func (MachinePowerObserved) EventType() string { return "machine.power_observed.v1" }

// MachineBMCChecked says whether the BMC answered with the right identity and credentials. Recorded when it changes.
type MachineBMCChecked struct {
	Healthy bool   `json:"healthy"`
	Detail  string `json:"detail,omitempty"` // what is wrong
	GUID    string `json:"guid,omitempty"`   // of the controller that answered
}

// EventType gives the wire name.
func (MachineBMCChecked) EventType() string { return "machine.bmc_checked.v1" }

// MachineBootServed says that our netboot server gave a machine its boot files, with a fresh token inside.
type MachineBootServed struct {
	TokenSHA256 string `json:"token_sha256"`
	MAC         string `json:"mac"`
	Image       string `json:"image"`
}

// EventType gives the wire name.
func (MachineBootServed) EventType() string { return "machine.boot_served.v1" }

// MachineEnrolled says that an agent with the token of a served boot runs on the machine: a new boot, proven by us.
type MachineEnrolled struct {
	Boot        string    `json:"boot"`
	Key         string    `json:"key"` // public nkey of this boot
	Image       string    `json:"image"`
	TokenSHA256 string    `json:"token_sha256"`
	Inventory   Inventory `json:"inventory"`
}

// EventType gives the wire name.
func (MachineEnrolled) EventType() string { return "machine.enrolled.v1" }

// MachineSilent says that nothing was heard of an enrolled machine for longer than the limit. It proves nothing.
type MachineSilent struct {
	Boot string `json:"boot"`
}

// EventType gives the wire name.
func (MachineSilent) EventType() string { return "machine.silent.v1" }

// MachineReturned says that a silent machine reports again, from the same boot.
type MachineReturned struct {
	Boot string `json:"boot"`
}

// EventType gives the wire name.
func (MachineReturned) EventType() string { return "machine.returned.v1" }

// MachineContradicted says that something else claimed to be this machine, or that it reported what cannot be. Loud.
type MachineContradicted struct {
	Code    string `json:"code"` // two_machines, contradicts
	Message string `json:"message"`
	Boot    string `json:"boot,omitempty"`
}

// EventType gives the wire name.
func (MachineContradicted) EventType() string { return "machine.contradicted.v1" }

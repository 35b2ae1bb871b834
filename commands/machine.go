package commands

import (
	"encoding/json"
	"net"
	"sort"
	"strconv"
	"time"

	"cloudengine/events"
)

// Machine is a computer that we manage.
type Machine struct {
	ID    events.MachineID
	Name  string
	Data  events.MachineAdded
	Boot  string // enrolled; empty before the first enrolment
	Key   string // of that boot
	Image string

	WantedImage string // version that it is given at its next boot; empty: the default
	ImageBefore string // version that a roll back means; empty: not known

	Draining   bool // a storage node whose disks are not chosen any more
	Silent     bool
	BootOver   bool   // power was proven off after this boot enrolled: it cannot report any more
	Power      string // events.PowerIsOn …; empty: never read
	BMCHealthy bool   // answered rightly at the last check
	BMCProven  bool   // answered rightly at least once
	bmcChecked bool
	BMCGUID    string // of the controller that was proven healthy; no other one's word is proof

	tokens      []string          // SHA-256 of the tokens that were served and not used, oldest first
	tokenImages map[string]string // which image each of them came with
	usedToken   string
	counter     uint64 // of the last report that was recorded
	ops         []events.IntentID
	powerOp     events.IntentID // the latest power operation that is not just a look
	powerGoal   string          // its action
	powerBoot   string          // the boot that it was decided about
	complaint   string          // the last contradiction that was recorded
	spent       spent           // of what it may have recorded
}

// maxTokens bounds the served boots that are remembered for one machine.
const maxTokens = 8

var knownRoles = []string{events.RoleHost, events.RoleStorageNode, events.RoleProxy}

// AddMachine makes a machine known.
type AddMachine struct {
	Name   string      `json:"name"`
	MACs   []string    `json:"macs"`
	Serial string      `json:"serial,omitempty"`
	Roles  []string    `json:"roles"`
	BMC    *events.BMC `json:"bmc,omitempty"`
}

func (a AddMachine) check() *Rejection {
	if len(a.MACs) == 0 || len(a.MACs) > 16 {
		return invalid("field \"macs\": want 1 to 16 addresses of NICs that it boots from")
	}
	for _, m := range a.MACs {
		hw, err := net.ParseMAC(m)
		if err != nil || len(hw) != 6 || hw.String() != m || hw[0]&1 != 0 {
			return invalid("field \"macs\": %q is not a MAC address like 52:54:00:12:34:56, in lower case", clip(m))
		}
	}
	if len(a.Roles) != 1 || !contains(knownRoles, a.Roles[0]) {
		return invalid("field \"roles\": want one of host, storage_node, proxy")
	}
	if len(a.Serial) > 64 {
		return invalid("field \"serial\": want at most 64 bytes")
	}
	return first(checkName("name", a.Name), checkBMC(a.BMC))
}

func checkBMC(b *events.BMC) *Rejection {
	if b == nil {
		return nil
	}
	host, port, err := net.SplitHostPort(b.Address)
	n, perr := strconv.Atoi(port)
	if err != nil || host == "" || len(host) > 253 || perr != nil || n < 1 || n > 65535 {
		return invalid("field \"bmc.address\": want host:port (IPMI's port is 623)")
	}
	if b.User == "" || len(b.User) > 16 {
		return invalid("field \"bmc.user\": want 1 to 16 bytes (IPMI 2.0)")
	}
	return checkName("bmc.secret", b.Secret)
}

func decideAddMachine(d *decision, a AddMachine) error {
	if err := d.freeName(events.KindMachine, "", a.Name); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, mac := range a.MACs {
		if id, taken := d.s.macs[mac]; taken || seen[mac] {
			return reject(events.CodeConflict, "MAC address %s belongs to machine %s already", mac, id)
		}
		seen[mac] = true
	}
	if a.BMC != nil {
		if _, ok := d.s.secrets[a.BMC.Secret]; !ok {
			return reject(events.CodeNotFound, "there is no secret %q: set it first (secret set)", a.BMC.Secret)
		}
		for _, m := range d.s.machines {
			if m.Data.BMC != nil && m.Data.BMC.Address == a.BMC.Address {
				return reject(events.CodeConflict, "the BMC at %s belongs to machine %q already", a.BMC.Address, m.Name)
			}
		}
	}
	d.add(events.KindMachine, d.newID(), events.MachineAdded(a))
	d.addDiscovered(a)
	return nil
}

// MachineRef names a machine.
type MachineRef struct {
	Machine events.MachineID `json:"machine"`
}

func (a MachineRef) check() *Rejection { return checkID("machine", string(a.Machine)) }

func (d *decision) machine(id events.MachineID) (*Machine, error) {
	m, ok := d.s.machines[id]
	if !ok {
		return nil, reject(events.CodeNotFound, "there is no machine %s", id)
	}
	return m, d.expect(events.KindMachine, m.Name)
}

func decideRemoveMachine(d *decision, a MachineRef) error {
	m, err := d.machine(a.Machine)
	if err != nil {
		return err
	}
	if h, ok := d.s.hosts[a.Machine]; ok && (len(h.grants) > 0 || len(h.ghosts) > 0) {
		return reject(events.CodeConflict, "machine %q may still run %d VMs: stop them, or prove their end, first", m.Name, len(h.grants)+len(h.ghosts))
	}
	if f := d.s.fabricWith(m.ID); f != "" {
		return reject(events.CodeConflict, "machine %q is on fabric %q: fabric leave first", m.Name, f)
	}
	for _, op := range m.ops {
		d.endOperation(op, events.OperationFailed{Message: "the machine was removed"})
	}
	d.add(events.KindMachine, string(m.ID), events.MachineRemoved{})
	return nil
}

// BootServed reports that our netboot server served a boot.
type BootServed struct {
	Machine     events.MachineID `json:"machine"`
	TokenSHA256 string           `json:"token_sha256"`
	MAC         string           `json:"mac"`
	Image       string           `json:"image"`
}

func (a BootServed) check() *Rejection {
	return first(checkID("machine", string(a.Machine)), checkBlob("token", events.Blob{SHA256: a.TokenSHA256, Size: 1}))
}

func decideBootServed(d *decision, a BootServed) error {
	m, err := d.machine(a.Machine)
	if err != nil {
		return err
	}
	if m.served(a.TokenSHA256) || m.usedToken == a.TokenSHA256 {
		return nil
	}
	d.add(events.KindMachine, string(m.ID), events.MachineBootServed{TokenSHA256: a.TokenSHA256, MAC: a.MAC, Image: a.Image})
	return nil
}

func (m *Machine) served(token string) bool {
	for _, t := range m.tokens {
		if t == token {
			return true
		}
	}
	return false
}

// TokenServed says whether our netboot server gave this machine a boot with this token, and no later boot has enrolled. It holds for the
// token of the present boot too: the answer to its enrolment may be lost, and then it must be able to ask again.
func (s *State) TokenServed(id events.MachineID, sha256 string) bool {
	m, ok := s.machines[id]
	return ok && (m.served(sha256) || m.usedToken == sha256 && sha256 != "")
}

// MachineByKey finds the machine whose present boot has this key.
func (s *State) MachineByKey(key string) (Machine, bool) {
	ref := s.keys[key]
	m, ok := s.machines[events.MachineID(ref.ID)]
	if !ok || ref.Kind != events.KindMachine || m.Key != key {
		return Machine{}, false
	}
	return *m, true
}

// Machine finds a machine by its id.
func (s *State) Machine(id events.MachineID) (Machine, bool) {
	m, ok := s.machines[id]
	if !ok {
		return Machine{}, false
	}
	return *m, true
}

// Machines lists all machines, by id.
func (s *State) Machines() []Machine {
	out := make([]Machine, 0, len(s.machines))
	for _, m := range s.machines {
		out = append(out, *m)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

func (s *State) foldMachine(e events.Event) {
	id := events.MachineID(e.Aggregate.ID)
	if data, ok := e.Data.(events.MachineAdded); ok {
		s.machines[id] = &Machine{ID: id, Name: data.Name, Data: data}
		s.names[scope(events.KindMachine, "", data.Name)] = e.Aggregate.ID
		for _, mac := range data.MACs {
			s.macs[mac] = id
		}
		return
	}
	m, ok := s.machines[id]
	if !ok {
		return
	}
	switch data := e.Data.(type) {
	case events.MachineRemoved:
		s.forgetMachine(m)
	case events.MachineBootServed:
		m.tokens = append(m.tokens, data.TokenSHA256)
		if len(m.tokens) > maxTokens {
			m.tokens = m.tokens[len(m.tokens)-maxTokens:]
		}
		m.noteServed(data)
	case events.MachineImageWanted:
		m.WantedImage, m.ImageBefore = data.Image, data.Before
	case events.MachineEnrolled:
		s.foldEnrolled(m, data)
	case events.StorageReady:
		s.storage.ready[m.ID] = data
	case events.MachineSilent:
		m.Silent = true
	case events.MachineReturned:
		m.Silent = false
	case events.MachinePowerWanted:
		if data.Action != events.PowerStatus {
			m.powerOp, m.powerGoal, m.powerBoot = data.Operation, data.Action, data.Boot
		}
	case events.MachinePowerObserved:
		m.Power = data.State
		if data.Proof && data.Boot == m.Boot {
			s.foldBootOver(m)
		}
	case events.MachineBMCChecked:
		m.BMCHealthy, m.bmcChecked = data.Healthy, true
		m.BMCProven = m.BMCProven || data.Healthy
		if data.Healthy && m.BMCGUID == "" {
			m.BMCGUID = data.GUID
		}
	case events.MachineContradicted:
		m.complaint = data.Message
	case events.MachineDrainBegan:
		m.Draining = true
	case events.MachineDrainEnded:
		m.Draining = false
	}
}

// foldCounter notes the counter of a recorded report, whatever its events were about: an older one that comes later is stale.
func (m *Machine) foldCounter(r events.Recorded) {
	if n, ok := counterOf(m, r, "report"); ok {
		m.counter = max(m.counter, n)
	}
}

// counterOf gives the counter of a report that was accepted, if it is of the machine's present boot.
func counterOf(m *Machine, r events.Recorded, verb string) (uint64, bool) {
	if r.Verb != verb || r.Outcome.Status != events.Accepted {
		return 0, false
	}
	var rep struct {
		Boot    string `json:"boot"`
		Counter uint64 `json:"counter"`
	}
	ok := json.Unmarshal(r.Args, &rep) == nil && rep.Boot == m.Boot
	return rep.Counter, ok
}

func (s *State) foldEnrolled(m *Machine, data events.MachineEnrolled) {
	delete(s.keys, m.Key)
	delete(s.storage.counter, m.ID)
	m.Boot, m.Key, m.Image = data.Boot, data.Key, data.Image
	m.Silent, m.BootOver, m.counter, m.complaint, m.Power = false, false, 0, "", events.PowerIsOn
	s.keys[data.Key] = events.Ref{Kind: events.KindMachine, ID: string(m.ID)}
	for i, t := range m.tokens {
		if t == data.TokenSHA256 { // older tokens are of boots that came before
			m.tokens = append([]string(nil), m.tokens[i+1:]...)
			break
		}
	}
	m.usedToken = data.TokenSHA256
}

// noteServed remembers which image came with a token, for the tokens that are remembered.
func (m *Machine) noteServed(data events.MachineBootServed) {
	images := map[string]string{data.TokenSHA256: data.Image}
	for _, t := range m.tokens {
		if image, ok := m.tokenImages[t]; ok {
			images[t] = image
		}
	}
	m.tokenImages = images
}

// foldBootOver takes the host out of placement until it has booted anew.
func (s *State) foldBootOver(m *Machine) {
	m.BootOver = true
	if h, ok := s.hosts[m.ID]; ok {
		h.Ready = false
		h.orphans = map[string]orphan{}
	}
}

func (s *State) forgetMachine(m *Machine) {
	delete(s.names, scope(events.KindMachine, "", m.Name))
	delete(s.keys, m.Key)
	for _, mac := range m.Data.MACs {
		delete(s.macs, mac)
	}
	delete(s.hosts, m.ID)
	delete(s.machines, m.ID)
}

// foldContradiction remembers what a machine was last refused for, so that it is recorded once.
func (s *State) foldContradiction(r events.Recorded) {
	if m, ok := s.machines[machineOfActor(r.Actor)]; ok {
		m.complaint = r.Outcome.Message
	}
}

func machineOfActor(actor string) events.MachineID {
	if len(actor) <= len(machinePrefix) || actor[:len(machinePrefix)] != machinePrefix {
		return ""
	}
	return events.MachineID(actor[len(machinePrefix):])
}

// contradict refuses a report for what cannot be. The first of equal ones is recorded.
func (m *Machine) contradict(code, message string) error {
	if m.complaint == message {
		return reject(events.CodeStale, "%s (recorded before)", message)
	}
	return reject(code, "%s", message)
}

func mustArgs(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("encode arguments of our own command: " + err.Error()) // they are plain structs
	}
	return b
}

func (d *decision) deadlineIn(t time.Duration) time.Time { return d.now.Add(t).UTC() }

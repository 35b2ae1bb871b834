// Package projectionstest makes histories for tests and benchmarks of what is derived from the log: decisions in the order, with the
// events and under the rules that the pure core would give them, but without deciding anything.
//
// A history is a function of the choices that it is given. The package does no I/O.
package projectionstest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"cloudengine/events"
)

// Choose gives a number from 0 to n-1.
type Choose func(n int) int

// World is a history in the making.
type World struct {
	choose   Choose
	all      []events.Recorded
	taken    uint64 // decisions before all
	ordered  bool   // ids rise
	term     uint64
	now      time.Time
	versions map[events.Ref]uint64
	ids      uint64

	account  []string
	template string
	machines []*machine
	vms      []*vm
	open     []string // operations
}

type machine struct {
	id, name, boot string
	silent         bool
	orphan         string
}

type grant struct {
	host  *machine
	boot  string
	epoch events.Epoch

	resizes, counted int
}

type vm struct {
	id, name, account string
	want, ending      string
	counter           uint64
	restarts          int
	grant             *grant
	unknown           bool
	ghosts            []grant
}

// New begins a history: a log with two accounts, a template and some hosts that are ready.
func New(choose Choose, hosts int) *World {
	w := &World{choose: choose, term: 1, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), versions: map[events.Ref]uint64{}}
	w.decide("system:bootstrap", events.KindLog, "open", nil, w.event(events.KindLog, events.LogID, events.LogOpened{Term: 1, Cause: "created"}))
	for i := range 2 {
		id := w.id()
		w.account = append(w.account, id)
		w.created("admin", events.KindAccount, id, events.AccountCreated{Name: fmt.Sprintf("account%d", i)})
		w.created("admin", events.KindUser, w.id(), events.UserCreated{Name: fmt.Sprintf("user%d", i), Key: "UA", Role: events.RoleOperate, Account: events.AccountID(id)})
	}
	w.created("admin", events.KindSecret, w.id(), events.SecretSet{Name: "bmc", Version: 1, Fingerprint: "f"})
	w.template = w.id()
	w.created("admin", events.KindTemplate, w.template, events.TemplateCreated{Name: "tiny", Type: "kernel", Kernel: events.Blob{SHA256: "aa", Size: 10}, MinMemory: 64})
	for i := range hosts {
		m := &machine{id: w.id(), name: fmt.Sprintf("host%d", i+1)}
		w.machines = append(w.machines, m)
		w.created("admin", events.KindMachine, m.id, events.MachineAdded{Name: m.name, MACs: []string{fmt.Sprintf("52:54:00:00:00:%02x", i)},
			Roles: []string{events.RoleHost}, BMC: &events.BMC{Address: "10.77.1.11:623", User: "admin", Secret: "bmc"}})
		w.boot(m)
	}
	return w
}

// All gives the decisions so far.
func (w *World) All() []events.Recorded { return w.all }

func (w *World) id() string {
	w.ids++
	if w.ordered {
		return fmt.Sprintf("%08x-%04x-7000-8000-%012x", w.ids>>16, w.ids&0xffff, w.ids)
	}
	return uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "%d", w.ids)).String()
}

func (w *World) event(k events.Kind, id string, data events.Payload) events.Event {
	ref := events.Ref{Kind: k, ID: id}
	w.versions[ref]++
	return events.New(k, id, w.versions[ref], data)
}

// decide appends an accepted decision.
func (w *World) decide(actor string, k events.Kind, verb string, args any, e ...events.Event) {
	w.add(w.id(), actor, k, verb, args, events.Outcome{Status: events.Accepted}, e)
}

func (w *World) add(intent, actor string, k events.Kind, verb string, args any, o events.Outcome, e []events.Event) {
	raw, err := json.Marshal(args)
	if err != nil {
		panic(err)
	}
	w.now = w.now.Add(time.Duration(w.choose(5000)) * time.Microsecond)
	w.all = append(w.all, events.Recorded{Number: w.taken + uint64(len(w.all)) + 1, Term: w.term, Time: w.now, Decision: events.Decision{
		Intent: events.IntentID(intent), Actor: actor, Kind: k, Verb: verb, Args: raw, Outcome: o, Events: e}})
}

func (w *World) created(actor string, k events.Kind, id string, data events.Payload) {
	w.add(id, actor, k, "create", map[string]string{}, events.Outcome{Status: events.Accepted}, []events.Event{w.event(k, id, data)})
}

// boot gives a machine a new boot: it is enrolled, every grant of the one before ends, and it has reported completely.
func (w *World) boot(m *machine) {
	w.decide("system:netboot", events.KindMachine, "report_boot_served", nil, w.event(events.KindMachine, m.id, events.MachineBootServed{TokenSHA256: "t", MAC: "m", Image: "1"}))
	m.boot, m.silent, m.orphan = w.id(), false, ""
	c := events.Capacity{AllocatableMiB: 64 << 10, PCPUs: 16, XenVersion: "4.17", Types: []string{"pv", "pvh"}}
	e := []events.Event{
		w.event(events.KindMachine, m.id, events.MachineEnrolled{Boot: m.boot, Key: "K" + m.boot, Image: "1", Inventory: events.Inventory{CPUs: 16, MemoryMiB: 65 << 10, Capacity: &c}}),
		w.event(events.KindHost, m.id, events.HostRegistered{Name: m.name, Boot: m.boot, Capacity: c}),
	}
	for _, v := range w.vms {
		if v.grant != nil && v.grant.host == m {
			e = append(e, w.end(v, events.ProofNewBoot, ""))
		}
		e = append(e, w.endGhosts(v, m)...)
	}
	w.decide("machine:"+m.id, events.KindMachine, "enrol", nil, e...)
	w.decide("machine:"+m.id, events.KindMachine, "report", nil, w.event(events.KindHost, m.id, events.HostReady{Boot: m.boot, Term: w.term}))
}

func (w *World) end(v *vm, proof, how string) events.Event {
	g := v.grant
	v.grant, v.unknown, v.ending = nil, false, ""
	if proof == events.ProofOverride {
		v.ghosts = append(v.ghosts, *g)
	}
	return w.event(events.KindVM, v.id, events.VMGrantEnded{Host: events.MachineID(g.host.id), Boot: g.boot, Epoch: g.epoch, Proof: proof, How: how})
}

func (w *World) endGhosts(v *vm, m *machine) []events.Event {
	var out []events.Event
	var rest []grant
	for _, g := range v.ghosts {
		if g.host != m {
			rest = append(rest, g)
			continue
		}
		out = append(out, w.event(events.KindVM, v.id, events.VMStaleDomainEnded{Host: events.MachineID(m.id), Boot: g.boot, Epoch: g.epoch}))
	}
	v.ghosts = rest
	return out
}

func (w *World) grantOn(v *vm, m *machine, adopt string) events.Event {
	v.counter++
	v.grant = &grant{host: m, boot: m.boot, epoch: events.Epoch{Term: w.term, Counter: v.counter}, counted: 128}
	v.restarts, v.ending = 0, ""
	return w.event(events.KindVM, v.id, events.VMRunGranted{Host: events.MachineID(m.id), HostName: m.name, Boot: m.boot, Epoch: v.grant.epoch,
		MemoryMiB: 128, OverheadMiB: 8, VCPUs: 2, Adopt: adopt, Scores: []events.Score{{Host: events.MachineID(m.id), Name: m.name, FreeMiB: 1000, Score: 7}}})
}

// live picks a machine that is heard of, other than not; nil if there is none.
func (w *World) live(not *machine) *machine {
	at := w.choose(len(w.machines))
	for i := range w.machines {
		if m := w.machines[(at+i)%len(w.machines)]; !m.silent && m != not {
			return m
		}
	}
	return nil
}

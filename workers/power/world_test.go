package power

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"cloudengine/commands"
	"cloudengine/events"
)

// world is the real core with machines that have fake BMCs. It decides as the dispatcher does, and is the worker's State.
type world struct {
	t testing.TB

	mu       sync.Mutex
	s        *commands.State
	log      []events.Recorded
	n        int
	bmcs     map[string]*fakeBMC // by address
	ids      []events.MachineID
	reports  []string // what the worker reported, in order
	answer   func(c commands.Command) (events.Answer, error)
	commands []commands.Command
}

func newWorld(t testing.TB, machines int) *world {
	w := &world{t: t, s: commands.NewState(), bmcs: map[string]*fakeBMC{}}
	w.must(commands.ActorBootstrap, "log.open", commands.OpenLog{Term: 1, Cause: "created"})
	w.must(commands.ActorBootstrap, "user.create", commands.CreateUser{Name: "admin", Key: w.key(), Role: events.RoleAdmin})
	w.must("admin", "secret.set", commands.SetSecret{Name: "bmc", Fingerprint: "f00d"})
	for i := range machines {
		address := fmt.Sprintf("10.77.1.%d:623", i+1)
		w.bmcs[address] = &fakeBMC{password: testPassword, id: Identity{GUID: fmt.Sprintf("%032x", i+1), Manufacturer: 1, Product: 2, Firmware: "1.0"}}
		d := w.must("admin", "machine.add", commands.AddMachine{
			Name: fmt.Sprintf("host%d", i+1), MACs: []string{fmt.Sprintf("52:54:00:00:%02x:%02x", i/256, i%256)}, Roles: []string{events.RoleHost},
			BMC: &events.BMC{Address: address, User: "operator", Secret: "bmc"},
		})
		w.ids = append(w.ids, events.MachineID(d.Intent))
	}
	return w
}

func (w *world) key() string {
	k, err := nkeys.CreateUser()
	if err != nil {
		w.t.Fatal(err)
	}
	public, err := k.PublicKey()
	if err != nil {
		w.t.Fatal(err)
	}
	return public
}

// do decides and stores one command. The caller does not hold the lock.
func (w *world) do(actor, verb string, args any) events.Decision {
	raw, err := json.Marshal(args)
	if err != nil {
		w.t.Fatal(err)
	}
	kind, v, _ := strings.Cut(verb, ".")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	return w.decide(commands.Command{Intent: events.FreeFormID("test", fmt.Sprint(w.n)), Actor: actor, Kind: events.Kind(kind), Verb: v, Args: raw})
}

func (w *world) must(actor, verb string, args any) events.Decision {
	w.t.Helper()
	d := w.do(actor, verb, args)
	if d.Outcome.Status != events.Accepted {
		w.t.Fatalf("%s: %+v", verb, d.Outcome)
	}
	return d
}

func (w *world) decide(c commands.Command) events.Decision {
	d := w.s.Decide(c, time.Now())
	if commands.Stored(d) {
		r := events.Recorded{Number: w.s.Next(), Term: 1, Time: time.Now(), Decision: d}
		w.log = append(w.log, r)
		w.s.Evolve(r)
	}
	return d
}

// boot serves and enrols a new boot, and gives its id. The machine's power is on from then on.
func (w *world) boot(i int) string {
	m := w.ids[i]
	w.mu.Lock()
	n := w.n
	w.mu.Unlock()
	token := fmt.Sprintf("%064x", n)
	w.must(commands.ActorNetboot, "machine.report_boot_served", commands.BootServed{Machine: m, TokenSHA256: token, MAC: "52:54:00:00:00:01", Image: "image"})
	boot := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
	w.must(commands.MachineActor(m), "machine.enrol", commands.Enrolment{
		Machine: m, TokenSHA256: token, Boot: boot, Key: w.key(), Image: "image",
		Inventory: events.Inventory{CPUs: 4, MemoryMiB: 4096, Capacity: &events.Capacity{AllocatableMiB: 3000, PCPUs: 4, XenVersion: "4.17", Types: []string{"pv"}}},
	})
	w.bmc(i).set(true)
	return boot
}

func (w *world) bmc(i int) *fakeBMC { return w.bmcs[fmt.Sprintf("10.77.1.%d:623", i+1)] }

// power asks for an action, and gives the message that FEED brings of it.
func (w *world) power(i int, what string) events.FeedMessage {
	w.t.Helper()
	d := w.must("admin", "machine.power", commands.PowerMachine{Machine: w.ids[i], Action: what})
	w.mu.Lock()
	defer w.mu.Unlock()
	at := slices.IndexFunc(w.log, func(r events.Recorded) bool { return r.Intent == d.Intent })
	return message(w.log[at])
}

// message is the power_wanted of a decision.
func message(r events.Recorded) events.FeedMessage {
	i := slices.IndexFunc(r.Events, func(e events.Event) bool { return e.Type == "machine.power_wanted.v1" })
	return events.FeedMessage{Number: r.Number, Index: i, Time: r.Time.Format(time.RFC3339Nano), Intent: r.Intent, Actor: r.Actor, Event: r.Events[i]}
}

// Submit is the worker's way to the decider.
func (w *world) Submit(_ context.Context, c commands.Command) (events.Answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commands = append(w.commands, c)
	if w.answer != nil {
		if a, err := w.answer(c); err != nil || a.Outcome.Code != "" {
			return a, err
		}
	}
	if err := commands.Check(c); err != nil {
		w.t.Errorf("the worker sent %s: %v", c.Args, err)
	}
	d := w.decide(c)
	var p commands.ReportPower
	if c.Verb == "report_power" && json.Unmarshal(c.Args, &p) == nil {
		w.reports = append(w.reports, strings.TrimSpace(fmt.Sprintf("%s×%d %s", p.State, p.Reads, p.Error)))
	}
	return events.Answer{ID: c.Intent, Outcome: d.Outcome}, nil
}

func (w *world) connect(ctx context.Context, t Target) (BMC, error) {
	return w.bmcs[t.Address].connect(ctx, t)
}

func (w *world) OperationOpen(id events.IntentID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.s.OperationOpen(id)
}

func (w *world) Machine(id events.MachineID) (Machine, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, ok := w.s.Machine(id)
	return Machine{ID: m.ID, Name: m.Name, BMC: m.Data.BMC, Boot: m.Boot, Power: m.Power, GUID: m.BMCGUID}, ok
}

func (w *world) Machines() []Machine {
	w.mu.Lock()
	all := w.s.Machines()
	w.mu.Unlock()
	var out []Machine
	for _, m := range all {
		out = append(out, Machine{ID: m.ID, Name: m.Name, BMC: m.Data.BMC, Boot: m.Boot, Power: m.Power, GUID: m.BMCGUID})
	}
	return out
}

// lastObserved is LastObserved, out of the log.
func (w *world) lastObserved(_ context.Context, id events.MachineID) (events.MachinePowerObserved, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range slices.Backward(w.log) {
		for _, e := range r.Events {
			if o, ok := e.Data.(events.MachinePowerObserved); ok && e.Aggregate.ID == string(id) {
				return o, true
			}
		}
	}
	return events.MachinePowerObserved{}, false
}

func (w *world) worker() *Worker {
	w.t.Helper()
	p, err := New(Config{
		State: w, Connect: w.connect, Submit: w.Submit, LastObserved: w.lastObserved,
		Secret: func(name string) ([]byte, error) {
			if name != "bmc" {
				return nil, fmt.Errorf("no secret %q", name)
			}
			return []byte(testPassword), nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// told is what the worker reported of power since the last call.
func (w *world) told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.reports
	w.reports = nil
	return out
}

// ended is how the operation of a message ended: the last event's type, and its message if it failed.
func (w *world) ended(m events.FeedMessage) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	op := string(m.Event.Data.(events.MachinePowerWanted).Operation)
	for _, r := range slices.Backward(w.log) {
		for _, e := range r.Events {
			if e.Aggregate.Kind == events.KindOperation && e.Aggregate.ID == op {
				if f, ok := e.Data.(events.OperationFailed); ok {
					return "failed: " + f.Message
				}
				return strings.TrimSuffix(strings.TrimPrefix(e.Type, "operation."), ".v1")
			}
		}
	}
	return "?"
}

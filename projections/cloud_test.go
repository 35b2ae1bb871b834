package projections

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"pgregory.net/rapid"

	"cloudengine/commands"
	"cloudengine/events"
	document "cloudengine/events/desired"
	"cloudengine/projections/desired"
)

// cloud is the whole road without its edges: the real core, the real renderer and the real read models, and machines that obey
// documents which come late, twice and out of order.
type cloud struct {
	t     *rapid.T
	state *commands.State
	fold  *desired.Fold
	rows  memory
	now   time.Time
	n     int
	boots int
	queue []commands.Command

	account, template string
	vms               []string
	nodes             []*node
	overridden        map[string]bool // VMs whose grant a human's word has ended
}

// node is one machine with what really runs on it.
type node struct {
	id      string
	boot    string
	cut     bool
	counter uint64
	mailbox []document.Document // everything that was ever published for it
	wishes  map[events.VMID]wish
	domains map[events.VMID]*events.DomainReport
	ended   map[events.VMID]events.DomainEnded
}

type wish struct {
	document.Domain
	generation events.Generation
}

var cloudKeys = func() []string {
	out := make([]string, 128) // one for each boot of a history
	for i := range out {
		k, err := nkeys.CreateUser()
		if err != nil {
			panic(err)
		}
		if out[i], err = k.PublicKey(); err != nil {
			panic(err)
		}
	}
	return out
}()

func newCloud(t *rapid.T) *cloud {
	c := &cloud{t: t, state: commands.NewState(), fold: desired.NewFold(), rows: memory{}, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), overridden: map[string]bool{}}
	c.must(commands.ActorBootstrap, "log.open", map[string]any{"term": 1, "cause": "created"})
	c.must(commands.ActorBootstrap, "user.create", map[string]any{"name": "admin", "key": cloudKeys[0], "role": "admin"})
	c.account = c.must("admin", "account.create", map[string]any{"name": "acme"})
	c.template = c.must("admin", "template.create", map[string]any{"name": "tiny", "type": "kernel", "kernel": map[string]any{"sha256": strings.Repeat("ab", 32), "size": 9}, "min_memory_mib": 64})
	c.must("admin", "secret.set", map[string]any{"name": "bmc", "fingerprint": "f00d"})
	for i := range 3 {
		n := &node{id: c.must("admin", "machine.add", map[string]any{"name": fmt.Sprintf("host%d", i), "macs": []string{fmt.Sprintf("52:54:00:00:00:%02x", i)}, "roles": []string{"host"},
			"bmc": map[string]any{"address": fmt.Sprintf("10.77.1.%d:623", i), "user": "admin", "secret": "bmc"}})}
		c.nodes = append(c.nodes, n)
		c.must(commands.ActorPower, "machine.report_bmc", map[string]any{"machine": n.id, "healthy": true})
		c.boot(n)
	}
	for i := range 3 {
		c.vms = append(c.vms, c.must("admin", "vm.create", map[string]any{"account": c.account, "name": fmt.Sprintf("vm%d", i), "type": "pv", "vcpus": 1, "memory_mib": 128, "template": c.template}))
	}
	return c
}

func (c *cloud) choose(n int) int { return rapid.IntRange(0, n-1).Draw(c.t, "choice") }

func (c *cloud) must(actor, verb string, args any) string {
	id, o := c.do(commands.Command{Actor: actor}, verb, args)
	if o.Status != events.Accepted {
		c.t.Fatalf("%s: %+v", verb, o)
	}
	return id
}

// do decides a command, folds it everywhere, and decides what follows.
func (c *cloud) do(cmd commands.Command, verb string, args any) (string, events.Outcome) {
	raw, err := json.Marshal(args)
	if err != nil {
		c.t.Fatal(err)
	}
	kind, v, _ := strings.Cut(verb, ".")
	c.n++
	cmd.Intent, cmd.Kind, cmd.Verb, cmd.Args = events.FreeFormID("cloud", fmt.Sprint(c.n)), events.Kind(kind), v, raw
	o := c.decide(cmd)
	for len(c.queue) > 0 {
		next := c.queue[0]
		c.queue = c.queue[1:]
		c.decide(next)
	}
	return string(cmd.Intent), o
}

func (c *cloud) decide(cmd commands.Command) events.Outcome {
	c.now = c.now.Add(time.Millisecond)
	d := c.state.Decide(cmd, c.now)
	if !commands.Stored(d) {
		return d.Outcome
	}
	r := events.Recorded{Number: c.state.Next(), Term: max(1, c.state.Term()), Time: c.now, Decision: d}
	c.state.Evolve(r)
	c.queue = append(c.queue, c.state.React(r)...)
	for _, p := range Parts(&r) {
		if _, err := ApplyPart(c.rows, &r, p); err != nil {
			c.t.Fatalf("decision %d %s.%s cannot be applied: %v", r.Number, r.Kind, r.Verb, err)
		}
	}
	changed, err := c.fold.Apply(nil, &r)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range changed {
		doc, _ := c.fold.Document(s)
		for _, n := range c.nodes {
			if n.id == string(doc.Machine) {
				n.mailbox = append(n.mailbox, doc)
			}
		}
	}
	return d.Outcome
}

// boot serves and enrols a new boot: nothing runs on it.
func (c *cloud) boot(n *node) {
	c.n++
	c.boots++
	token, boot := fmt.Sprintf("%064x", c.n), fmt.Sprintf("00000000-0000-4000-8000-%012d", c.n)
	*n = node{id: n.id, boot: boot, mailbox: n.mailbox, wishes: map[events.VMID]wish{}, domains: map[events.VMID]*events.DomainReport{}, ended: map[events.VMID]events.DomainEnded{}}
	c.must(commands.ActorNetboot, "machine.report_boot_served", map[string]any{"machine": n.id, "token_sha256": token, "mac": "52:54:00:00:00:01", "image": "1"})
	c.must(commands.MachineActor(events.MachineID(n.id)), "machine.enrol", events.Enrol{Machine: events.MachineID(n.id), TokenSHA256: token, Boot: boot, Key: cloudKeys[c.boots], Image: "1",
		Inventory: events.Inventory{CPUs: 4, MemoryMiB: 1000, Capacity: &events.Capacity{AllocatableMiB: 400, PCPUs: 4, XenVersion: "4.17", Types: []string{"pv", "pvh"}}}})
	c.report(n)
}

// deliver gives the machine some document that was published for it, and lets it act.
func (c *cloud) deliver(n *node, at int) {
	d := n.mailbox[at]
	if d.Boot != n.boot || d.Kind != document.KindDomain {
		return
	}
	b, err := d.Domain()
	if err != nil {
		c.t.Fatal(err)
	}
	if have, ok := n.wishes[b.VM]; ok && d.Generation.Compare(have.generation) <= 0 {
		return
	}
	w := wish{b, d.Generation}
	n.wishes[b.VM] = w
	n.act(w)
}

func (n *node) act(w wish) {
	d := n.domains[w.VM]
	if d != nil && (d.Epoch.Compare(w.Epoch) < 0 || w.Want == document.Absent || w.Want == document.Shutdown) {
		n.ended[w.VM] = events.DomainEnded{VM: w.VM, Epoch: d.Epoch, Generation: w.generation, How: events.EndedDestroyed}
		delete(n.domains, w.VM)
		d = nil
	}
	switch w.Want {
	case document.Absent, document.Shutdown:
		if _, told := n.ended[w.VM]; !told {
			n.ended[w.VM] = events.DomainEnded{VM: w.VM, Epoch: w.Epoch, Generation: w.generation, How: events.EndedAbsent}
		}
		return
	}
	state := map[string]string{document.Running: events.DomainRunning, document.Paused: events.DomainPaused}[w.Want]
	if d == nil {
		d = &events.DomainReport{UUID: string(w.VM), DomID: 1, Name: w.Name, Stamped: true, VM: w.VM, Epoch: w.Epoch, Boot: n.boot, MemoryMiB: w.MemoryMiB, VCPUs: w.VCPUs, Weight: w.Weight}
		n.domains[w.VM] = d
	}
	d.State, d.Restarts = state, w.Restarts
}

// report tells everything that the machine sees.
func (c *cloud) report(n *node) {
	n.counter++
	r := events.Report{Machine: events.MachineID(n.id), Boot: n.boot, Counter: n.counter, Complete: true}
	for _, vm := range c.vms {
		if d, ok := n.domains[events.VMID(vm)]; ok {
			r.Domains = append(r.Domains, *d)
		}
		if e, ok := n.ended[events.VMID(vm)]; ok {
			r.Ended = append(r.Ended, e)
		}
	}
	if _, o := c.do(commands.Command{Actor: commands.MachineActor(r.Machine)}, "machine.report", r); o.Status != events.Refused {
		n.ended = map[events.VMID]events.DomainEnded{}
	}
}

func (c *cloud) step() {
	n, vm := c.nodes[c.choose(len(c.nodes))], c.vms[c.choose(len(c.vms))]
	admin := commands.Command{Actor: "admin"}
	switch k := c.choose(18); k {
	case 0, 1, 2:
		c.do(admin, "vm.start", map[string]any{"vm": vm})
	case 3:
		c.override(vm)
	case 4, 5:
		c.do(admin, []string{"vm.stop", "vm.shutdown"}[k-4], map[string]any{"vm": vm})
	case 6:
		c.do(admin, []string{"vm.pause", "vm.resume", "vm.reboot"}[c.choose(3)], map[string]any{"vm": vm})
	case 7, 8, 9, 10:
		if !n.cut && len(n.mailbox) > 0 {
			c.deliver(n, c.choose(len(n.mailbox)))
		}
	case 11, 12, 13:
		if !n.cut {
			c.report(n)
		}
	case 14:
		n.cut = true
		c.do(commands.Command{Actor: commands.ActorLiveness}, "machine.report_silent", map[string]any{"machine": n.id, "boot": n.boot})
	case 15:
		n.cut = false
	case 16:
		c.boot(n)
	case 17:
		c.powerOff(n)
	}
}

func (c *cloud) override(vm string) {
	v, _ := c.state.VM(events.VMID(vm))
	if v.Unknown {
		c.overridden[vm] = true
	}
	c.do(commands.Command{Actor: "admin", Override: []string{commands.GuardEndProof}, Reason: "it burns"}, "vm.start", map[string]any{"vm": vm})
}

func (c *cloud) powerOff(n *node) {
	n.domains = map[events.VMID]*events.DomainReport{} // it is really off
	n.cut = true
	c.do(commands.Command{Actor: commands.ActorPower}, "machine.report_power", map[string]any{"machine": n.id, "boot": n.boot, "state": "off", "reads": 2})
	c.boot(n)
}

// check: no VM has two domains in the world, unless a human took the risk; and what hosts have given is the sum of their grants.
func (c *cloud) check() {
	for _, vm := range c.vms {
		var on []string
		for _, n := range c.nodes {
			if n.domains[events.VMID(vm)] != nil {
				on = append(on, n.id)
			}
		}
		if len(on) > 1 && !c.overridden[vm] {
			c.t.Fatalf("VM %s runs on %v", vm, on)
		}
	}
	used := map[string]int64{}
	for _, row := range c.rows[grantTable] {
		if g := row.(*Grant); g.Live || g.Stale {
			used[g.Host] += int64(g.MemoryMiB + g.OverheadMiB)
		}
	}
	for _, row := range c.rows[hostTable] {
		if h := row.(*Host); h.UsedMiB != used[h.ID] || h.FreeMiB < 0 {
			c.t.Fatalf("host %s has given %d MiB, its grants take %d, %d are free", h.Name, h.UsedMiB, used[h.ID], h.FreeMiB)
		}
	}
}

// settle lets everything arrive, until nothing moves.
func (c *cloud) settle() {
	for range 6 {
		for _, n := range c.nodes {
			n.cut = false
			c.report(n)
			for i := range n.mailbox {
				c.deliver(n, i)
			}
			c.report(n)
		}
	}
}

func TestCloud(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCloud(t)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			c.step()
			c.check()
		}
		c.settle()
		c.check()
		for _, id := range c.vms {
			v := c.rows[vmTable][id].(*VM)
			var real *events.DomainReport
			for _, n := range c.nodes {
				if d := n.domains[events.VMID(id)]; d != nil {
					if real != nil {
						t.Fatalf("VM %s runs twice after everything has settled", id)
					}
					real = d
				}
			}
			want := VMStopped
			if real != nil {
				want = map[string]string{events.DomainRunning: VMRunning, events.DomainPaused: VMPaused}[real.State]
				if v.Epoch == nil || *v.Epoch != real.Epoch.String() || v.DomID == nil || *v.DomID != real.DomID || *v.DomainMemoryMiB != real.MemoryMiB {
					t.Fatalf("VM %s: the row says %+v, and there is %+v", id, *v, *real)
				}
			}
			if v.State != want && v.State != VMWaiting {
				t.Fatalf("VM %s is %s in the row and %s in the world (%+v)", id, v.State, want, *v)
			}
		}
	})
}

// Package workertest holds a Xen host that is not there, and the suite that it and the real one must both pass.
//
// Host models domains, xenstore, memory, guests that obey or not, calls that fail, and agents that are killed before, during and
// after a call. It checks by itself that no VM ever runs twice. It does not model time, devices or dom0. The package does not use
// package testing, so that an agent can run the suite on a real host and run on a recorded one.
package workertest

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"

	"cloudengine/events"
	"cloudengine/workers/host"
)

// ErrKilled is what every call returns after the agent was killed, until Revive.
var ErrKilled = errors.New("the agent was killed")

// Guest is one domain of the model.
type Guest struct {
	host.Domain
	Config host.Config
	Half   bool // made or unmade by half: xenstore knows nothing of it
}

// Machine is all that a Host remembers. It can be stored and read again as JSON.
type Machine struct {
	Boot     string
	TotalMiB int
	FreeMiB  int
	PCPUs    int
	NextID   int
	Guests   map[int]*Guest
	Nodes    map[string]string
	Models   map[int]bool   // domids of device models
	Devices  map[string]int // minor numbers of block devices, by path; one that is not there has 0
	Minors   int            // that were ever given
	Seeds    map[string]int // minor numbers of the loop devices of seeds, by name; one that was made or taken away by half has 0

	Limits map[string]events.DiskLimits `json:",omitempty"` // of block devices, by number
}

// Host is the model. It is safe for concurrent use.
type Host struct {
	mu       sync.Mutex
	m        Machine
	below    map[string]map[string]bool // names below each path of m.Nodes
	calls    []string
	twice    []string
	kill     Kill
	killed   bool
	count    int
	Fail     func(call string) error // a call that it returns an error for does nothing
	Called   func(call string)       // before each call that changes something
	Save     func(Machine) error     // after each change
	Stubborn bool                    // guests do not obey a wish to shut down
}

// Kill says when the agent dies: at which changing call (from 1; 0 = never), and where in it.
type Kill struct {
	At    int
	Where Where
}

// Where a call is cut off.
type Where int

// The places.
const (
	Before Where = iota
	During       // only create and destroy have a half; the others count as done
	After
)

// NewHost makes a host with nothing on it.
func NewHost(memoryMiB int) *Host {
	return Restore(Machine{TotalMiB: memoryMiB, FreeMiB: memoryMiB, PCPUs: 16})
}

// Restore makes a host of what another remembered.
func Restore(m Machine) *Host {
	if m.Guests == nil {
		m.Guests = map[int]*Guest{}
	}
	if m.Models == nil {
		m.Models = map[int]bool{}
	}
	if m.Devices == nil {
		m.Devices = map[string]int{}
	}
	if m.Seeds == nil {
		m.Seeds = map[string]int{}
	}
	if m.Nodes == nil {
		m.Nodes = map[string]string{}
	}
	m.NextID = max(m.NextID, 1)
	h := &Host{m: m, below: map[string]map[string]bool{}}
	for path := range m.Nodes {
		h.enter(path)
	}
	return h
}

var (
	_ host.Toolstack = (*Host)(nil)
	_ host.Store     = (*Host)(nil)
	_ host.Disks     = (*Host)(nil)
)

// KillAt arms the death of the agent, counted from now.
func (h *Host) KillAt(k Kill) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kill, h.count = k, 0
}

// Killed says whether it has happened.
func (h *Host) Killed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.killed
}

// Revive lets the next agent in.
func (h *Host) Revive() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.killed, h.kill = false, Kill{}
}

// Calls lists the calls that changed something, and how many there were since KillAt.
func (h *Host) Calls() ([]string, int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string{}, h.calls...), h.count
}

// Twice lists the moments at which a VM ran twice. It must be empty.
func (h *Host) Twice() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string{}, h.twice...)
}

// change runs do as one call that changes something; half is what is left of it when it is cut off in the middle.
func (h *Host) change(call string, do func() error, half func()) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killed {
		return ErrKilled
	}
	if h.Called != nil {
		h.Called(call)
	}
	h.count++
	now := h.kill.At == h.count
	if now && h.kill.Where == Before {
		h.killed = true
		return ErrKilled
	}
	if h.Fail != nil {
		if err := h.Fail(call); err != nil {
			return err
		}
	}
	h.calls = append(h.calls, call)
	if now && h.kill.Where == During && half != nil {
		half()
		h.killed = true
		return errors.Join(ErrKilled, h.save())
	}
	err := do()
	h.watch(call)
	if now {
		h.killed = true
		err = ErrKilled
	}
	return errors.Join(err, h.save())
}

func (h *Host) save() error {
	if h.Save == nil {
		return nil
	}
	return h.Save(h.m)
}

// watch notes a VM that runs twice.
func (h *Host) watch(call string) {
	running := map[string]int{}
	for _, id := range h.ids() {
		g := h.m.Guests[id]
		if g.State != events.DomainRunning {
			continue
		}
		vm := h.m.Nodes[host.StampRoot+"/"+strconv.Itoa(id)+"/vm"]
		if vm == "" {
			vm = g.UUID
		}
		if other, ok := running[vm]; ok {
			h.twice = append(h.twice, fmt.Sprintf("after %s: VM %s runs in domains %d and %d", call, vm, other, id))
		}
		running[vm] = id
	}
}

func (h *Host) ids() []int {
	ids := make([]int, 0, len(h.m.Guests))
	for id := range h.m.Guests {
		ids = append(ids, id)
	}
	sort.Ints(ids)
	return ids
}

// Info tells of the model.
func (h *Host) Info(context.Context) (host.Info, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killed {
		return host.Info{}, ErrKilled
	}
	return host.Info{
		Version: "4.17.model", PCPUs: h.m.PCPUs, TotalMiB: h.m.TotalMiB, FreeMiB: h.m.FreeMiB,
		VirtCaps: []string{"pv", "hvm", "hap"}, Scheduler: "credit", DeviceModel: true, Dom0MiB: 1024,
	}, nil
}

// List gives the domains of the model.
func (h *Host) List(context.Context) ([]host.Domain, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killed {
		return nil, ErrKilled
	}
	if h.Fail != nil {
		if err := h.Fail("list"); err != nil {
			return nil, err
		}
	}
	var out []host.Domain
	for _, id := range h.ids() {
		out = append(out, h.m.Guests[id].Domain)
	}
	return out, nil
}

// overheadMiB stands for what Xen needs beside a domain's memory.
const overheadMiB = 2

// Create makes a paused domain.
func (h *Host) Create(_ context.Context, c host.Config) error {
	make := func(half bool) error {
		for _, g := range h.m.Guests {
			if g.Name == c.Name {
				return fmt.Errorf("create %s: a domain of this name is there already", c.Name)
			}
		}
		if need := c.MemoryMiB + overheadMiB; h.m.FreeMiB < need {
			return fmt.Errorf("create %s: %d MiB of memory are free, %d are needed", c.Name, h.m.FreeMiB, need)
		}
		if err := h.plug(c); err != nil {
			return fmt.Errorf("create %s: %w", c.Name, err)
		}
		id := h.m.NextID
		h.m.NextID++
		h.m.FreeMiB -= c.MemoryMiB + overheadMiB
		g := &Guest{Config: c, Half: half, Domain: host.Domain{
			DomID: id, Name: c.Name, UUID: c.UUID, State: events.DomainPaused, MemoryMiB: c.MemoryMiB, VCPUs: c.VCPUs, Weight: c.Weight,
		}}
		if g.Weight == 0 {
			g.Weight = 256
		}
		h.m.Guests[id] = g
		if c.Type == events.TypeHVM {
			h.m.Models[id] = true
			g.MemoryMiB--
		}
		if half {
			g.Name = "(null)"
			return nil
		}
		h.serve(id, c.Disks)
		dir := "/local/domain/" + strconv.Itoa(id)
		h.setNode(dir+"/name", c.Name)
		h.setNode(dir+"/vm", "/vm/"+c.UUID)
		h.setNode(dir+"/memory/static-max", strconv.Itoa(c.MemoryMiB<<10))
		for i := range max(c.VCPUs, c.MaxVCPUs) {
			h.setNode(dir+"/cpu/"+strconv.Itoa(i)+"/availability", "online")
		}
		return nil
	}
	return h.change("create "+c.Name, func() error { return make(false) }, func() { _ = make(true) })
}

// Act does one thing to a domain.
func (h *Host) Act(_ context.Context, a host.Action, domid int) error {
	call := string(a) + " " + strconv.Itoa(domid)
	return h.change(call, func() error { return h.act(a, domid) }, func() {
		if g := h.m.Guests[domid]; g != nil && a == host.ActDestroy {
			g.Half, g.Name, g.State = true, "(null)", events.DomainPaused
			h.removeNodes("/local/domain/" + strconv.Itoa(domid))
			h.removeNodes(backendDir(domid))
		} else {
			_ = h.act(a, domid)
		}
	})
}

func (h *Host) act(a host.Action, domid int) error {
	g, ok := h.m.Guests[domid]
	alive := ok && (g.State == events.DomainRunning || g.State == events.DomainPaused)
	switch {
	case a == host.ActDestroy && ok:
		h.m.FreeMiB += g.Config.MemoryMiB + overheadMiB
		delete(h.m.Guests, domid)
		delete(h.m.Models, domid)
		h.removeNodes("/local/domain/" + strconv.Itoa(domid))
		h.removeNodes(backendDir(domid))
		return nil
	case a == host.ActDestroy:
		return nil
	case !ok:
		return fmt.Errorf("%s domain %d: there is none", a, domid)
	case !alive:
		return nil
	case a == host.ActPause:
		g.State = events.DomainPaused
	case a == host.ActUnpause:
		g.State, g.Ran = events.DomainRunning, true
		if _, word, ok := strings.Cut(after(g.Config.Cmdline), ":"); ok {
			g.end(word)
		}
	case a == host.ActShutdown && g.State == events.DomainRunning && !h.Stubborn:
		g.end("poweroff")
	}
	return nil
}

// after finds the word ce.after=<seconds>:<what> of the test guest's command line. The model does it at once.
func after(cmdline string) string {
	for w := range strings.FieldsSeq(cmdline) {
		if v, ok := strings.CutPrefix(w, "ce.after="); ok {
			return v
		}
	}
	return ""
}

func (g *Guest) end(word string) {
	switch word {
	case "poweroff", "reboot":
		g.State, g.ShutdownReason = events.DomainShutdown, word
	case "crash":
		g.State, g.ShutdownReason = events.DomainCrashed, word
	}
}

// Guest makes the running guest of a VM do something by itself: poweroff, reboot, crash.
func (h *Host) Guest(uuid, word string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range h.ids() {
		if g := h.m.Guests[id]; g.UUID == uuid && g.State == events.DomainRunning {
			g.end(word)
			return h.save() == nil
		}
	}
	return false
}

// Release does nothing: the model has nobody who acts beside the agent.
func (h *Host) Release(_ context.Context, name string) error {
	return h.change("release "+name, func() error { return nil }, nil)
}

// SetWeight sets the weight of a domain.
func (h *Host) SetWeight(_ context.Context, domid, weight int) error {
	return h.change(fmt.Sprintf("weight %d %d", domid, weight), func() error {
		g, ok := h.m.Guests[domid]
		if !ok {
			return fmt.Errorf("set weight of domain %d: there is none", domid)
		}
		g.Weight = weight
		return nil
	}, nil)
}

package commands

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cloudengine/events"
)

// TestRandomHistories runs random intents, reports (true, late, doubled, incomplete, of other boots and of other machines), power
// readings, silences, boots and deadlines. The audit of the log is the oracle. Afterwards the log is folded again and must give the same state.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(t)
		for range rapid.IntRange(1, 120).Draw(rt, "steps") {
			h.step(rt)
			h.checkRoom(rt)
		}
		a := NewAudit()
		for _, r := range h.w.log {
			a.Add(r)
		}
		if b := a.Broken(); len(b) > 0 {
			rt.Fatalf("the log breaks invariants: %v", b)
		}
		h.checkReality(rt)
		h.checkReplay(rt)
	})
}

// history is a world with machines that really hold domains: what runs where is kept apart from the log.
type history struct {
	w     *world
	vms   []string
	hosts []string
	real  map[events.MachineID]map[events.VMID]events.DomainReport // domains of the present boot
	boot  map[events.MachineID]string
	old   []events.Report // sent before, and delivered again at any time
}

func newHistory(t *testing.T) *history {
	h := &history{w: newWorld(t), real: map[events.MachineID]map[events.VMID]events.DomainReport{}, boot: map[events.MachineID]string{}}
	for i := range 3 {
		name := fmt.Sprintf("host%d", i)
		h.w.addHost(name, 400)
		h.hosts = append(h.hosts, name)
		h.real[h.w.host(name)] = map[events.VMID]events.DomainReport{}
		h.boot[h.w.host(name)] = h.w.s.machines[h.w.host(name)].Boot
	}
	for i := range 4 {
		name := fmt.Sprintf("vm%d", i)
		h.w.createVM(name, 128)
		h.vms = append(h.vms, name)
	}
	return h
}

func (h *history) step(rt *rapid.T) {
	w, vm := h.w, h.w.vm(rapid.SampledFrom(h.vms).Draw(rt, "vm"))
	name := rapid.SampledFrom(h.hosts).Draw(rt, "host")
	host := w.host(name)
	m := w.s.machines[host]
	switch rapid.IntRange(0, 15).Draw(rt, "what") {
	case 0, 1:
		w.do("vm.start", StartVM{VM: vm})
	case 2:
		w.do("vm.stop", VMRef{vm})
	case 3:
		w.do("vm.shutdown", ShutdownVM{VM: vm, Timeout: 5})
	case 4:
		w.do(rapid.SampledFrom([]string{"vm.pause", "vm.resume", "vm.reboot"}).Draw(rt, "verb"), VMRef{vm})
	case 5, 6, 7:
		h.obey(host)
		h.send(name, rapid.Bool().Draw(rt, "complete"))
	case 8:
		h.real[host] = map[events.VMID]events.DomainReport{}
		h.boot[host] = w.boot(name, 400).Events[0].Data.(events.MachineEnrolled).Boot
	case 9:
		w.as(ActorLiveness, "machine.report_silent", SilenceReport{host, m.Boot})
	case 10:
		h.powerOff(rt, host)
	case 11:
		if len(h.old) > 0 {
			r := rapid.SampledFrom(h.old).Draw(rt, "old")
			w.as(MachineActor(rapid.SampledFrom([]events.MachineID{r.Machine, host}).Draw(rt, "liar")), "machine.report", StateReport(r))
		}
	case 12:
		w.now = w.now.Add(time.Duration(rapid.IntRange(1, 900).Draw(rt, "seconds")) * time.Second)
		for _, c := range w.s.Due(w.now) {
			w.run(c)
		}
	case 14, 15:
		w.do("vm.resize", ResizeVM{VM: vm, MemoryMiB: rapid.SampledFrom([]int{64, 128, 192, 256}).Draw(rt, "mib"), VCPUs: rapid.IntRange(0, 3).Draw(rt, "vcpus")})
	case 13:
		w.n++
		w.run(Command{Intent: events.FreeFormID("test", fmt.Sprint(w.n)), Actor: "admin", Kind: events.KindVM, Verb: "start",
			Args: mustArgs(StartVM{VM: vm}), Override: []string{GuardEndProof}, Reason: "a human's word"})
	}
}

// obey lets the machine do what the log wants of its present boot, as noded does.
func (h *history) obey(host events.MachineID) {
	for _, vm := range h.w.s.grantedOn(host) {
		g := vm.Grant
		if g.Boot != h.boot[host] {
			continue
		}
		if g.Ending != "" {
			delete(h.real[host], vm.ID)
			continue
		}
		state := events.DomainRunning
		if vm.Want == events.WantPaused {
			state = events.DomainPaused
		}
		h.w.n++
		have, there := h.real[host][vm.ID]
		if !there || have.Epoch != g.Epoch || have.Restarts != vm.restarts || h.w.n%5 == 0 { // made, made again, or its guest rebooted
			have = events.DomainReport{DomID: h.w.n, MemoryMiB: g.size.memoryMiB, VCPUs: g.size.vcpus}
		} else if have.Resizes < g.size.resizes && h.w.n%3 > 0 { // else its guest does not give memory back
			have.MemoryMiB, have.VCPUs = g.size.memoryMiB, g.size.vcpus
		}
		have.UUID, have.Stamped, have.VM, have.Epoch, have.Boot = string(vm.ID), true, vm.ID, g.Epoch, g.Boot
		have.State, have.Restarts, have.Resizes = state, vm.restarts, g.size.resizes
		h.real[host][vm.ID] = have
	}
	for id, x := range h.real[host] { // stale ones go
		if vm := h.w.s.vms[id]; vm.Grant == nil || vm.Grant.Epoch != x.Epoch {
			delete(h.real[host], id)
		}
	}
}

func (h *history) send(name string, complete bool) {
	host := h.w.host(name)
	r := events.Report{Machine: host, Boot: h.boot[host], Complete: complete}
	for _, id := range sortedVMs(h.real[host]) {
		r.Domains = append(r.Domains, h.real[host][id])
	}
	for _, vm := range h.w.s.grantedOn(host) {
		if _, there := h.real[host][vm.ID]; !there && vm.Grant.Boot == h.boot[host] && vm.Grant.Ending != "" {
			r.Ended = append(r.Ended, events.DomainEnded{VM: vm.ID, Epoch: vm.Grant.Epoch, How: events.EndedDestroyed})
		}
	}
	for _, g := range h.w.s.ghostsOn(host) {
		if _, there := h.real[host][g.vm.ID]; !there && g.ghost.Boot == h.boot[host] {
			r.Ended = append(r.Ended, events.DomainEnded{VM: g.vm.ID, Epoch: g.ghost.Epoch, How: events.EndedDestroyed})
		}
	}
	h.w.n++
	r.Counter = uint64(h.w.n)
	h.old = append(h.old, r)
	h.w.as(MachineActor(host), "machine.report", StateReport(r))
}

func sortedVMs(m map[events.VMID]events.DomainReport) []events.VMID {
	texts := map[string]bool{}
	for id := range m {
		texts[string(id)] = true
	}
	var out []events.VMID
	for _, s := range sortedKeys(texts) {
		out = append(out, events.VMID(s))
	}
	return out
}

// powerOff reads the power as it is: off only if nothing runs there any more.
func (h *history) powerOff(rt *rapid.T, host events.MachineID) {
	reads := rapid.IntRange(0, 3).Draw(rt, "reads")
	boot := h.boot[host]
	if reads > 0 && rapid.Bool().Draw(rt, "really") {
		h.real[host] = map[events.VMID]events.DomainReport{}
		h.boot[host] = "" // nothing boots until a new boot is served
		h.w.as(ActorPower, "machine.report_power", ReportPower{Machine: host, Boot: boot, State: events.PowerIsOff, Reads: reads})
		return
	}
	h.w.as(ActorPower, "machine.report_power", ReportPower{Machine: host, Boot: boot, State: events.PowerIsUnknown, Error: "no answer"})
}

// checkRoom: I4, in reality: no host's domains have more memory than it can give.
func (h *history) checkRoom(rt *rapid.T) {
	for _, name := range h.hosts {
		sum := 0
		for _, x := range h.real[h.w.host(name)] {
			sum += x.MemoryMiB + Overhead(events.TypePV, x.MemoryMiB, x.VCPUs)
		}
		if sum > 400 {
			rt.Fatalf("%s has 400 MiB, its domains take %d", name, sum)
		}
	}
}

// checkReality: apart from what a human's word ended, no VM has a domain in two places.
func (h *history) checkReality(rt *rapid.T) {
	where := map[events.VMID]events.MachineID{}
	for _, host := range h.hosts {
		for id, x := range h.real[h.w.host(host)] {
			vm := h.w.s.vms[id]
			ghost := false
			for _, g := range vm.ghosts {
				ghost = ghost || g.Epoch == x.Epoch
			}
			if other, twice := where[id]; twice && !ghost {
				rt.Fatalf("VM %s runs on %s and on %s", id, other, h.w.host(host))
			}
			if !ghost {
				where[id] = h.w.host(host)
			}
		}
	}
}

// checkReplay folds the encoded log again.
func (h *history) checkReplay(rt *rapid.T) {
	again := NewState()
	for _, r := range h.w.log {
		raw, _ := json.Marshal(r.Decision)
		var d events.Decision
		if err := json.Unmarshal(raw, &d); err != nil {
			rt.Fatal(err)
		}
		r.Decision = d
		again.Evolve(r)
	}
	for _, s := range []*State{again, h.w.s} {
		s.trimDeadlines()
		s.due = nil // the heap's inner order may differ
	}
	if !reflect.DeepEqual(again, h.w.s) {
		rt.Fatal("folding the log again gave another state")
	}
}

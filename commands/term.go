package commands

import (
	"sort"
	"strings"

	"cloudengine/events"
)

// OpenLog starts a term: the first, or one more after a restore or after the loss of the log's end.
type OpenLog struct {
	Term  uint64 `json:"term"`
	Cause string `json:"cause"`
}

func (a OpenLog) check() *Rejection {
	if a.Term == 0 || a.Cause != events.CauseCreated && a.Cause != events.CauseRestored && a.Cause != events.CauseReopened {
		return invalid("want a term from 1 and the cause created, restored or reopened")
	}
	return nil
}

func decideOpenLog(d *decision, a OpenLog) error {
	switch {
	case a.Term != d.s.term+1:
		return reject(events.CodeConflict, "the log is in term %d: the next is %d", d.s.term, d.s.term+1)
	case d.user != nil && a.Cause != events.CauseReopened:
		return invalid("field \"cause\": want reopened")
	}
	d.add(events.KindLog, events.LogID, events.LogOpened(a))
	if a.Term == 1 && d.s.levels.knows > 1 { // there is no older server yet that could not read it
		d.add(events.KindLog, events.LogID, events.LogLevelRaised{Level: d.s.levels.knows})
	}
	return nil
}

// SettleLog says that all is known again that a lost part of the log had decided.
type SettleLog struct {
	Term uint64 `json:"term"` // the present one
}

func (a SettleLog) check() *Rejection {
	if a.Term == 0 {
		return invalid("field \"term\": want the log's present term")
	}
	return nil
}

func decideSettleLog(d *decision, a SettleLog) error {
	if a.Term != d.s.term {
		return reject(events.CodeConflict, "the log is in term %d, not %d", d.s.term, a.Term)
	}
	if d.s.settled {
		return nil
	}
	silent := d.s.Unreported()
	if len(silent) > 0 && !d.c.overrides(GuardUnreported) {
		return guarded(GuardUnreported, "%s not reported since the log was %s, and may run VMs that it does not know of: let them report, switch them off (machine power off), or say yourself that they run nothing, with --override=%s --reason \"…\"",
			haveNames(silent), d.s.cause, GuardUnreported)
	}
	lost := d.s.Lost()
	if len(lost) > 0 && !d.c.overrides(GuardLostGrants) {
		return guarded(GuardLostGrants, "%d domains run under grants that the log has lost, the first is VM %s on host %s: take them back (host orphan adopt), or leave them out with --override=%s --reason \"…\"; their VMs are then not started while they are there",
			len(lost), lost[0].VM, lost[0].Host, GuardLostGrants)
	}
	settled := events.LogSettled{Term: d.s.term}
	for _, m := range silent {
		settled.Unreported = append(settled.Unreported, m.ID)
	}
	d.add(events.KindLog, events.LogID, settled)
	return nil
}

func haveNames(all []Machine) string {
	var names []string
	for i, m := range all {
		if i == wantedScores {
			names = append(names, "…")
			break
		}
		names = append(names, m.Name)
	}
	if len(all) == 1 {
		return "machine " + names[0] + " has"
	}
	return "machines " + strings.Join(names, ", ") + " have"
}

func (s *State) foldLog(e events.Event) {
	switch d := e.Data.(type) {
	case events.LogOpened:
		s.term, s.cause, s.settled = d.Term, d.Cause, d.Cause == events.CauseCreated
		s.level = max(s.level, 1)
		for _, vm := range s.vms {
			vm.base = vm.counter
		}
	case events.LogSettled:
		s.settled = true
	case events.LogLevelRaised:
		s.level = d.Level
	}
}

// Settled says whether VMs may be started: false after a restore or a reopening, until an administrator settles the log.
func (s *State) Settled() bool { return s.settled }

// Cause is the cause of the present term.
func (s *State) Cause() string { return s.cause }

// Unreported lists the machines, by name, that may run domains and have not reported completely in the present term.
func (s *State) Unreported() []Machine {
	var out []Machine
	for id, h := range s.hosts {
		if m, ok := s.machines[id]; ok && m.Boot != "" && !m.BootOver && !s.ready(h) {
			out = append(out, *m)
		}
	}
	for _, m := range s.machines {
		if contains(m.Data.Roles, events.RoleProxy) && m.Boot != "" && !m.BootOver && !s.storageReady(m) {
			out = append(out, *m)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// LostGrant is a domain that runs under a grant of a part of the log that is lost.
type LostGrant struct {
	VM    events.VMID  `json:"vm"`
	Host  string       `json:"host"` // its name
	UUID  string       `json:"uuid"`
	Epoch events.Epoch `json:"epoch"`
}

// Lost lists them, by VM and host.
func (s *State) Lost() []LostGrant {
	var out []LostGrant
	for _, h := range s.hosts {
		for _, o := range h.orphans {
			if vm, ok := s.vms[o.domain.VM]; ok && s.lost(vm, o.domain) {
				out = append(out, LostGrant{vm.ID, h.Name, o.domain.UUID, o.domain.Epoch})
			}
		}
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].VM < out[j].VM || out[i].VM == out[j].VM && out[i].Host < out[j].Host
	})
	return out
}

// lost says whether a domain's stamp is of a grant that a lost part of the log gave: of a lower term, and later than all that is known of
// that term. The caller knows that no grant that the log does know has this epoch.
func (s *State) lost(vm *VM, x events.DomainReport) bool {
	return x.Stamped && x.VM == vm.ID && x.Epoch.Term < s.term && x.Epoch.Counter > vm.base
}

// mayStart refuses a VM whose disks cannot be had, or of which nobody can know whether it runs already.
func (d *decision) mayStart(vm *VM) error {
	if err := d.mayUseDisks(vm); err != nil {
		return err
	}
	return d.certain(vm)
}

// certain refuses while nobody can know whether the VM runs already.
func (d *decision) certain(vm *VM) error {
	if !d.s.settled {
		return reject(events.CodeConflict, "the log was %s, and what its lost part had started is not known yet: nothing is started before an administrator has settled it (cloudengine log status)", d.s.cause)
	}
	if d.s.term == 1 {
		return nil // nothing was ever lost
	}
	for _, h := range d.s.hosts {
		for _, o := range h.orphans {
			if d.s.lost(vm, o.domain) {
				return reject(events.CodeConflict, "VM %q has a domain on a host under epoch %s, which a lost part of the log granted: take it back first (host orphan ls, host orphan adopt)", vm.Data.Name, o.domain.Epoch)
			}
		}
	}
	return nil
}

// takeBack gives a VM the grant again under which its domain runs already, and which the log has lost. A grant that the log does know is an
// earlier one; that it ended is a human's word, until its host says so itself.
func (d *decision) takeBack(vm *VM, h *Host, o orphan) error {
	x := o.domain
	switch {
	case x.Boot != h.Boot:
		return reject(events.CodeConflict, "the domain's stamp is of another boot of host %q", h.Name)
	case vm.Grant != nil && !d.c.overrides(GuardEndProof):
		return guarded(GuardEndProof, "the log has VM %q on %s under epoch %s; this domain is of the later epoch %s, so that grant ended in the part that is lost. Say so with --override=%s --reason \"…\"",
			vm.Data.Name, d.whereabouts(vm), vm.Grant.Epoch, x.Epoch, GuardEndProof)
	}
	overhead := Overhead(vm.Data.Type, x.MemoryMiB, x.VCPUs)
	if need, free := x.MemoryMiB+overhead, h.FreeMiB()+o.takes(); need > free {
		return reject(events.CodeNoCapacity, "it needs %d MiB on host %q, and %d MiB are free", need, h.Name, max(0, free))
	}
	if vm.Grant != nil {
		d.endGrant(vm, events.ProofOverride, "")
	}
	want := events.WantRunning
	if x.State == events.DomainPaused {
		want = events.WantPaused
	}
	d.add(events.KindHost, string(h.ID), events.HostOrphanGone{Boot: h.Boot, UUID: x.UUID})
	d.add(events.KindVM, string(vm.ID), events.VMRunWanted{Want: want})
	d.add(events.KindVM, string(vm.ID), events.VMRunGranted{
		Host: h.ID, HostName: h.Name, Boot: h.Boot, Epoch: x.Epoch, MemoryMiB: x.MemoryMiB, OverheadMiB: overhead, VCPUs: x.VCPUs,
		DeviceModel: vm.deviceModel(), Resizes: x.Resizes,
	})
	return nil
}

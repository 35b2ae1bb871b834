package verify

import (
	"fmt"
	"strings"

	"cloudengine/events"
	document "cloudengine/events/desired"
	"cloudengine/projections"
)

// What to do about domains.
const (
	nextOrphan   = "\"cloudengine host orphan list\"; then adopt it for a VM, or stop it"
	nextGrant    = "\"cloudengine history vm\" tells how its grant ended; the agent pauses and destroys what has no grant: if it does not, look at its log"
	nextStamp    = "someone changed the stamp in the host's xenstore, or made the domain by hand: find out which; \"cloudengine host orphan\" adopts or stops what has no valid stamp"
	nextMend     = "the agent mends this within 15 s; if it stays so, look at its log and at the VM's message (\"cloudengine vm show\")"
	nextReboot   = "\"cloudengine vm reboot\" makes the domain anew with what it should have"
	nextCrashed  = "\"cloudengine vm console\" shows the guest's last words; then \"cloudengine vm reboot\" or \"vm stop\""
	nextShutdown = "the guest does not shut down: \"cloudengine vm stop\" ends it without asking"
)

// ofVM finds something about a VM.
func (v *visit) ofVM(vm, check string, s Severity, what, want, have, next string) {
	v.find(Finding{Severity: s, Check: check, Kind: "vm", ID: vm, Name: v.c.vm(vm), What: what, Want: want, Have: have, Next: next, Moving: v.moving(vm)})
}

// moving says why a VM may be on its way from one state to another.
func (v *visit) moving(vm string) string {
	if said := underWay(v.x.operations[vm]); said != "" {
		return said
	}
	for _, b := range v.live.Busy {
		if b.ID == vm {
			return "the agent works on it"
		}
	}
	r := row[projections.VM](v.c, events.KindVM, vm)
	if r != nil && v.c.Now.Sub(r.ChangedAt) < recent {
		switch r.State {
		case projections.VMStarting, projections.VMStopping:
			return "it is " + r.State
		}
	}
	return ""
}

// changing is moving for what follows a change late: ends are told again under each new document, before their records are forgotten.
func (v *visit) changing(vm string) string {
	r := row[projections.VM](v.c, events.KindVM, vm)
	if said := v.moving(vm); said != "" || r == nil || v.c.Now.Sub(r.ChangedAt) >= recent {
		return said
	}
	return "the VM changed a moment ago"
}

// domains compares the domains that are there with the grants.
func (v *visit) domains() {
	mine := map[string][]events.DomainReport{} // by VM: stamped for it under this boot, not dying
	for _, d := range v.live.Domains {
		switch {
		case d.State == events.DomainDying:
			v.find(Finding{Severity: Warning, Check: "domain_dying", Kind: "domain", ID: d.UUID, Name: v.domainName(d), What: "it is being destroyed and does not go: something holds its memory",
				Next: "\"xl list\" on the host; a reboot of the host frees what a dead domain holds", Moving: v.moving(string(d.VM))})
		case !d.Stamped:
			v.unstamped(d)
		case d.Boot != v.live.Boot:
			v.ofDomain(d, Wrong, "stamp_boot", "its stamp is of another boot: the agent leaves it alone, and starts nothing beside it", v.live.Boot, d.Boot, nextStamp)
		default:
			if v.stamped(d) {
				mine[string(d.VM)] = append(mine[string(d.VM)], d)
			}
		}
	}
	for _, g := range v.x.grants[v.host.ID] {
		v.granted(g, mine[g.VM])
	}
}

func (v *visit) domainName(d events.DomainReport) string {
	return fmt.Sprintf("%d (%s) on %s", d.DomID, d.Name, v.host.Name)
}

func (v *visit) ofDomain(d events.DomainReport, s Severity, check, what, want, have, next string) {
	vm := string(d.VM)
	if vm == "" {
		vm = d.UUID
	}
	v.find(Finding{Severity: s, Check: check, Kind: "domain", ID: v.host.ID + "." + d.UUID, Name: v.domainName(d), What: what, Want: want, Have: have, Next: next, Moving: v.moving(vm)})
}

// unstamped: a domain that lost its stamp, an orphan that the log knows, or one that it does not.
func (v *visit) unstamped(d events.DomainReport) {
	vm := row[projections.VM](v.c, events.KindVM, d.UUID)
	o := row[projections.Orphan](v.c, projections.KindOrphan, v.host.ID+"."+d.UUID)
	switch {
	case vm != nil && vm.Host != nil && *vm.Host == v.host.ID:
		v.ofDomain(d, Wrong, "stamp_missing", "it is the domain of VM "+v.c.vm(d.UUID)+" and has no valid stamp", *vm.Epoch, "none", nextStamp)
	case o != nil && o.StopWanted:
		v.ofDomain(d, Warning, "orphan", "no grant explains it; its end was asked for, and it is still there", "none", d.State, nextMend)
	case o != nil:
		v.ofDomain(d, Warning, "orphan", "no grant explains it; the log knows it and waits for someone to decide", "none", d.State, nextOrphan)
	default:
		v.ofDomain(d, Wrong, "domain_unknown", "no grant explains it, and the log does not know it", "none", d.State, nextOrphan)
	}
}

// stamped compares a domain's stamp with the VM's grant, and says whether it is the grant's domain.
func (v *visit) stamped(d events.DomainReport) bool {
	id := string(d.VM)
	vm := row[projections.VM](v.c, events.KindVM, id)
	if o := row[projections.Orphan](v.c, projections.KindOrphan, v.host.ID+"."+d.UUID); o != nil && (vm == nil || vm.Host == nil) {
		v.ofDomain(d, Warning, "orphan", "no grant explains it, and it is stamped for VM "+v.c.vm(id)+"; the log knows it and waits for someone to decide", "none", d.State, nextOrphan)
		return false
	}
	severity := Wrong
	if d.State == events.DomainRunning {
		severity = Critical
	}
	have := fmt.Sprintf("%s under epoch %s", d.State, d.Epoch)
	switch {
	case vm == nil:
		v.ofDomain(d, severity, "domain_of_no_vm", "its stamp names a VM that the log does not have", "none", have, nextGrant)
	case vm.Host == nil || vm.Epoch == nil:
		v.ofVM(id, "domain_without_grant", severity, "I1: host "+v.host.Name+" has a domain of it, and it has no run grant", "none", have, nextGrant)
	case *vm.Host != v.host.ID:
		v.ofVM(id, "domain_granted_elsewhere", severity, "I1: host "+v.host.Name+" has a domain of it, and its run grant is another host's", "on "+v.c.host(*vm.Host), have+" on "+v.host.Name, nextGrant)
	case *vm.Epoch != d.Epoch.String():
		v.epoch(d, vm, severity)
	case vm.Boot != nil && *vm.Boot != v.live.Boot:
		v.ofVM(id, "grant_boot", severity, "its run grant is bound to another boot of host "+v.host.Name, *vm.Boot, v.live.Boot, nextBoot)
	default:
		return true
	}
	return false
}

func (v *visit) epoch(d events.DomainReport, vm *projections.VM, severity Severity) {
	want, err := events.ParseEpoch(*vm.Epoch)
	if err == nil && d.Epoch.Compare(want) < 0 {
		v.ofVM(vm.ID, "stamp_low", severity, "I1: a domain of an older grant is on "+v.host.Name, *vm.Epoch, d.Epoch.String(), nextGrant)
		return
	}
	v.ofVM(vm.ID, "stamp_high", Wrong, "the stamp of its domain on "+v.host.Name+" is of a grant that the log never gave", *vm.Epoch, d.Epoch.String(), nextStamp)
}

// granted compares the domains of a live grant with what is wanted, and with what the log believes of them.
func (v *visit) granted(g *projections.Grant, have []events.DomainReport) {
	vm := row[projections.VM](v.c, events.KindVM, g.VM)
	doc, ok := v.c.Docs.Document(events.DesiredSubject(events.MachineID(v.host.ID), document.KindDomain, g.VM))
	if vm == nil || !ok || g.Boot != v.live.Boot {
		return // the other sections tell of it
	}
	want, err := doc.Domain()
	if err != nil || want.Want == "" {
		return // after a restore, until the log is settled, nothing is said of it
	}
	switch {
	case len(have) > 1:
		v.ofVM(g.VM, "twice", Critical, fmt.Sprintf("I1: host %s has %d domains of it", v.host.Name, len(have)), "one", fmt.Sprint(len(have)),
			"the agent keeps the newest and destroys the other; if it does not, destroy the one that \"cloudengine vm show\" does not name")
	case len(have) == 0 && v.explained(g.VM):
	case len(have) == 0 && (want.Want == document.Running || want.Want == document.Paused):
		v.ofVM(g.VM, "domain_missing", Wrong, "host "+v.host.Name+" has the run grant and no domain of it"+said(vm.Message), want.Want, "no domain", nextMend)
	case len(have) == 0:
		v.ofVM(g.VM, "end_not_told", Wrong, "its domain is gone from "+v.host.Name+" and the log has not heard of its end", "ended", "no domain", nextReport)
	default:
		v.one(vm, want, have[0])
	}
}

// explained says whether another finding already tells why a VM has no valid domain here.
func (v *visit) explained(vm string) bool {
	for _, d := range v.live.Domains {
		if string(d.VM) == vm || d.UUID == vm {
			return true
		}
	}
	return false
}

func said(message *string) string {
	if message == nil {
		return ""
	}
	return " (last step that failed: " + *message + ")"
}

// one compares the one domain of a grant.
func (v *visit) one(vm *projections.VM, want document.Domain, d events.DomainReport) {
	v.state(vm, want, d)
	if want.Want == document.Absent {
		return // the rest is not said any more
	}
	if d.UUID != vm.ID && d.UUID != want.Adopt {
		v.ofVM(vm.ID, "uuid", Wrong, "its domain on "+v.host.Name+" has another UUID", vm.ID, d.UUID, nextStamp)
	}
	amount := func(check, what string, want, have int, unit, next string) {
		if want != have {
			v.ofVM(vm.ID, check, Wrong, what+" of its domain on "+v.host.Name+" is not what was asked for", fmt.Sprint(want, unit), fmt.Sprint(have, unit), next)
		}
	}
	if want.Resizes > 0 && d.Resizes == want.Resizes && (d.MemoryMiB < want.MemoryMiB || d.VCPUs < want.VCPUs) {
		v.ofVM(vm.ID, "grows", Note, "it was resized on "+v.host.Name+" as far as a running domain can be; the rest comes with its next start", size(want.MemoryMiB, want.VCPUs), size(d.MemoryMiB, d.VCPUs), nextReboot)
	} else {
		amount("memory", "the memory", want.MemoryMiB, d.MemoryMiB, " MiB", nextReboot)
		amount("vcpus", "the number of vCPUs", want.VCPUs, d.VCPUs, "", "the guest, or someone on the host, has taken vCPUs away; "+nextReboot)
	}
	if want.Weight > 0 && d.Weight > 0 {
		amount("weight", "the scheduler weight", want.Weight, d.Weight, "", nextMend)
	}
	amount("restarts", "the count of restarts", want.Restarts, d.Restarts, "", nextMend)
	v.believed(vm, d)
}

func size(mib, vcpus int) string { return fmt.Sprintf("%d MiB, %d vCPUs", mib, vcpus) }

// state compares what the domain does with what is wanted of it.
func (v *visit) state(vm *projections.VM, want document.Domain, d events.DomainReport) {
	find := func(check string, s Severity, what, next string) {
		v.ofVM(vm.ID, check, s, what+" on "+v.host.Name, want.Want, strings.TrimSpace(d.State+" "+d.ShutdownReason), next)
	}
	down := d.State == events.DomainShutdown || d.State == events.DomainCrashed
	switch {
	case down && vm.State == projections.VMCrashed:
		find("crashed", Warning, "its guest has crashed", nextCrashed)
	case down && want.Want != document.Absent:
		find("down", Wrong, "its guest is down", nextMend)
	case want.Want == document.Running && d.State == events.DomainPaused:
		find("paused", Wrong, "it should run and is paused", nextMend)
	case want.Want == document.Paused && d.State == events.DomainRunning:
		find("not_paused", Wrong, "it should be paused and runs", nextMend)
	case want.Want == document.Shutdown:
		find("not_down", Warning, "it was asked to shut down, and is there", nextShutdown)
	case want.Want == document.Absent:
		find("not_gone", Wrong, "it should be gone, and is there", nextMend)
	}
}

// believed compares the domain with what the log last heard of it.
func (v *visit) believed(vm *projections.VM, d events.DomainReport) {
	var said, seen []string
	add := func(name string, log *int, live int) {
		if log != nil && *log != live {
			said, seen = append(said, fmt.Sprint(name, " ", *log)), append(seen, fmt.Sprint(name, " ", live))
		}
	}
	if vm.DomainState == nil || *vm.DomainState != d.State {
		state := "not seen"
		if vm.DomainState != nil {
			state = *vm.DomainState
		}
		said, seen = append(said, state), append(seen, d.State)
	}
	add("domid", vm.DomID, d.DomID)
	add("MiB", vm.DomainMemoryMiB, d.MemoryMiB)
	add("vCPUs", vm.DomainVCPUs, d.VCPUs)
	add("weight", vm.DomainWeight, d.Weight)
	if len(said) > 0 {
		v.ofVM(vm.ID, "not_reported", Wrong, "the log believes something else of its domain on "+v.host.Name, strings.Join(said, ", "), strings.Join(seen, ", "), nextReport)
	}
}

// stamps finds records of domains that are gone and should have been forgotten, or never were.
func (v *visit) stamps() {
	there := map[string]bool{}
	for _, d := range v.live.Domains {
		there[fmt.Sprint(d.DomID, " ", d.UUID)] = true
	}
	for _, s := range v.live.Stamps {
		if there[fmt.Sprint(s.DomID, " ", s.UUID)] {
			continue
		}
		f := Finding{Severity: Warning, Check: "stamp_left", Kind: "stamp", ID: fmt.Sprintf("%s.%d", v.host.ID, s.DomID), Name: fmt.Sprintf("of domain %d on %s", s.DomID, v.host.Name),
			What: fmt.Sprintf("it is of VM %s, epoch %s, and its domain is gone", v.c.vm(string(s.VM)), s.Epoch), Want: "none", Have: "a stamp",
			Next:   "the agent forgets it once the end was answered; if it stays, remove the node in xenstore: xenstore-rm /local/domain/0/cloudengine/<domid>",
			Moving: v.changing(string(s.VM))}
		if s.Boot != v.live.Boot {
			f.Severity, f.Check, f.What = Wrong, "stamp_boot", f.What+"; it is of another boot, and xenstore lives no longer than one"
		}
		v.find(f)
	}
}

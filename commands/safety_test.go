package commands

import (
	"fmt"
	"testing"

	"cloudengine/events"
)

// I5: reports can overtake each other. What a later one said is not unsaid by one that was sent before it.
func TestI5AnOlderReportOfTheSameBootIsStale(t *testing.T) {
	w := running(t)
	before := w.n + 1
	w.n++ // a complete report without the orphan, still on its way
	orphan := events.DomainReport{UUID: "0f0f0f0f-0000-4000-8000-000000000001", DomID: 9, Name: "by-hand", State: events.DomainRunning, MemoryMiB: 1800, VCPUs: 1}
	w.must(w.report("host1", events.Report{Domains: []events.DomainReport{orphan}}))
	m := w.s.machines[w.host("host1")]
	late := StateReport(events.Report{Machine: m.ID, Boot: m.Boot, Counter: uint64(before), Complete: true, Domains: []events.DomainReport{w.domain("web", events.DomainRunning)}})
	w.refused(w.as(MachineActor(m.ID), "machine.report", late), events.CodeStale, "")
	w.createVM("big", 1000)
	w.refused(w.do("vm.start", StartVM{VM: w.vm("big")}), events.CodeNoCapacity, "")
}

// I1: after a restore nothing is granted on a host that has not reported completely in the new term.
func TestI1NewTermNeedsNewCompleteReports(t *testing.T) {
	w := running(t)
	w.createVM("db", 128)
	w.must(w.as(ActorBootstrap, "log.open", OpenLog{2, "restored"}))
	w.refused(w.do("vm.start", StartVM{VM: w.vm("db")}), events.CodeConflict, "")
	w.refused(w.do("log.settle", SettleLog{2}), events.CodeGuard, GuardUnreported)
	w.report("host1", events.Report{Complete: true, Term: 1, Domains: []events.DomainReport{w.domain("web", events.DomainRunning)}})
	w.refused(w.do("log.settle", SettleLog{2}), events.CodeGuard, GuardUnreported) // it may yet do what a document of the lost log asks for
	w.must(w.report("host1", events.Report{Complete: true, Term: 2, Domains: []events.DomainReport{w.domain("web", events.DomainRunning)}}))
	w.refused(w.do("vm.start", StartVM{VM: w.vm("db")}), events.CodeConflict, "")
	w.must(w.do("log.settle", SettleLog{2}))
	w.nothing(w.do("log.settle", SettleLog{2}))
	w.must(w.do("vm.start", StartVM{VM: w.vm("db")}))
	w.audit()
}

// A power-off was allowed because nothing ran: nothing is started there while it is under way.
func TestNothingIsPlacedWhereThePowerIsBeingCut(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 2000)
	w.createVM("web", 128)
	off := w.must(w.do("machine.power", PowerMachine{w.host("host1"), events.PowerOff}))
	w.refused(w.do("vm.start", StartVM{VM: w.vm("web")}), events.CodeNoCapacity, "")
	w.must(w.as(ActorPower, "machine.report_power", ReportPower{Machine: w.host("host1"), Operation: off.Intent, State: events.PowerIsOn, Reads: 1, Error: "it failed"}))
	w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
}

// A question about the power does not make an action succeed that is still under way.
func TestPowerStatusDoesNotEndAnAction(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 2000)
	m := w.host("host1")
	off := w.must(w.do("machine.power", PowerMachine{m, events.PowerOff}))
	w.must(w.do("machine.power", PowerMachine{m, events.PowerStatus}))
	w.must(w.as(ActorPower, "machine.report_power", ReportPower{Machine: m, Operation: off.Intent, Boot: w.s.machines[m].Boot, State: events.PowerIsOn, Reads: 1}))
	if !w.s.OperationOpen(off.Intent) {
		t.Fatal("the power-off is done, and the power is on")
	}
}

// I6: the answer to an enrolment may be lost. The machine, which has no other way in, may ask again with the same token.
func TestI6ATokenServesUntilItsEnrolmentWasAnswered(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 2000)
	m := w.s.machines[w.host("host1")]
	if !w.s.TokenServed(m.ID, m.usedToken) {
		t.Fatal("a machine whose enrolment was not answered cannot enrol again")
	}
	old := m.usedToken
	w.boot("host1", 2000)
	if w.s.TokenServed(m.ID, old) {
		t.Fatal("the token of an earlier boot is still good")
	}
}

// I6: every VM whose host's death is proven is granted again, however many they are.
func TestI6AllVMsOfADeadHostAreGrantedAgain(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 20000)
	n := 2*maxReactions + 5
	for i := range n {
		name := fmt.Sprintf("vm%d", i)
		w.createVM(name, 64)
		w.must(w.do("vm.start", StartVM{VM: w.vm(name)}))
	}
	w.addHost("host2", 20000)
	host1 := w.host("host1")
	w.must(w.as(ActorPower, "machine.report_power", ReportPower{Machine: host1, Boot: w.s.machines[host1].Boot, State: events.PowerIsOff, Reads: 2}))
	if got := len(w.s.hosts[w.host("host2")].grants); got != n {
		t.Fatalf("%d of %d VMs were granted again", got, n)
	}
	w.audit()
}

func (w *world) orphanOn(host string, mib int) string {
	const uuid = "0f0f0f0f-0000-4000-8000-000000000002"
	w.must(w.report(host, events.Report{Domains: []events.DomainReport{{UUID: uuid, DomID: 9, Name: "by-hand", State: events.DomainRunning, MemoryMiB: mib, VCPUs: 1}}}))
	return uuid
}

// I4: what an adopted domain needs on top is counted by the type of its VM.
func TestI4AdoptionKeepsToCapacity(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 132)
	uuid := w.orphanOn("host1", 128)
	w.id("big", w.must(w.do("vm.create", CreateVM{Account: events.AccountID(w.ids["demo"]), Name: "big", Type: "pvh", VCPUs: 1, MemoryMiB: 128, Template: events.TemplateID(w.ids["tiny"])})))
	w.createVM("small", 128)
	for _, name := range []string{"big", "small"} {
		vm := w.s.vms[w.vm(name)]
		d := w.do("host.adopt_orphan", AdoptOrphan{w.host("host1"), uuid, vm.ID})
		if fits := vm.need("").memoryMiB <= 132; fits != (d.Outcome.Status == events.Accepted) {
			t.Errorf("%s needs %d MiB: %+v", name, vm.need("").memoryMiB, d.Outcome)
		}
	}
	w.audit()
}

// I1: a grant is for the boot that is enrolled now, on a host that is heard.
func TestI1AdoptionNeedsAHostThatIsHeard(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 2000)
	uuid := w.orphanOn("host1", 128)
	w.createVM("web", 128)
	m := w.s.machines[w.host("host1")]
	w.must(w.as(ActorLiveness, "machine.report_silent", SilenceReport{m.ID, m.Boot}))
	w.refused(w.do("host.adopt_orphan", AdoptOrphan{m.ID, uuid, w.vm("web")}), events.CodeConflict, "")
	w.must(w.as(ActorLiveness, "machine.report_returned", SilenceReport{m.ID, m.Boot}))
	w.must(w.do("host.adopt_orphan", AdoptOrphan{m.ID, uuid, w.vm("web")}))
}

// I6: a ghost below an epoch that ended cleanly on the same boot is gone too, or its VM could not be deleted before the next boot.
func TestI6ACleanEndTakesOlderGhostsAlong(t *testing.T) {
	w := running(t)
	m, vm := w.s.machines[w.host("host1")], w.s.vms[w.vm("web")]
	w.addHost("host2", 2000)
	w.must(w.as(ActorLiveness, "machine.report_silent", SilenceReport{m.ID, m.Boot}))
	w.n++
	w.must(w.run(Command{Intent: events.FreeFormID("test", fmt.Sprint(w.n)), Actor: "admin", Kind: events.KindVM, Verb: "start",
		Args: mustArgs(StartVM{VM: vm.ID}), Override: []string{GuardEndProof}, Reason: "seen dead"}))
	w.must(w.do("vm.stop", VMRef{vm.ID}))
	w.must(w.report("host2", events.Report{Ended: []events.DomainEnded{w.endedOf("web")}}))
	w.must(w.as(ActorLiveness, "machine.report_returned", SilenceReport{m.ID, m.Boot}))
	w.must(w.do("vm.start", StartVM{VM: vm.ID, Host: m.ID})) // over its own ghost, which is not reported any more
	w.must(w.do("vm.stop", VMRef{vm.ID}))
	w.must(w.report("host1", events.Report{Complete: true, Ended: []events.DomainEnded{w.endedOf("web")}}))
	w.must(w.do("vm.delete", VMRef{vm.ID}))
	if used := w.s.hosts[m.ID].usedMiB; used != 0 {
		t.Fatalf("%d MiB are taken for ever", used)
	}
	w.audit()
}

// I5: addresses of controllers move. "Off" from another machine's controller proves nothing about this one, also after a restart of all
// that watches them.
func TestI5AnotherControllersWordIsNoProof(t *testing.T) {
	w := running(t)
	m := w.s.machines[w.host("host1")]
	bmc := func(guid string) events.Decision {
		return w.as(ActorPower, "machine.report_bmc", ReportBMC{Machine: m.ID, Healthy: true, GUID: guid})
	}
	off := func(guid string) events.Decision {
		return w.as(ActorPower, "machine.report_power", ReportPower{Machine: m.ID, Boot: m.Boot, State: events.PowerIsOff, Reads: 2, GUID: guid})
	}
	w.must(bmc("aaaa"))
	w.nothing(bmc("aaaa"))
	w.must(bmc("bbbb"))
	if m.BMCHealthy {
		t.Fatal("another controller counts as healthy")
	}
	w.must(off("bbbb"))
	w.nothing(off(""))
	if w.s.vms[w.vm("web")].Grant == nil {
		t.Fatal("another machine's power ended the grant")
	}
	w.must(bmc("aaaa"))
	w.must(off("aaaa"))
	if w.s.vms[w.vm("web")].Grant != nil {
		t.Fatal("its own controller's word is proof")
	}
	w.audit()
}

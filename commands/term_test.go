package commands

import (
	"fmt"
	"strings"
	"testing"

	"cloudengine/events"
)

// override decides with a human's word that a guard need not refuse.
func (w *world) override(guard, verb string, args any) events.Decision {
	kind, v, _ := strings.Cut(verb, ".")
	w.n++
	return w.run(Command{
		Intent: events.FreeFormID("test", fmt.Sprint(w.n)), Actor: "admin", Kind: events.Kind(kind), Verb: v, Args: mustArgs(args),
		Override: []string{guard}, Reason: "I know",
	})
}

// restored is a cloud with two hosts whose log was restored: web is granted to host1 in it. What really happened after the backup: that
// grant ended, and the next one runs on host2.
func restored(t *testing.T) (w *world, lost events.DomainReport) {
	w = running(t)
	w.addHost("host2", 2000)
	vm := w.s.vms[w.vm("web")]
	w.must(w.as(ActorBootstrap, "log.open", OpenLog{2, events.CauseRestored}))
	lost = w.domain("web", events.DomainRunning)
	lost.Epoch.Counter, lost.Boot = vm.counter+1, w.s.machines[w.host("host2")].Boot
	w.must(w.report("host1", events.Report{Complete: true, Term: 2}))
	w.must(w.report("host2", events.Report{Complete: true, Term: 2, Domains: []events.DomainReport{lost}}))
	return w, lost
}

// I1: a grant of the lost part of the log is found, blocks its VM, and is taken back under its own epoch.
func TestI1AGrantThatTheLogHasLostIsTakenBack(t *testing.T) {
	w, lost := restored(t)
	w.refused(w.do("log.settle", SettleLog{2}), events.CodeGuard, GuardLostGrants)
	if all := w.s.Lost(); len(all) != 1 || all[0].VM != w.vm("web") || all[0].Host != "host2" {
		t.Fatalf("lost: %+v", all)
	}
	w.refused(w.do("host.stop_orphan", StopOrphan{w.host("host2"), lost.UUID}), events.CodeConflict, "")
	w.createVM("other", 128)
	w.refused(w.do("host.adopt_orphan", AdoptOrphan{w.host("host2"), lost.UUID, w.vm("other")}), events.CodeConflict, "")
	w.refused(w.do("host.adopt_orphan", AdoptOrphan{w.host("host2"), lost.UUID, w.vm("web")}), events.CodeGuard, GuardEndProof)
	w.must(w.override(GuardEndProof, "host.adopt_orphan", AdoptOrphan{w.host("host2"), lost.UUID, w.vm("web")}))
	g := w.s.vms[w.vm("web")].Grant
	if g == nil || g.Epoch != lost.Epoch || g.Host != w.host("host2") {
		t.Fatalf("taken back as %+v", g)
	}
	w.must(w.do("log.settle", SettleLog{2}))
	w.must(w.report("host2", events.Report{Complete: true, Term: 2, Domains: []events.DomainReport{lost}})) // seen, as the grant's
	w.must(w.do("vm.stop", VMRef{w.vm("web")}))
	w.must(w.report("host2", events.Report{Ended: []events.DomainEnded{{VM: w.vm("web"), Epoch: lost.Epoch, How: events.EndedDestroyed}}}))
	w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
	if e := w.s.vms[w.vm("web")].Grant.Epoch; e.Term != 2 || e.Counter <= lost.Epoch.Counter {
		t.Fatalf("the next epoch is %s after %s", e, lost.Epoch)
	}
	w.audit()
}

// I1: a human settled the log although such a domain runs; its VM waits all the same.
func TestI1ALostGrantBlocksItsVMAlsoWhenTheLogIsSettled(t *testing.T) {
	w, lost := restored(t)
	w.must(w.override(GuardLostGrants, "log.settle", SettleLog{2}))
	w.must(w.do("vm.stop", VMRef{w.vm("web")}))
	w.must(w.report("host1", events.Report{Ended: []events.DomainEnded{w.endedOf("web")}}))
	w.refused(w.do("vm.start", StartVM{VM: w.vm("web")}), events.CodeConflict, "")
	w.must(w.report("host2", events.Report{Complete: true, Term: 2})) // it ended there
	if all := w.s.Lost(); len(all) != 0 {
		t.Fatalf("lost: %+v, of %s", all, lost.UUID)
	}
	w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
	w.audit()
}

// A stamp of the present term, or one that the log knows of, is no lost grant: who shows it lies.
func TestALieIsNoLostGrant(t *testing.T) {
	w, lost := restored(t)
	for _, epoch := range []events.Epoch{{Term: 2, Counter: lost.Epoch.Counter}, {Term: 1, Counter: lost.Epoch.Counter - 1}} {
		x := lost
		x.Epoch = epoch
		w.refused(w.report("host2", events.Report{Domains: []events.DomainReport{x}}), events.CodeContradicts, "")
	}
}

// What waits for a host is placed when the log is settled, not before.
func TestWhatWaitsIsPlacedWhenTheLogIsSettled(t *testing.T) {
	w := running(t)
	w.must(w.as(ActorBootstrap, "log.open", OpenLog{2, events.CauseReopened}))
	w.boot("host1", 2000) // a proven end of web's grant
	w.must(w.report("host1", events.Report{Complete: true, Term: 2}))
	if g := w.s.vms[w.vm("web")].Grant; g != nil {
		t.Fatalf("granted in an unsettled log: %+v", g)
	}
	w.must(w.do("log.settle", SettleLog{2}))
	if w.s.vms[w.vm("web")].Grant == nil {
		t.Fatal("what should run was not placed")
	}
	w.audit()
}

func TestOnlyAHumanReopens(t *testing.T) {
	w := running(t)
	w.refused(w.do("log.open", OpenLog{2, events.CauseRestored}), events.CodeInvalid, "")
	w.refused(w.do("log.open", OpenLog{3, events.CauseReopened}), events.CodeConflict, "")
	w.refused(w.do("log.settle", SettleLog{2}), events.CodeConflict, "")
	w.must(w.do("log.open", OpenLog{2, events.CauseReopened}))
	w.override(GuardUnreported, "log.settle", SettleLog{2})
	if !w.s.Settled() {
		t.Fatal("an administrator's word does not settle the log")
	}
}

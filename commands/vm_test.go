package commands

import (
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"cloudengine/events"
)

func newTestKey() string {
	kp, err := nkeys.CreateUser()
	if err != nil {
		panic(err)
	}
	key, err := kp.PublicKey()
	if err != nil {
		panic(err)
	}
	return key
}

func running(t *testing.T) *world {
	w := newWorld(t)
	w.addHost("host1", 2000)
	w.createVM("web", 128)
	w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
	w.must(w.report("host1", events.Report{Domains: []events.DomainReport{w.domain("web", events.DomainRunning)}}))
	return w
}

func TestStartThenStop(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 2000)
	w.createVM("web", 128)
	start := w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
	if got, want := types(start), "vm.run_wanted vm.run_granted operation.started"; got != want {
		t.Fatalf("start: got %s, want %s", got, want)
	}
	w.nothing(w.do("vm.start", StartVM{VM: w.vm("web")}))
	seen := w.must(w.report("host1", events.Report{Domains: []events.DomainReport{w.domain("web", events.DomainRunning)}}))
	if got, want := types(seen), "vm.domain_observed operation.done"; got != want {
		t.Fatalf("report: got %s, want %s", got, want)
	}
	w.nothing(w.report("host1", events.Report{Domains: []events.DomainReport{w.domain("web", events.DomainRunning)}}))
	w.must(w.do("vm.stop", VMRef{w.vm("web")}))
	w.nothing(w.do("vm.stop", VMRef{w.vm("web")}))
	end := w.must(w.report("host1", events.Report{Complete: true, Ended: []events.DomainEnded{w.endedOf("web")}}))
	if got, want := types(end), "vm.grant_ended operation.done"; got != want {
		t.Fatalf("end: got %s, want %s", got, want)
	}
	w.must(w.do("vm.delete", VMRef{w.vm("web")}))
	w.refused(w.do("vm.start", StartVM{VM: w.vm("web")}), events.CodeNotFound, "")
	w.audit()
}

func TestEndIsNoProofUnlessToldToEnd(t *testing.T) {
	w := running(t)
	w.nothing(w.report("host1", events.Report{Complete: true, Ended: []events.DomainEnded{w.endedOf("web")}}))
	if w.s.vms[w.vm("web")].Grant == nil {
		t.Fatal("the grant ended without having been told to")
	}
	absent := w.report("host1", events.Report{Complete: true})
	if got, want := types(absent), "vm.domain_observed"; got != want {
		t.Fatalf("a complete list without it: got %q, want %q", got, want)
	}
}

func TestStartWhileStoppingGrantsAgainAfterTheEnd(t *testing.T) {
	w := running(t)
	w.must(w.do("vm.stop", VMRef{w.vm("web")}))
	w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
	first := w.s.vms[w.vm("web")].Grant.Epoch
	w.must(w.report("host1", events.Report{Ended: []events.DomainEnded{w.endedOf("web")}}))
	g := w.s.vms[w.vm("web")].Grant
	if g == nil || g.Epoch.Compare(first) <= 0 || g.Ending != "" {
		t.Fatalf("grant after the end: %+v, want a new epoch after %v", g, first)
	}
	w.audit()
}

func TestSilenceIsNotProof(t *testing.T) {
	w := running(t)
	w.addHost("host2", 2000)
	silent := w.must(w.as(ActorLiveness, "machine.report_silent", SilenceReport{w.host("host1"), w.s.machines[w.host("host1")].Boot}))
	if got, want := types(silent), "machine.silent vm.became_unknown"; got != want {
		t.Fatalf("silent: got %s, want %s", got, want)
	}
	w.refused(w.do("vm.start", StartVM{VM: w.vm("web"), Host: w.host("host2")}), events.CodeGuard, GuardEndProof)
	w.refused(w.do("machine.power", PowerMachine{w.host("host1"), events.PowerOff}), events.CodeGuard, GuardRunningVMs)

	off := Command{Intent: events.FreeFormID("test", "off"), Actor: "admin", Kind: events.KindMachine, Verb: "power",
		Args: mustArgs(PowerMachine{w.host("host1"), events.PowerOff}), Override: []string{GuardRunningVMs}, Reason: "host1 is dead"}
	w.must(w.run(off))
	boot := w.s.machines[w.host("host1")].Boot
	once := w.must(w.as(ActorPower, "machine.report_power", ReportPower{w.host("host1"), off.Intent, boot, events.PowerIsOff, 1, "", ""}))
	if got, want := types(once), "machine.power_observed"; got != want {
		t.Fatalf("one read: got %s, want %s", got, want)
	}
	w.must(w.as(ActorPower, "machine.report_power", ReportPower{w.host("host1"), off.Intent, boot, events.PowerIsOff, 2, "", ""}))
	g := w.s.vms[w.vm("web")].Grant
	if g == nil || g.Host != w.host("host2") {
		t.Fatalf("after the proof the VM is granted to %+v, want host2", g)
	}
	w.boot("host1", 2000)
	w.refused(w.report("host1", events.Report{Boot: boot}), events.CodeStale, "")
	w.audit()
}

func TestOverrideThenHostComesBackStillRunning(t *testing.T) {
	w := running(t)
	w.addHost("host2", 2000)
	old := w.domain("web", events.DomainPaused)
	w.must(w.as(ActorLiveness, "machine.report_silent", SilenceReport{w.host("host1"), old.Boot}))
	over := Command{Intent: events.FreeFormID("test", "over"), Actor: "admin", Kind: events.KindVM, Verb: "start",
		Args: mustArgs(StartVM{VM: w.vm("web")}), Override: []string{GuardEndProof}, Reason: "saw it burn"}
	w.must(w.run(over))
	used := w.s.hosts[w.host("host1")].usedMiB
	if used == 0 {
		t.Fatal("the memory of a domain that may still run was given back")
	}
	old.Stale = true
	back := w.must(w.report("host1", events.Report{Complete: true, Domains: []events.DomainReport{old}}))
	if got, want := types(back), "machine.returned vm.stale_domain_found"; got != want {
		t.Fatalf("return: got %s, want %s", got, want)
	}
	gone := w.must(w.report("host1", events.Report{Complete: true, Ended: []events.DomainEnded{{VM: old.VM, Epoch: old.Epoch, How: events.EndedDestroyed}}}))
	if got, want := types(gone), "vm.stale_domain_ended"; got != want {
		t.Fatalf("end: got %s, want %s", got, want)
	}
	if w.s.hosts[w.host("host1")].usedMiB != 0 {
		t.Fatal("the memory of the stale domain was not given back")
	}
	if g := w.s.vms[w.vm("web")].Grant; g == nil || g.Host != w.host("host2") {
		t.Fatalf("the new grant: %+v", g)
	}
	w.audit()
}

func TestNewBootEndsGrantsAndTheyAreGivenAgain(t *testing.T) {
	w := running(t)
	first := w.s.vms[w.vm("web")].Grant.Epoch
	enrolled := w.boot("host1", 2000)
	if got, want := types(enrolled), "machine.enrolled vm.grant_ended host.registered"; got != want {
		t.Fatalf("enrolment: got %s, want %s", got, want)
	}
	if w.s.vms[w.vm("web")].Grant != nil {
		t.Fatal("granted on a host that has not reported completely")
	}
	w.must(w.report("host1", events.Report{Complete: true}))
	g := w.s.vms[w.vm("web")].Grant
	if g == nil || g.Epoch.Compare(first) <= 0 {
		t.Fatalf("after the new boot: %+v", g)
	}
	w.audit()
}

func TestLiesAreRefused(t *testing.T) {
	w := running(t)
	w.addHost("host2", 2000)
	x := w.domain("web", events.DomainRunning)
	w.refused(w.report("host2", events.Report{Domains: []events.DomainReport{x}}), events.CodeContradicts, "")
	w.refused(w.report("host2", events.Report{Domains: []events.DomainReport{x}}), events.CodeStale, "") // said before
	w.refused(w.report("host2", events.Report{Ended: []events.DomainEnded{w.endedOf("web")}}), events.CodeContradicts, "")
	w.refused(w.report("host1", events.Report{Boot: bootID(99)}), events.CodeStale, "")
	w.refused(w.as(MachineActor(w.host("host2")), "machine.report", StateReport{Machine: w.host("host1"), Boot: bootID(1)}), events.CodeUnauthorized, "")
	w.refused(w.as(MachineActor(w.host("host2")), "vm.stop", VMRef{w.vm("web")}), events.CodeUnauthorized, "")
	if w.s.vms[w.vm("web")].Grant == nil {
		t.Fatal("a lie ended a grant")
	}
	w.audit()
}

func TestShutdownDeadlineDestroys(t *testing.T) {
	w := running(t)
	w.must(w.do("vm.shutdown", ShutdownVM{VM: w.vm("web"), Timeout: 30}))
	if due := w.s.Due(w.now.Add(29 * time.Second)); len(due) != 0 {
		t.Fatalf("due too early: %+v", due)
	}
	w.now = w.now.Add(31 * time.Second)
	due := w.s.Due(w.now)
	if len(due) != 1 {
		t.Fatalf("due: %+v", due)
	}
	w.must(w.run(due[0]))
	if g := w.s.vms[w.vm("web")].Grant; g.Ending != events.StopDestroy {
		t.Fatalf("grant: %+v", g)
	}
	if due := w.s.Due(w.now); len(due) != 0 {
		t.Fatalf("due again: %+v", due)
	}
}

func TestGuestShutsItselfDown(t *testing.T) {
	w := running(t)
	x := w.domain("web", events.DomainShutdown)
	x.ShutdownReason = "poweroff"
	d := w.must(w.report("host1", events.Report{Domains: []events.DomainReport{x}}))
	if got, want := types(d), "vm.domain_observed vm.run_wanted"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	w.must(w.report("host1", events.Report{Ended: []events.DomainEnded{w.endedOf("web")}}))
	if vm := w.s.vms[w.vm("web")]; vm.Grant != nil || vm.Want != events.WantStopped {
		t.Fatalf("VM: %+v", vm)
	}
	w.audit()
}

func TestCapacity(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 300)
	w.createVM("a", 128)
	w.createVM("b", 128)
	w.createVM("c", 128)
	w.refused(w.do("vm.create", CreateVM{Account: events.AccountID(w.ids["demo"]), Name: "big", Type: "pv", MemoryMiB: 301, Template: events.TemplateID(w.ids["tiny"])}), events.CodeNoCapacity, "")
	w.must(w.do("vm.start", StartVM{VM: w.vm("a")}))
	w.must(w.do("vm.start", StartVM{VM: w.vm("b")}))
	w.refused(w.do("vm.start", StartVM{VM: w.vm("c")}), events.CodeNoCapacity, "")
	w.must(w.do("host.cordon", HostRef{w.host("host1")}))
	w.nothing(w.do("host.cordon", HostRef{w.host("host1")}))
	w.audit()
}

func TestPermissions(t *testing.T) {
	w := running(t)
	w.id("other", w.must(w.do("account.create", CreateAccount{"other"})))
	w.must(w.do("user.create", CreateUser{Name: "eve", Key: newTestKey(), Role: events.RoleOperate, Account: events.AccountID(w.ids["other"])}))
	w.must(w.do("user.create", CreateUser{Name: "ro", Key: newTestKey(), Role: events.RoleRead}))
	w.refused(w.as("eve", "vm.stop", VMRef{w.vm("web")}), events.CodeNotFound, "")
	w.refused(w.as("eve", "machine.power", PowerMachine{w.host("host1"), "off"}), events.CodeForbidden, "")
	w.refused(w.as("ro", "vm.stop", VMRef{w.vm("web")}), events.CodeForbidden, "")
	w.refused(w.as("nobody", "vm.stop", VMRef{w.vm("web")}), events.CodeUnauthorized, "")
	w.refused(w.as("admin", "vm.place", VMRef{w.vm("web")}), events.CodeForbidden, "")
}

func TestSameIDSameOutcome(t *testing.T) {
	w := newWorld(t)
	c := Command{Intent: events.FreeFormID("admin", "x"), Actor: "admin", Kind: events.KindAccount, Verb: "create", Args: []byte(`{"name": "acme"}`)}
	d := w.must(w.run(c))
	c.Args = []byte(`{"name":"acme"}`)
	n, o, reused, found := w.s.Seen(c)
	if !found || reused || o != d.Outcome || n != w.s.last {
		t.Fatalf("again: %d %+v reused %v found %v", n, o, reused, found)
	}
	c.Args = []byte(`{"name":"acme2"}`)
	if _, _, reused, _ := w.s.Seen(c); !reused {
		t.Fatal("another body under the same id was not noticed")
	}
}

func TestAnIDIsOneActors(t *testing.T) {
	w := running(t)
	w.must(w.do("user.create", CreateUser{Name: "ann", Key: newTestKey(), Role: events.RoleOperate}))
	c := Command{Intent: events.IntentID(w.vm("web")), Actor: "ann", Kind: events.KindVM, Verb: "create",
		Args: mustArgs(CreateVM{Account: events.AccountID(w.ids["demo"]), Name: "other", Type: "pv", MemoryMiB: 64, Template: events.TemplateID(w.ids["tiny"])})}
	if _, o, reused, found := w.s.Seen(c); !reused || !found || o.Status != "" {
		t.Fatalf("another actor's id: reused %v, found %v, told %+v", reused, found, o)
	}
	w.refused(w.s.Decide(c, w.now), events.CodeIDReused, "")
}

func TestNobodyCanTakeAReactionsID(t *testing.T) {
	w := running(t)
	w.must(w.do("vm.stop", VMRef{w.vm("web")}))
	w.must(w.do("vm.start", StartVM{VM: w.vm("web")}))
	w.must(w.run(Command{Intent: events.ReactionID(w.s.Next()+1, 0), Actor: "admin", Kind: events.KindAccount, Verb: "create", Args: mustArgs(CreateAccount{"thief"})}))
	w.must(w.report("host1", events.Report{Ended: []events.DomainEnded{w.endedOf("web")}}))
	if w.s.vms[w.vm("web")].Grant == nil {
		t.Fatal("the VM was not granted again: its reaction's id was taken")
	}
}

func TestCheckNamesTheField(t *testing.T) {
	for name, c := range map[string]struct{ verb, args, want string }{
		"unknown_field": {"create", `{"nmae":"x"}`, `read arguments: unknown field "nmae"`},
		"wrong_type":    {"create", `{"memory_mib":"4"}`, `field "memory_mib": want int, got string`},
		"unknown_verb":  {"creat", `{}`, `there is no vm.creat; known verbs of vm: create, delete, pause, reboot, resize, resume, shutdown, start, stop`},
		"bad_utf8":      {"create", "{\"name\":\"\xff\"}", `the arguments are not valid UTF-8`},
		"no_ram":        {"create", `{"name":"a","type":"pv","memory_mib":0}`, `field "memory_mib": want 1 to 16777216`},
		"trailing":      {"create", `{} {}`, `read arguments: there is something after the end of the object`},
	} {
		t.Run(name, func(t *testing.T) {
			err := Check(Command{Intent: "x", Actor: "admin", Kind: "vm", Verb: c.verb, Args: []byte(c.args)})
			if err == nil || err.Error() != c.want {
				t.Fatalf("got %v, want %s", err, c.want)
			}
		})
	}
}

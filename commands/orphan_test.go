package commands

import (
	"testing"

	"cloudengine/events"
)

// An orphan that was seen half made is recorded anew when it is whole: it can be adopted then, and counts with all its memory.
func TestOrphanThatLooksDifferentIsFoundAgain(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 2000)
	w.createVM("web", 512)
	x := events.DomainReport{UUID: "0f0f0f0f-0000-4000-8000-000000000003", DomID: 9, Name: "by-hand", State: events.DomainPaused, MemoryMiB: 40, VCPUs: 1}
	report := func(x ...events.DomainReport) events.Decision { return w.report("host1", events.Report{Domains: x}) }
	w.must(report(x))
	adopt := AdoptOrphan{w.host("host1"), x.UUID, w.vm("web")}
	w.refused(w.do("host.adopt_orphan", adopt), events.CodeConflict, "")
	free := w.s.hosts[w.host("host1")].FreeMiB()
	x.MemoryMiB, x.State = 512, events.DomainRunning
	if got := types(w.must(report(x))); got != "host.orphan_found" {
		t.Fatalf("whole, it gives %q", got)
	}
	if now := w.s.hosts[w.host("host1")].FreeMiB(); free-now != 472 {
		t.Errorf("it grew by 472 MiB and the host's free memory shrank by %d", free-now)
	}
	x.Weight = 256
	w.nothing(report(x))
	second := x
	second.DomID = 10
	w.nothing(report(x, second))
	w.must(w.do("host.adopt_orphan", adopt))
	w.audit()
}

func TestOrphanThatLooksDifferentShallStillGo(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 2000)
	w.createVM("web", 128)
	const uuid = "0f0f0f0f-0000-4000-8000-000000000004"
	x := events.DomainReport{UUID: uuid, DomID: 9, Name: "by-hand", State: events.DomainRunning, MemoryMiB: 128, VCPUs: 1}
	w.must(w.report("host1", events.Report{Domains: []events.DomainReport{x}}))
	w.must(w.do("host.stop_orphan", StopOrphan{w.host("host1"), uuid}))
	x.State = events.DomainShutdown
	w.must(w.report("host1", events.Report{Domains: []events.DomainReport{x}}))
	w.refused(w.do("host.adopt_orphan", AdoptOrphan{w.host("host1"), uuid, w.vm("web")}), events.CodeConflict, "")
	w.nothing(w.do("host.stop_orphan", StopOrphan{w.host("host1"), uuid}))
}

// I1: what makes an adopted domain again beside the agent must be seen.
func TestI1SecondDomainOfAnAdoptedOneIsAnOrphan(t *testing.T) {
	w := newWorld(t)
	w.addHost("host1", 2000)
	w.createVM("web", 128)
	x := events.DomainReport{UUID: "0f0f0f0f-0000-4000-8000-000000000005", DomID: 9, Name: "by-hand", State: events.DomainRunning, MemoryMiB: 128, VCPUs: 1}
	w.must(w.report("host1", events.Report{Domains: []events.DomainReport{x}}))
	w.must(w.do("host.adopt_orphan", AdoptOrphan{w.host("host1"), x.UUID, w.vm("web")}))
	w.nothing(w.report("host1", events.Report{Domains: []events.DomainReport{x}})) // on its way to its stamp
	ours := w.domain("web", events.DomainRunning)
	x.DomID = 10
	got := types(w.must(w.report("host1", events.Report{Complete: true, Domains: []events.DomainReport{ours, x}})))
	if got != "vm.domain_observed host.orphan_found" && got != "host.orphan_found vm.domain_observed" {
		t.Fatalf("two domains give %q", got)
	}
	ours.UUID = x.UUID // as that of the adopted domain itself is
	if got := types(w.must(w.report("host1", events.Report{Complete: true, Domains: []events.DomainReport{ours}}))); got != "host.orphan_gone" {
		t.Fatalf("the end of the second gives %q", got)
	}
	w.audit()
}

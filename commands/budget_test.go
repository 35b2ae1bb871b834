package commands

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
)

// TestAMachineCannotFillTheLogWithContradictions has a machine lie in ever new ways, and enrol as another one in between.
func TestAMachineCannotFillTheLogWithContradictions(t *testing.T) {
	w := running(t)
	w.addHost("host2", 1024)
	before := len(w.log)
	for i := range 500 {
		w.report("host2", events.Report{Domains: []events.DomainReport{{
			UUID: string(w.vm("web")), DomID: 3, Stamped: true, VM: w.vm("web"), Epoch: events.Epoch{Term: 1, Counter: uint64(100 + i)}, State: events.DomainRunning, MemoryMiB: 64, VCPUs: 1,
		}}})
		w.as(MachineActor(w.host("host2")), "machine.enrol", Enrolment{
			Machine: w.host("host2"), TokenSHA256: w.s.machines[w.host("host2")].usedToken, Boot: bootID(900 + i), Key: testKeys[i%len(testKeys)], Image: "image",
		})
	}
	if n := len(w.log) - before; n == 0 || n > maxContradictions {
		t.Fatalf("%d contradictions were recorded, want 1 to %d", n, maxContradictions)
	}
	// Others are not affected, and in the next hour neither is this machine.
	w.must(w.do("vm.stop", VMRef{w.vm("web")}))
	w.must(w.report("host1", events.Report{Ended: []events.DomainEnded{w.endedOf("web")}}))
	w.now = w.now.Add(time.Hour)
	before = len(w.log)
	w.report("host2", events.Report{Domains: []events.DomainReport{{
		UUID: string(w.vm("web")), DomID: 3, Stamped: true, VM: w.vm("web"), Epoch: events.Epoch{Term: 1, Counter: 5000}, State: events.DomainRunning, MemoryMiB: 64, VCPUs: 1,
	}}})
	if len(w.log) != before+1 {
		t.Error("an hour later a contradiction is not recorded")
	}
	w.audit()
}

// TestAMachineCannotFillTheLogWithChanges has a machine report an orphan that looks different each time.
func TestAMachineCannotFillTheLogWithChanges(t *testing.T) {
	w := running(t)
	early := 150 // how far the hour's budget is from its end
	spend(w, "host1", maxReports-early, 0)
	before, size := len(w.log), 0
	orphan := func(i int) events.DomainReport {
		return events.DomainReport{UUID: bootID(7), DomID: 9, Name: strings.Repeat("x", 100), State: events.DomainRunning, MemoryMiB: 1 + i, VCPUs: 1}
	}
	var last events.Decision
	for i := range early + 100 {
		last = w.report("host1", events.Report{Domains: []events.DomainReport{orphan(i)}})
	}
	if last.Outcome.Code != events.CodeBusy {
		t.Fatalf("the last was answered %+v, want %s: the agent keeps it and asks again", last.Outcome, events.CodeBusy)
	}
	told := false
	for _, r := range w.log[before:] {
		size += len(r.Args)
		told = told || r.Outcome.Code == events.CodeContradicts
	}
	if n := len(w.log) - before; n > early+10 || !told {
		t.Fatalf("%d decisions of %d bytes were recorded; that it was too much was told: %t", n, size, told)
	}
	// A new boot is taken all the same, and proves the end of all that ran.
	w.boot("host1", 1024)
	w.now = w.now.Add(time.Hour)
	w.must(w.report("host1", events.Report{Complete: true, Domains: []events.DomainReport{orphan(0)}}))
	w.audit()
}

// TestReportsAreBoundedInBytes takes fewer, when they are large.
func TestReportsAreBoundedInBytes(t *testing.T) {
	w := running(t)
	const left = 4 << 20
	spend(w, "host1", 0, maxReportBytes-left)
	size, code := 0, ""
	before := len(w.log)
	for i := 0; i < 200 && code != events.CodeBusy; i++ {
		var list []events.DomainReport
		for j := range 1000 {
			list = append(list, events.DomainReport{UUID: fmt.Sprintf("00000000-0000-4000-8001-%012d", i*7+j), DomID: j, Name: strings.Repeat("x", 128), State: events.DomainRunning, MemoryMiB: 1 + i, VCPUs: 1})
		}
		code = w.report("host1", events.Report{Domains: list, Complete: true}).Outcome.Code
	}
	for _, r := range w.log[before:] {
		size += len(r.Args)
	}
	if code != events.CodeBusy || size > left+maxReportBytes/32 {
		t.Fatalf("%d bytes were recorded, the last answer was %q", size, code)
	}
}

// spend has a machine have spent a part of its budget in this hour.
func spend(w *world, host string, reports, bytes int) {
	s := &w.s.machines[w.host(host)].spent
	s.roll(w.now)
	s.reports, s.bytes = reports, bytes
}

package commands

import (
	"fmt"
	"testing"

	"cloudengine/events"
)

// BenchmarkDecide is what one vm.create costs the ordered loop: check, look the id up, decide, fold.
func BenchmarkDecide(b *testing.B) {
	w := newWorld(b)
	w.addHost("host1", 2000)
	args := make([]Command, b.N)
	for i := range args {
		args[i] = Command{Intent: events.FreeFormID("bench", fmt.Sprint(i)), Actor: "admin", Kind: events.KindVM, Verb: "create",
			Args: mustArgs(CreateVM{Account: events.AccountID(w.ids["demo"]), Name: fmt.Sprintf("vm-%d", i), Type: "pv", MemoryMiB: 128, Template: events.TemplateID(w.ids["tiny"])})}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, c := range args {
		if Check(c) != nil {
			b.Fatal("check")
		}
		if _, _, _, found := w.s.Seen(c); found {
			b.Fatal("seen")
		}
		d := w.s.Decide(c, w.now)
		w.s.Evolve(events.Recorded{Number: w.s.Next(), Term: 1, Time: w.now, Decision: d})
	}
}

func BenchmarkEncodeBlock(b *testing.B) {
	w := newWorld(b)
	w.addHost("host1", 2000)
	w.createVM("web", 128)
	w.do("vm.start", StartVM{VM: w.vm("web")})
	var ds []events.Decision
	for _, r := range w.log {
		ds = append(ds, r.Decision)
	}
	blk := &events.Block{Format: 1, Term: 1, First: 1, Time: w.now, Decisions: ds}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := blk.Encode(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ds)), "ns/decision")
}

package commands

import (
	"testing"

	"cloudengine/events"
)

// FuzzDecide throws any bytes at every verb: the core must answer, fold and fold again, and never panic.
func FuzzDecide(f *testing.F) {
	w := newWorld(f)
	w.addHost("host1", 2000)
	w.createVM("web", 128)
	f.Add("admin", "vm", "start", `{"vm":"`+w.ids["web"]+`"}`)
	f.Add("admin", "vm", "create", `{"name":"a","type":"pv","memory_mib":128}`)
	f.Add(MachineActor(w.host("host1")), "machine", "report", `{"machine":"`+w.ids["host1"]+`","boot":"`+bootID(1)+`","complete":true,"domains":[{"uuid":"`+w.ids["web"]+`","state":"running"}]}`)
	f.Fuzz(func(t *testing.T, actor, kind, verb, args string) {
		c := Command{Intent: "00000000-0000-4000-8000-000000000000", Actor: actor, Kind: events.Kind(kind), Verb: verb, Args: []byte(args)}
		d := w.s.Decide(c, w.now)
		if d.Outcome.Status == events.Refused && d.Outcome.Message == "" {
			t.Fatalf("refused without a word: %+v", d.Outcome)
		}
		if again := w.s.Decide(c, w.now); again.Outcome != d.Outcome || len(again.Events) != len(d.Events) {
			t.Fatal("the same command on the same state was decided otherwise")
		}
	})
}

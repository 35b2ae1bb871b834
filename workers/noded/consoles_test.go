package main

import (
	"encoding/json"
	"sync"
	"testing"

	"github.com/google/uuid"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// The end of a VM's console is with the control plane before the report that names it, and is what its digest says.
func TestConsoleIsSentWithTheEnd(t *testing.T) {
	p := newPlane(t)
	var mu sync.Mutex
	var sent []events.ConsoleTail
	p.serve("rep.*.console", func(b []byte) events.Outcome {
		var c events.ConsoleTail
		if err := json.Unmarshal(b, &c); err != nil || c.Boot != p.boot {
			t.Errorf("console %s: %v", b, err)
		}
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, c)
		return events.Outcome{Status: events.Accepted}
	})
	p.start()
	vm := events.VMID(uuid.NewString())
	p.want(domain(vm, desired.Running, 1))
	p.eventually("it runs", func() bool { return p.seen(0, p.reported(vm, events.DomainRunning)) })
	p.want(domain(vm, desired.Absent, 1))
	p.eventually("its end is told with its console", func() bool {
		return p.seen(0, func(r events.Report) bool {
			for _, e := range r.Ended {
				mu.Lock()
				told := e.VM == vm && len(sent) > 0 && e.Console == blobOf(sent[0].Data) && sent[0].VM == vm && sent[0].Epoch == e.Epoch
				mu.Unlock()
				if e.VM == vm && !told {
					t.Fatalf("told as %+v after %+v", e, sent)
				}
				if told {
					return true
				}
			}
			return false
		})
	})
}

// An end is more important than what was printed: without an answer to the console, it is told all the same.
func TestEndIsToldWithoutItsConsole(t *testing.T) {
	p := newPlane(t) // nobody takes consoles
	p.start()
	vm := events.VMID(uuid.NewString())
	p.want(domain(vm, desired.Running, 1))
	p.eventually("it runs", func() bool { return p.seen(0, p.reported(vm, events.DomainRunning)) })
	p.want(domain(vm, desired.Absent, 1))
	p.eventually("its end is told", func() bool { return p.seen(0, p.ended(vm)) })
}

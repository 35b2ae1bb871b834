package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/host"
	"cloudengine/workers/workertest"
)

const (
	machineID = events.MachineID("0190aaaa-0000-7000-8000-00000000000a")
	bootID    = "b0070000-0000-4000-8000-000000000001"
	vm1       = events.VMID("0190bbbb-0000-7000-8000-0000000000b1")
	vm2       = events.VMID("0190bbbb-0000-7000-8000-0000000000b2")
	digest    = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// fatal is what a test or a rapid check offers.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

// wish is a domain that is wanted under an epoch.
func wish(vm events.VMID, want string, epoch uint64) desired.Domain {
	return desired.Domain{
		VM: vm, Name: "web" + string(vm[len(vm)-1]), Want: want, Epoch: events.Epoch{Term: 1, Counter: epoch}, Type: events.TypePV,
		VCPUs: 2, MemoryMiB: 128, Weight: 1, Kernel: events.Blob{SHA256: digest, Size: 5}, Cmdline: "console=hvc0",
	}
}

func document(number uint64, kind events.Kind, id string, body any) desired.Document {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return desired.Document{
		Version: desired.Version, Machine: machineID, Boot: bootID, Kind: kind, ID: id,
		Generation: events.Generation{Term: 1, Number: number}, Body: b,
	}
}

func vmDoc(number uint64, d desired.Domain) desired.Document {
	return document(number, desired.KindDomain, string(d.VM), d)
}

// engine does what the loop does, in one goroutine. What it learned of ends is what a report would have told.
type engine struct {
	h      *workertest.Host
	wishes *workers.Wishes
	w      *host.Worker
	now    time.Time
	told   map[events.VMID][]events.DomainEnded
	stale  int // stale domains seen in reports
}

func newEngine(h *workertest.Host) *engine {
	e := &engine{h: h, wishes: workers.NewWishes(machineID, bootID), now: time.Unix(1e9, 0), told: map[events.VMID][]events.DomainEnded{}}
	e.restart()
	return e
}

// restart is a new agent on the same host: it has the documents and nothing else.
func (e *engine) restart() {
	e.h.Revive()
	e.w = &host.Worker{Boot: bootID, Tools: e.h, Store: e.h, Blobs: workertest.Blobs{}, Disks: e.h, Seeds: e.h.Seeds(), Throttle: e.h.Throttle(), Now: func() time.Time { return e.now }}
}

// pass observes, plans, reports and applies once. It says whether there was nothing to do.
func (e *engine) pass(ctx context.Context) (done bool, err error) {
	docs := e.wishes.All()
	seen, err := e.w.Observe(ctx)
	if err != nil {
		return false, err
	}
	snap := e.w.Describe(docs, seen, nil)
	for _, d := range snap.Domains {
		if d.Stale {
			e.stale++
		}
	}
	plans := e.w.Plan(docs, seen)
	for _, p := range plans {
		for _, s := range p.Steps {
			if err := e.w.Apply(ctx, s); err != nil {
				return false, fmt.Errorf("%s: %w", s, err)
			}
		}
	}
	for _, x := range snap.Ended {
		e.told[x.VM] = append(e.told[x.VM], x)
	}
	e.w.Answered(snap.Ended)
	return len(plans) == 0 && len(snap.Ended) == 0, nil
}

// settle passes until there is nothing to do, or the agent is killed. Guests that were asked get their ten seconds.
func (e *engine) settle(ctx context.Context) error {
	quiet := 0
	for range 60 {
		done, err := e.pass(ctx)
		if err != nil {
			return err
		}
		if quiet++; !done {
			quiet = 0
		}
		if quiet == 2 {
			return nil
		}
		e.now = e.now.Add(11 * time.Second)
	}
	return errors.New("it does not settle")
}

// mustSettle settles and checks that no VM ran twice.
func (e *engine) mustSettle(t fatal) {
	t.Helper()
	if err := e.settle(context.Background()); err != nil {
		t.Fatalf("settle: %v\n%s", err, e.h)
	}
	if twice := e.h.Twice(); len(twice) > 0 {
		t.Fatalf("%v\n%s", twice, e.h)
	}
}

// domains lists the domains of a VM with their stamps.
func (e *engine) domains(t fatal, vm events.VMID) []events.DomainReport {
	t.Helper()
	seen, err := e.w.Observe(context.Background())
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	var out []events.DomainReport
	for _, d := range e.w.Describe(e.wishes.All(), seen, nil).Domains {
		if d.VM == vm || d.UUID == string(vm) {
			out = append(out, d)
		}
	}
	return out
}

// wantDomain checks that the VM has exactly one domain, in this state under this epoch.
func (e *engine) wantDomain(t fatal, vm events.VMID, state string, epoch uint64) events.DomainReport {
	t.Helper()
	all := e.domains(t, vm)
	if len(all) != 1 || all[0].State != state || all[0].Epoch.Counter != epoch || !all[0].Stamped || all[0].Boot != bootID {
		t.Fatalf("want one domain of %s, %s, epoch %d; got %+v\n%s", vm, state, epoch, all, e.h)
	}
	return all[0]
}

func (e *engine) wantNone(t fatal, vm events.VMID) {
	t.Helper()
	if all := e.domains(t, vm); len(all) != 0 {
		t.Fatalf("want no domain of %s; got %+v\n%s", vm, all, e.h)
	}
}

func (e *engine) wantEnded(t fatal, vm events.VMID, epoch uint64, hows ...string) {
	t.Helper()
	for _, x := range e.told[vm] {
		for _, how := range hows {
			if x.Epoch.Counter == epoch && x.How == how {
				return
			}
		}
	}
	t.Fatalf("no end of %s epoch %d by %v was told: %+v", vm, epoch, hows, e.told[vm])
}

func newTestEngine(t *testing.T, docs ...desired.Document) *engine {
	t.Helper()
	e := newEngine(workertest.NewHost(2048))
	for _, d := range docs {
		e.take(t, d)
	}
	e.mustSettle(t)
	return e
}

func (e *engine) take(t fatal, d desired.Document) {
	t.Helper()
	if v := e.wishes.Take(d); v != workers.Taken {
		t.Fatalf("document %s/%s %v is %s", d.Kind, d.ID, d.Generation, v)
	}
}

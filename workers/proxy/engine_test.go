package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/dm"
	"cloudengine/workers/md"
	"cloudengine/workers/proxy"
	"cloudengine/workers/reserve"
)

const (
	arrayID events.ArrayID = "00112233-4455-6677-8899-aabbccddeeff"
	boot    string         = "boot-1"
)

// engine is the agent on a world. Its documents outlive it, its worker does not.
type engine struct {
	w      *world
	clock  clock
	wishes *workers.Wishes
	worker *proxy.Worker
	number uint64
	term   uint64
	last   map[events.ArrayID]events.ArrayReport
}

func newEngine(w *world) *engine {
	e := &engine{w: w, wishes: workers.NewWishes("p1", boot), term: 1, clock: clock{time.Unix(1000, 0)}}
	w.mayAssemble, w.mayJoin = e.mayAssemble, e.locked
	w.mayZero = func(events.ArrayID, int) string { return "" }
	e.restart()
	e.offer(desired.KindFabric, "f", desired.Fabric{Fabric: "f", Transport: "srp", Want: desired.There})
	return e
}

func (e *engine) restart() {
	e.w.killIn = 0
	e.worker = &proxy.Worker{Boot: boot, Initiator: e.w, Target: target{e.w}, Arrays: arrays{e.w}, Mapper: mapper{e.w}, Records: records{e.w}, Blocks: blocks{e.w},
		Name: func(_ string, p desired.Peer) (string, error) { return "i-" + string(p.Machine), nil }, Now: e.clock.Now, Fetch: e.w.fetch}
}

func (e *engine) offer(kind events.Kind, id string, body any) desired.Document {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	e.number++
	d := desired.Document{Version: 1, Machine: "p1", Boot: boot, Kind: kind, ID: id, Generation: events.Generation{Term: e.term, Number: e.number}, Body: b}
	if v := e.wishes.Take(d); v != workers.Taken {
		panic(v)
	}
	return d
}

// doc gives an active document over all disks of the world.
func (e *engine) doc(want string, epoch uint64, change ...func(*desired.Array)) desired.Array {
	a := desired.Array{Array: arrayID, Name: "gold", Fabric: "f", Want: want, Epoch: events.Epoch{Term: 1, Counter: epoch}, Sectors: sectors,
		UnitSerial: events.UnitSerial(events.KindArray, string(arrayID)), Group: 1, To: []desired.Peer{{Machine: "h1", Address: "10.0.0.9"}}}
	if want == desired.Active {
		a.Copies, a.ChunkKiB, a.ExtentMiB, a.StartMiB = 2, 64, extentMiB, startMiB
		for _, d := range e.w.disks {
			if !d.spare {
				a.Legs = append(a.Legs, d.leg(d.slot))
			}
		}
		slices.SortFunc(a.Legs, func(a, b desired.Leg) int { return a.Slot - b.Slot })
	}
	for _, f := range change {
		f(&a)
	}
	return a
}

func (d *disk) id() events.DiskID { return events.DiskID("disk" + d.naa) }

func (d *disk) leg(slot int) desired.Leg {
	return desired.Leg{Slot: slot, Disk: d.id(), NAA: d.naa, At: desired.Peer{Machine: d.node.Machine, Address: d.node.Address}}
}

func (e *engine) say(a desired.Array) { e.offer(desired.KindArray, string(a.Array), a) }

// current gives the document that holds, if there is one.
func (e *engine) current() (a desired.Array, ok bool) {
	for _, d := range e.wishes.All() {
		if d.Kind == desired.KindArray {
			if err := json.Unmarshal(d.Body, &a); err != nil {
				panic(err)
			}
			return a, true
		}
	}
	return a, false
}

// mayAssemble is the rule of the whole: an active document of this boot, and its legs only, each in its slot.
func (e *engine) mayAssemble(id string, members []md.Candidate) string {
	a, ok := e.current()
	if !ok || a.Want != desired.Active || string(a.Array) != id {
		return "no active document"
	}
	for _, m := range members {
		follows := slices.ContainsFunc(a.Replacements, func(r desired.Replacement) bool { return r.Slot == m.Slot && dev(r.NAA) == m.Dev })
		if m.Slot >= len(a.Legs) || dev(a.Legs[m.Slot].NAA) != m.Dev && !follows {
			return fmt.Sprintf("%s is not leg %d", m.Dev, m.Slot)
		}
		if why := e.locked(e.w.disk(m.Dev)); why != "" {
			return why
		}
	}
	return ""
}

// locked says why a disk is not reserved for the current document's epoch, or nothing.
func (e *engine) locked(d *disk) string {
	a, ok := e.current()
	own, err := reserve.KeyOf(arrayID, a.Epoch, boot)
	if u := d.unit; !ok || err != nil || u.Holder != us || !u.Seen().Held(own) || !u.Seen().Alone(own) {
		return fmt.Sprintf("%s is reserved by %q: %v", d.naa, u.Holder, u.Keys)
	}
	return ""
}

// pass looks once and does what is planned. It says whether anything was.
func (e *engine) pass() (acted bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			if r != errKilled { //nolint:errorlint // it is the very value
				panic(r)
			}
			e.restart()
			err = errKilled
		}
	}()
	ctx := context.Background()
	seen, err := e.worker.Observe(ctx)
	if err != nil {
		return false, err
	}
	docs := e.wishes.All()
	e.last = map[events.ArrayID]events.ArrayReport{}
	for _, r := range e.worker.Report(docs, seen, nil).Arrays {
		e.last[r.Array] = r
		e.checkReport(r)
	}
	for _, p := range e.worker.Plan(docs, seen) {
		acted = true
		for _, s := range p.Steps {
			if g, ok := e.wishes.Generation(p.Object); ok && g != p.Generation {
				break
			}
			if err = e.worker.Apply(ctx, s); err != nil {
				break
			}
		}
	}
	return acted, err
}

// checkReport: what ends a grant must be so.
func (e *engine) checkReport(r events.ArrayReport) {
	given := r.State == events.ArrayStandby || r.State == events.ArrayAbsent
	front := e.w.device("ce-" + string(r.Array))
	if given && (len(e.w.arrays) > 0 || e.w.device("ce-own-"+string(r.Array)) != nil || front != nil && !dm.IsError(front.Table)) {
		e.w.complain("it is told that array %s is %s", r.Array, r.State)
	}
	a, ok := e.current()
	if r.Checked != "" && (e.w.ended == 0 || !ok || r.Checked != a.Resync.Check) {
		e.w.complain("it is told that check %s is done, and %d are", r.Checked, e.w.ended)
	}
	if r.State == events.ArrayActive {
		if !ok || a.Want != desired.Active || r.Epoch != a.Epoch || len(e.w.arrays) != 1 {
			e.w.complain("it is told that array %s is active under %s", r.Array, r.Epoch)
		}
		if !r.Made || e.w.records[r.Array] == nil {
			e.w.complain("array %s is active and not made", r.Array)
		}
	}
}

// fataler is *testing.T or *rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func (e *engine) check(t fataler) {
	t.Helper()
	if len(e.w.wrong) > 0 {
		t.Fatalf("%v", e.w.wrong)
	}
}

// settle passes until nothing is to be done any more.
func (e *engine) settle(t fataler) {
	t.Helper()
	for range 60 {
		acted, err := e.pass()
		e.check(t)
		if !acted && err == nil {
			if _, err := e.pass(); err == nil {
				if a, ok := e.current(); ok && a.Want != desired.Active || e.last[arrayID].State == events.ArrayActive {
					return
				}
			}
		}
		e.clock.now = e.clock.now.Add(3 * time.Second)
	}
	e.check(t)
	t.Fatalf("it does not settle: %+v, last calls %v", e.last, e.w.calls[max(0, len(e.w.calls)-30):])
}

func (e *engine) want(t *testing.T, state string) events.ArrayReport {
	t.Helper()
	e.settle(t)
	r := e.last[arrayID]
	if r.State != state {
		t.Fatalf("report %+v, want %s", r, state)
	}
	return r
}

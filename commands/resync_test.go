package commands

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cloudengine/events"
)

func (w *world) array(name string) *Array { return w.s.storage.arrays[events.ArrayID(w.ids[name])] }

// tells is what the owner of an array reports of it, obeying the newest document.
func (w *world) tells(name string, change func(*events.ArrayReport)) events.Decision {
	a := w.array(name)
	r := events.ArrayReport{Array: a.ID, Epoch: a.Owner.Epoch, Generation: events.Generation{Term: w.s.term, Number: w.s.last}, State: events.ArrayActive, Made: true,
		Legs: []string{"in_sync", "in_sync"}}
	change(&r)
	d := w.storage(w.nameOf(a.Owner.Proxy), events.StorageReport{Arrays: []events.ArrayReport{r}})
	if d.Outcome.Status == events.Refused {
		w.t.Fatalf("report of %s: %+v", name, d.Outcome)
	}
	return d
}

func needs(what string) func(*events.ArrayReport) {
	return func(r *events.ArrayReport) {
		r.Needs, r.Sync = what, what
		if what == events.SyncRecover {
			r.Degraded = 1
		}
	}
}

func fine(*events.ArrayReport) {}

// withArrays has three storage nodes with four disks each, and arrays of two legs: ab and ba on n1 and n2, bc on n2 and n3.
func withArrays(t *testing.T) *world {
	w := newStorageWorld(t)
	w.addStorage("n3", events.RoleStorageNode, 4)
	disk := func(s string) events.DiskID { return events.DiskIDOf(s) }
	for name, disks := range map[string][]events.DiskID{"ab": {disk("n1-0"), disk("n2-0")}, "ba": {disk("n2-1"), disk("n1-1")}, "bc": {disk("n2-2"), disk("n3-0")}} {
		w.id(name, w.must(w.do("array.create", CreateArray{Pool: w.pool(), Name: name, Disks: disks})))
		w.tells(name, fine)
	}
	return w
}

// doing tells of each array what it may do: held, check, or nothing.
func (w *world) doing() string {
	out := ""
	for _, name := range []string{"ab", "ba", "bc"} {
		a, what := w.array(name), "-"
		switch c := a.sync.check; {
		case a.sync.held.Held:
			what = "held"
		case c != nil && !c.started.IsZero():
			what = "check"
		case c != nil:
			what = "wanted"
		}
		out += " " + name + ":" + what
	}
	return out[1:]
}

func (w *world) turnsAre(want string) {
	w.t.Helper()
	if got := w.doing(); got != want {
		w.t.Fatalf("got %s, want %s", got, want)
	}
	w.oneOnEachNode()
	w.audit()
}

// oneOnEachNode: of the arrays that are not held, no two that copy, or are told to compare, share a storage node.
func (w *world) oneOnEachNode() {
	w.t.Helper()
	busy := map[events.MachineID]string{}
	for _, id := range sortedKeys(w.s.storage.arrays) {
		a := w.s.storage.arrays[id]
		c := a.sync.check
		j, ok := w.s.jobOf(a)
		if !ok || a.sync.held.Held || j.class == classCheck && c.started.IsZero() {
			continue
		}
		for _, l := range a.Data.Legs {
			if other, taken := busy[l.Node]; taken && other != a.Data.Name {
				w.t.Fatalf("%s and %s are both at it on %s", other, a.Data.Name, w.nameOf(l.Node))
			}
			busy[l.Node] = a.Data.Name
		}
	}
}

func TestResyncIsSet(t *testing.T) {
	w := withArray(t)
	id := w.arr().ID
	if got := w.arr().sync.set; got != (events.ArrayResyncSet{LimitKiB: events.ResyncDefaultKiB}) {
		t.Fatalf("a new array has %+v", got)
	}
	for _, x := range []struct {
		args SetResync
		want events.ArrayResyncSet
	}{
		{SetResync{LimitKiB: 20480}, events.ArrayResyncSet{LimitKiB: 20480}},
		{SetResync{Pause: true}, events.ArrayResyncSet{LimitKiB: 20480, Paused: true}},
		{SetResync{NoLimit: true}, events.ArrayResyncSet{Paused: true}},
		{SetResync{LimitKiB: 1024, Resume: true}, events.ArrayResyncSet{LimitKiB: 1024}},
	} {
		x.args.Array = id
		w.must(w.do("array.set_resync", x.args))
		if got := w.arr().sync.set; got != x.want {
			t.Fatalf("%+v: got %+v, want %+v", x.args, got, x.want)
		}
		w.nothing(w.do("array.set_resync", x.args))
	}
	for _, bad := range []SetResync{{}, {LimitKiB: 1023}, {LimitKiB: 2048, NoLimit: true}, {Pause: true, Resume: true}} {
		bad.Array = id
		w.refused(w.do("array.set_resync", bad), events.CodeConflict, "")
	}
	for _, bad := range []SetResync{{Array: id, LimitKiB: -1}, {Array: id, LimitKiB: maxResyncKiB + 1}, {Array: "x", Pause: true}} {
		w.refused(w.do("array.set_resync", bad), events.CodeInvalid, "")
	}
	w.refused(w.do("array.set_resync", SetResync{Array: events.ArrayID(w.ids["demo"]), Pause: true}), events.CodeNotFound, "")
	w.audit()
}

// TestOneResyncAtATimeOnAStorageNode goes through turns: who is degraded goes first, then who came first; a pause, an end and a silence free
// the storage nodes.
func TestOneResyncAtATimeOnAStorageNode(t *testing.T) {
	w := withArrays(t)
	w.tells("ab", needs(events.SyncResync))
	w.turnsAre("ab:- ba:- bc:-")
	w.tells("bc", needs(events.SyncResync))
	w.turnsAre("ab:- ba:- bc:held")
	w.tells("ba", needs(events.SyncRecover))
	w.turnsAre("ab:held ba:- bc:held")
	w.must(w.do("array.set_resync", SetResync{Array: w.array("ba").ID, Pause: true}))
	w.turnsAre("ab:- ba:- bc:held")
	w.must(w.do("array.set_resync", SetResync{Array: w.array("ba").ID, Resume: true}))
	w.turnsAre("ab:held ba:- bc:held")
	w.tells("ba", fine)
	w.turnsAre("ab:- ba:- bc:held")
	w.must(w.do("array.failover", FailoverArray{Array: w.array("ab").ID}))
	w.turnsAre("ab:- ba:- bc:-")
	w.tells("ab", func(r *events.ArrayReport) { r.State = events.ArrayStandby })
	w.tells("ab", needs(events.SyncResync)) // its next owner
	w.turnsAre("ab:held ba:- bc:-")
}

// TestADeadOwnerBlocksNobody: neither one that is silent, nor one that is off.
func TestADeadOwnerBlocksNobody(t *testing.T) {
	w := withArrays(t)
	w.tells("ab", needs(events.SyncRecover))
	w.tells("bc", needs(events.SyncRecover))
	first, second := w.array("ab").Owner.Proxy, w.array("bc").Owner.Proxy
	if first == second {
		w.must(w.do("array.failover", FailoverArray{Array: w.array("bc").ID}))
		w.tells("bc", func(r *events.ArrayReport) { r.State = events.ArrayStandby })
		w.tells("bc", needs(events.SyncRecover))
	}
	w.turnsAre("ab:- ba:- bc:held")
	w.silent(first)
	w.turnsAre("ab:- ba:- bc:-")
	w.back(first)
	w.turnsAre("ab:- ba:- bc:held")
	m := w.s.machines[first]
	off := w.must(w.override(GuardRunningVMs, "machine.power", PowerMachine{m.ID, events.PowerOff}))
	w.must(w.as(ActorPower, "machine.report_power", ReportPower{Machine: m.ID, Operation: off.Intent, Boot: m.Boot, State: events.PowerIsOff, Reads: 2}))
	w.turnsAre("ab:- ba:- bc:-")
}

func TestCheckFromItsWishToItsEnd(t *testing.T) {
	w := withArrays(t)
	id := w.array("ab").ID
	check := w.must(w.do("array.check", CheckArray{Array: id}))
	w.turnsAre("ab:check ba:- bc:-")
	w.refused(w.do("array.check", CheckArray{Array: id}), events.CodeConflict, "")
	w.must(w.do("array.check", CheckArray{Array: w.array("bc").ID}))
	w.turnsAre("ab:check ba:- bc:wanted")
	w.refused(w.do("array.check", CheckArray{Array: w.array("bc").ID}), events.CodeConflict, "")
	w.tells("ba", needs(events.SyncRecover)) // a recovery goes first
	w.turnsAre("ab:held ba:- bc:wanted")
	w.tells("ba", fine)
	w.turnsAre("ab:check ba:- bc:wanted")
	w.nothing(w.tells("ab", func(r *events.ArrayReport) { r.Checked = "another" }))
	d := w.tells("ab", func(r *events.ArrayReport) { r.Checked, r.Sectors, r.Mismatches = check.Intent, 4096, 128 })
	if x, ok := d.Events[0].Data.(events.ArrayChecked); !ok || !x.Complete || x.Sectors != 4096 || x.Mismatches != 128 || !x.Ended.After(x.Started) || x.Started.IsZero() {
		t.Fatalf("events %s: %+v", types(d), d.Events[0].Data)
	}
	w.turnsAre("ab:- ba:- bc:check")
	w.nothing(w.tells("ab", func(r *events.ArrayReport) { r.Checked, r.Sectors, r.Mismatches = check.Intent, 4096, 128 }))
	w.must(w.do("array.check", CheckArray{Array: w.array("bc").ID, Stop: true}))
	w.refused(w.do("array.check", CheckArray{Array: w.array("bc").ID, Stop: true}), events.CodeConflict, "")
	if len(w.s.ops) != 0 {
		for _, o := range w.s.ops {
			if o.Verb == "check" {
				t.Fatalf("operation %+v is left", o)
			}
		}
	}
	w.turnsAre("ab:- ba:- bc:-")
}

// TestACheckOutlivesItsOwner: whoever owns the array next does it, from the beginning.
func TestACheckOutlivesItsOwner(t *testing.T) {
	w := withArrays(t)
	check := w.must(w.do("array.check", CheckArray{Array: w.array("ab").ID}))
	w.must(w.do("array.failover", FailoverArray{Array: w.array("ab").ID}))
	w.tells("ab", func(r *events.ArrayReport) { r.State = events.ArrayStandby })
	w.tells("ab", fine)
	w.turnsAre("ab:check ba:- bc:-")
	w.must(w.tells("ab", func(r *events.ArrayReport) { r.Checked = check.Intent }))
	w.turnsAre("ab:- ba:- bc:-")
}

func TestScheduledChecks(t *testing.T) {
	w := withArrays(t)
	due := func() (out []Command) {
		for _, c := range w.s.Due(w.now) {
			if c.Verb == "check_due" {
				out = append(out, c)
			}
		}
		return out
	}
	if got := due(); len(got) != 0 {
		t.Fatalf("due at once: %+v", got)
	}
	w.now = w.now.Add(31 * 24 * time.Hour)
	all := due()
	if len(all) != 3 {
		t.Fatalf("after 31 days: %+v", all)
	}
	for _, c := range all {
		w.must(w.run(c))
		w.nothing(w.run(c))
	}
	if len(due()) != 0 {
		t.Fatalf("still due: %+v", due())
	}
	w.oneOnEachNode()
	for range 3 { // one after the other, as all share n2
		started := 0
		for _, n := range []string{"ab", "ba", "bc"} {
			if c := w.array(n).sync.check; c != nil && !c.started.IsZero() {
				started++
				w.must(w.tells(n, func(r *events.ArrayReport) { r.Checked = c.id }))
				break
			}
		}
		if started != 1 {
			t.Fatalf("%d checks: %s", started, w.doing())
		}
	}
	w.turnsAre("ab:- ba:- bc:-")
	pool := SetPool{Pool: w.pool(), CheckHours: 0}
	w.must(w.do("pool.set", pool))
	w.nothing(w.do("pool.set", pool))
	w.now = w.now.Add(365 * 24 * time.Hour)
	if got := due(); len(got) != 0 {
		t.Fatalf("due without a schedule: %+v", got)
	}
	pool.CheckHours = 24
	w.must(w.do("pool.set", pool))
	if len(due()) == 0 {
		t.Fatal("nothing is due under a new schedule")
	}
	pool.CheckHours = maxCheckHours + 1
	w.refused(w.do("pool.set", pool), events.CodeInvalid, "")
	w.audit()
}

// TestAnyOrderOfResyncs: whatever owners report, whoever is paused, moved, checked or silent, in any order: on each storage node one array
// is at it, and in the end all are done.
func TestAnyOrderOfResyncs(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		w := withArrays(t)
		names := []string{"ab", "ba", "bc"}
		for range 80 {
			w.anything(rnd, names[rnd.IntN(3)])
			w.oneOnEachNode()
		}
		w.comeToRest(names)
		w.turnsAre("ab:- ba:- bc:-")
	}
}

func (w *world) anything(rnd *rand.Rand, name string) {
	a := w.array(name)
	switch o := a.Owner; rnd.IntN(9) {
	case 0, 1, 2:
		if o != nil && o.Revoked == (events.Generation{}) && !w.s.machines[o.Proxy].Silent {
			w.tells(name, needs([]string{"", events.SyncRecover, events.SyncResync}[rnd.IntN(3)]))
		}
	case 3:
		w.do("array.set_resync", SetResync{Array: a.ID, Pause: true})
	case 4:
		w.do("array.set_resync", SetResync{Array: a.ID, Resume: true})
	case 5:
		w.do("array.check", CheckArray{Array: a.ID, Stop: rnd.IntN(3) == 0})
	case 6:
		if w.do("array.failover", FailoverArray{Array: a.ID}).Outcome.Status == events.Accepted {
			w.tells(name, func(r *events.ArrayReport) { r.State = events.ArrayStandby })
		}
	case 7:
		if c := a.sync.check; c != nil && !c.started.IsZero() && !a.sync.held.Held && o != nil && !w.s.machines[o.Proxy].Silent {
			w.tells(name, func(r *events.ArrayReport) { r.Checked = c.id })
		}
	case 8:
		p := w.s.machines[w.host(fmt.Sprintf("p%d", 1+rnd.IntN(2)))]
		if p.Silent {
			w.back(p.ID)
		} else if rnd.IntN(3) == 0 {
			w.silent(p.ID)
		}
	}
}

// comeToRest lets all be as it should, and each owner do what it may.
func (w *world) comeToRest(names []string) {
	for _, p := range []string{"p1", "p2"} {
		if m := w.s.machines[w.host(p)]; m.Silent {
			w.back(m.ID)
		}
	}
	for range 10 {
		for _, n := range names {
			a := w.array(n)
			w.do("array.set_resync", SetResync{Array: a.ID, Resume: true})
			if a = w.array(n); a.Owner == nil {
				w.t.Fatalf("array %s has no owner", n)
			}
			if !a.sync.held.Held {
				w.tells(n, func(r *events.ArrayReport) {
					if c := a.sync.check; c != nil && !c.started.IsZero() {
						r.Checked = c.id
					}
				})
			}
		}
	}
}

package dispatch_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nkeys"

	"cloudengine/commands"
	"cloudengine/commands/dispatch"
	"cloudengine/events"
)

// fakeCore accepts everything. "react" has a reaction, "later" a deadline one second after its block, "panic" breaks an invariant.
type fakeCore struct {
	last, term uint64
	seen       map[events.IntentID]uint64
	pending    map[events.IntentID]commands.Command
	deadline   time.Time
}

func newFake() dispatch.Core {
	return &fakeCore{seen: map[events.IntentID]uint64{}, pending: map[events.IntentID]commands.Command{}}
}

func (f *fakeCore) Decide(c commands.Command, _ time.Time) events.Decision {
	if c.Verb == "panic" {
		panic("a VM has two live run grants")
	}
	data := events.Payload(events.AccountCreated{Name: c.Verb})
	if c.Verb == "open" {
		data = events.LogOpened{Term: f.term + 1}
	}
	return events.Decision{Intent: c.Intent, Actor: c.Actor, Kind: c.Kind, Verb: c.Verb, Args: c.Args, Cause: c.Cause,
		Outcome: events.Outcome{Status: events.Accepted}, Events: []events.Event{events.New(events.KindAccount, "a", f.last+1, data)}}
}

func (f *fakeCore) Evolve(r events.Recorded) {
	if r.Number != f.last+1 {
		panic(fmt.Sprintf("decision %d after %d", r.Number, f.last))
	}
	f.last, f.term = r.Number, r.Term
	f.seen[r.Intent] = r.Number
	delete(f.pending, r.Intent)
	switch r.Verb {
	case "react":
		id := events.ReactionID(r.Number, 0)
		f.pending[id] = commands.Command{Intent: id, Actor: commands.ActorReaction, Kind: events.KindAccount, Verb: "reacted", Cause: fmt.Sprint(r.Number)}
	case "later":
		f.deadline = r.Time.Add(time.Second)
	case "expired":
		f.deadline = time.Time{}
	}
}

func (f *fakeCore) React(r events.Recorded) []commands.Command {
	if c, ok := f.pending[events.ReactionID(r.Number, 0)]; ok {
		return []commands.Command{c}
	}
	return nil
}

func (f *fakeCore) Resume() (out []commands.Command) {
	for _, c := range f.pending {
		out = append(out, c)
	}
	return out
}

func (f *fakeCore) Due(now time.Time) []commands.Command {
	if f.deadline.IsZero() || f.deadline.After(now) {
		return nil
	}
	return []commands.Command{{Intent: "expired", Actor: commands.ActorDeadline, Kind: events.KindAccount, Verb: "expired"}}
}

func (f *fakeCore) NextDeadline() (time.Time, bool) { return f.deadline, !f.deadline.IsZero() }

func (f *fakeCore) Seen(c commands.Command) (uint64, events.Outcome, bool, bool) {
	n, ok := f.seen[c.Intent]
	return n, events.Outcome{Status: events.Accepted}, false, ok
}

func (f *fakeCore) Next() uint64 { return f.last + 1 }
func (f *fakeCore) Term() uint64 { return f.term }

func fakeRig(t *testing.T, log *memoryLog) *rig {
	return newRig(t, log, func(o *dispatch.Options) { o.Core = newFake }).active()
}

func command(n int, verb string) commands.Command {
	return commands.Command{Intent: id(n), Actor: "admin", Kind: events.KindAccount, Verb: verb}
}

func verbsOf(all []events.Recorded) string {
	var out []string
	for _, r := range all {
		out = append(out, r.Verb)
	}
	return strings.Join(out, " ")
}

func TestReactionFollows(t *testing.T) {
	r := fakeRig(t, &memoryLog{})
	a := r.submit(command(1, "react"))
	must(t, r.d.Wait(t.Context(), a.Number+1))
	if got := verbsOf(r.check()); got != "open create react reacted" {
		t.Fatalf("decisions: %s", got)
	}
}

// TestReactionIsResumed ends the dispatcher between an intent and its reaction.
func TestReactionIsResumed(t *testing.T) {
	log := &memoryLog{}
	r := fakeRig(t, log)
	r.leader.Store(false)
	r.wait("it to cease", func() bool { return !r.d.Active() })
	log.mu.Lock()
	b := rival(1)(log.end())
	b.Decisions[0].Verb = "react"
	must(t, log.put(b))
	log.mu.Unlock()
	r.leader.Store(true)
	must(t, r.d.Wait(t.Context(), 4))
	if got := verbsOf(r.check()); got != "open create react reacted" {
		t.Fatalf("decisions: %s", got)
	}
}

func TestDeadlinePasses(t *testing.T) {
	r := fakeRig(t, &memoryLog{})
	a := r.submit(command(1, "later"))
	r.now.Add(int64(2 * time.Second))
	r.submit(command(2, "other")) // the loop looks at its clock again
	must(t, r.d.Wait(t.Context(), a.Number+2))
	if got := verbsOf(r.check()); !strings.Contains(got, "expired") {
		t.Fatalf("decisions: %s", got)
	}
}

// TestDeadlinesDoNotPileUp holds the disk back while a deadline passes and the next block is full: it is due once, not once a millisecond.
func TestDeadlinesDoNotPileUp(t *testing.T) {
	log := &memoryLog{}
	var core atomic.Pointer[countingCore]
	r := newRig(t, log, func(o *dispatch.Options) {
		o.MaxBlock = 1
		o.Core = func() dispatch.Core {
			c := &countingCore{Core: newFake()}
			core.Store(c)
			return c
		}
	}).active()
	r.submit(command(1, "later"))
	hold := make(chan struct{})
	log.mu.Lock()
	log.hold, log.started = hold, make(chan struct{}, 10)
	log.mu.Unlock()
	done := make(chan error, 2)
	reply := func(_ events.Answer, err error) { done <- err }
	r.d.SubmitFunc(command(2, "held"), false, time.Time{}, reply)
	<-log.started
	r.d.SubmitFunc(command(3, "next"), false, time.Time{}, reply)
	r.wait("the next block to be full", func() bool { return r.d.Status().Queue == 0 })
	r.now.Add(int64(2 * time.Second))
	core.Load().asked.Store(0)
	r.wait("the deadline to be seen", func() bool { return core.Load().looked.Load() > 100 || core.Load().asked.Load() > 5 })
	if n := core.Load().asked.Load(); n > 1 {
		t.Errorf("what is due was taken up %d times", n)
	}
	log.mu.Lock()
	log.hold = nil
	log.mu.Unlock()
	close(hold)
	must(t, <-done)
	must(t, <-done)
	r.wait("the deadline to be decided", func() bool { return strings.Contains(verbsOf(r.check()), "expired") })
}

// countingCore counts the questions about deadlines.
type countingCore struct {
	dispatch.Core
	asked, looked atomic.Int64
}

func (c *countingCore) Due(now time.Time) []commands.Command {
	out := c.Core.Due(now)
	c.asked.Add(int64(len(out)))
	return out
}

func (c *countingCore) NextDeadline() (time.Time, bool) {
	c.looked.Add(1)
	return c.Core.NextDeadline()
}

func TestNewTermBeginsABlock(t *testing.T) {
	log := &memoryLog{}
	r := newRig(t, log, nil).active()
	args, _ := json.Marshal(commands.OpenLog{Term: 2, Cause: "restored"}) // a number and a string
	a := r.submit(commands.Command{Intent: id(1), Actor: commands.ActorBootstrap, Kind: events.KindLog, Verb: "open", Args: args})
	if a.Outcome.Status != events.Accepted {
		t.Fatalf("answer %+v", a)
	}
	b := r.submit(create(2, "acme"))
	all := r.check()
	if got := all[a.Number-1].Term; got != 2 {
		t.Fatalf("opened in term %d", got)
	}
	if got := all[b.Number-1].Term; got != 2 {
		t.Fatalf("then in term %d", got)
	}
}

// A log that was restored is in a new term before anything is decided, once, however often the server starts.
func TestRestoredLogOpensANewTerm(t *testing.T) {
	log := &memoryLog{}
	first := newRig(t, log, nil).active()
	last := first.submit(create(1, "acme")).Number
	first.cease()
	restored := func(o *dispatch.Options) { o.Restored = last }
	second := newRig(t, log, restored).active()
	b := second.submit(create(2, "zeta"))
	second.cease()
	newRig(t, log, restored).active().submit(create(3, "third"))
	all := second.check()
	opened := all[last]
	if opened.Verb != "open" || opened.Term != 2 || opened.Outcome.Status != events.Accepted || b.Number != last+2 {
		t.Fatalf("after the last of the backup came %+v, then %d", opened, b.Number)
	}
	if end := all[len(all)-1]; end.Term != 2 || end.Number != last+3 {
		t.Fatalf("the last is %d in term %d", end.Number, end.Term)
	}
}

// Who does not know all that is in the log decides nothing, and says so.
func TestALogOfANewerVersionStops(t *testing.T) {
	for what, e := range map[string]events.Event{
		"vm.teleported.v1": {Aggregate: events.Ref{Kind: events.KindVM, ID: "v"}, Version: 1, Type: "vm.teleported.v1",
			Data: events.Unknown{Type: "vm.teleported.v1", Raw: json.RawMessage("{}")}},
		"to level 1000": events.New(events.KindLog, events.LogID, 2, events.LogLevelRaised{Level: 1000}),
	} {
		t.Run(what, func(t *testing.T) { stopsAt(t, what, e) })
	}
}

// stopsAt appends an event of a newer version and has it read by a dispatcher that starts.
func stopsAt(t *testing.T, says string, e events.Event) {
	log := &memoryLog{}
	first := newRig(t, log, nil).active()
	first.cease() // and goes on reading: what is appended behind its back needs the lock
	log.mu.Lock()
	end := log.end()
	next := &events.Block{Format: events.Format, Term: 1, First: end.Number + 1, Time: end.Time, Prev: end.Digest, Decisions: []events.Decision{{
		Intent: id(1), Actor: "admin", Kind: e.Aggregate.Kind, Verb: "teleport", Outcome: events.Outcome{Status: events.Accepted}, Events: []events.Event{e},
	}}}
	must(t, log.put(next))
	log.mu.Unlock()
	r := newRig(t, log, nil)
	r.wait("it to stop", func() bool { return r.d.Status().Stopped != nil })
	if err := r.d.Status().Stopped; !errors.Is(err, dispatch.ErrNewer) || !strings.Contains(err.Error(), says) {
		t.Fatalf("stopped: %v", err)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if log.end().Number != next.First {
		t.Fatal("something was decided")
	}
}

func TestBrokenInvariantStops(t *testing.T) {
	r := fakeRig(t, &memoryLog{})
	if _, err := r.d.Submit(t.Context(), command(1, "panic"), false); err == nil {
		t.Fatal("no error")
	}
	r.wait("it to stop", func() bool { return r.d.Status().Stopped != nil })
}

func machineKey(t *testing.T) string {
	t.Helper()
	kp, err := nkeys.CreateUser()
	must(t, err)
	pub, err := kp.PublicKey()
	must(t, err)
	return pub
}

// TestSilenceAndReturn has a machine enrol, fall silent, and be heard again.
func TestSilenceAndReturn(t *testing.T) {
	r := newRig(t, &memoryLog{}, func(o *dispatch.Options) { o.Silence = 30 * time.Second }).active()
	m, boot := events.MachineID(id(1)), uuid.NewString()
	do := func(n int, actor, verb string, args any) {
		t.Helper()
		raw, err := json.Marshal(args)
		must(t, err)
		a := r.submit(commands.Command{Intent: id(n), Actor: actor, Kind: events.KindMachine, Verb: verb, Args: raw})
		if a.Outcome.Status != events.Accepted {
			t.Fatalf("%s: %+v", verb, a)
		}
	}
	const token = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	do(1, "admin", "add", commands.AddMachine{Name: "host1", MACs: []string{"52:54:00:00:00:01"}, Roles: []string{events.RoleHost}})
	do(2, commands.ActorNetboot, "report_boot_served", commands.BootServed{Machine: m, TokenSHA256: token, MAC: "52:54:00:00:00:01", Image: "1"})
	do(3, commands.MachineActor(m), "enrol", events.Enrol{Machine: m, TokenSHA256: token, Boot: boot, Key: machineKey(t), Image: "1",
		Inventory: events.Inventory{CPUs: 2, MemoryMiB: 2048, NICs: []events.NIC{{Name: "eth0", MAC: "52:54:00:00:00:01"}},
			Capacity: &events.Capacity{AllocatableMiB: 1024, PCPUs: 2, XenVersion: "4.17", Types: []string{"pv"}}}})
	var silent atomic.Bool
	look := func() bool {
		r.d.View(func(c dispatch.Core) {
			x, _ := c.(*commands.State).Machine(m)
			silent.Store(x.Silent)
		})
		return silent.Load()
	}
	r.wait("a first look", func() bool { r.now.Add(int64(time.Second)); return look() })
	r.wait("its return", func() bool { r.now.Add(int64(time.Second)); r.d.Heard(m); return !look() })
	must(t, r.d.Wait(t.Context(), 7))
	got := verbsOf(r.check())
	if !strings.HasSuffix(got, "report_silent report_returned") {
		t.Fatalf("decisions: %s", got)
	}
}

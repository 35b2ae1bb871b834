package proxy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/dm"
	"cloudengine/workers/md"
	"cloudengine/workers/proxy"
)

func fresh(a *desired.Array) { a.Create = true }

func volume(id events.VolumeID, want string, segments ...events.Segment) func(*desired.Array) {
	return func(a *desired.Array) {
		a.Volumes = append(a.Volumes, desired.Volume{Volume: id, Segments: segments, Want: want})
	}
}

func TestFromCreationToItsEnd(t *testing.T) {
	e := newEngine(newWorld(2, 2))
	e.say(e.doc(desired.Standby, 1))
	r := e.want(t, events.ArrayStandby)
	if x := e.w.exports[arrayID]; x.State != proxy.ExportStandby || len(x.To) != 1 || x.To[0] != "i-h1" || x.Device != "/dev/mapper/ce-"+string(arrayID) {
		t.Fatalf("the export of a standby: %+v", x)
	}
	if len(e.w.sessions) > 0 || r.Made {
		t.Fatalf("a standby touches legs: %v, %+v", e.w.sessions, r)
	}
	e.say(e.doc(desired.Active, 1, fresh, volume("v1", desired.There, events.Segment{Start: 0, Count: 3}, events.Segment{Start: 9, Count: 2})))
	r = e.want(t, events.ArrayActive)
	if !r.Made || r.Degraded != 0 || len(r.Legs) != 4 || r.Legs[3] != events.LegInSync || r.Events == 0 || len(r.Ready) != 1 || r.Message != "" {
		t.Fatalf("report %+v", r)
	}
	if d := strings.Join(e.w.data[arrayID], " "); d != "0 0 0 old old old old old old 0 0 old old old old" {
		t.Fatalf("the extents: %s", d)
	}
	own := e.w.device("ce-own-" + string(arrayID))
	if front := e.w.device("ce-" + string(arrayID)); front.Table[0] != dm.Linear(0, sectors, own.Number(), 0) || own.UUID != "CE-own-"+string(arrayID)+"-1.1" {
		t.Fatalf("front %+v over %+v", front, own)
	}
	e.w.data[arrayID][0] = "customer"
	e.say(e.doc(desired.Standby, 1))
	before := len(e.w.calls)
	e.want(t, events.ArrayStandby)
	want := []string{"state standby", "dm reload ce-" + string(arrayID), "dm remove ce-own-" + string(arrayID), "stop",
		"reserve sd00 0", "reserve sd01 0", "reserve sd02 0", "reserve sd03 0", "logout node0", "logout node1"}
	if got := e.w.calls[before:]; !slices.Equal(got, want) {
		t.Fatalf("given up by %q", got)
	}
	if r.Events > e.w.disks[0].super.Events {
		t.Fatal("the event count that was told is not a lower bound")
	}
	e.say(e.doc(desired.Active, 2, volume("v1", desired.Absent, events.Segment{Start: 0, Count: 3}, events.Segment{Start: 9, Count: 2})))
	if r = e.want(t, events.ArrayActive); len(r.Wiped) != 1 || e.w.data[arrayID][0] != "0" {
		t.Fatalf("wiped: %+v, %v", r, e.w.data[arrayID])
	}
	e.say(e.doc(desired.Absent, 2))
	e.want(t, events.ArrayAbsent)
	if len(e.w.devices) > 0 || len(e.w.exports) > 0 || len(e.w.arrays) > 0 {
		t.Fatalf("left: %+v %+v %+v", e.w.devices, e.w.exports, e.w.arrays)
	}
}

// TestAnotherEpoch: an array that runs under the epoch of a former grant is brought up anew: another owner may have been there.
func TestAnotherEpoch(t *testing.T) {
	e := newEngine(newWorld(2, 1))
	e.say(e.doc(desired.Active, 1, fresh))
	e.want(t, events.ArrayActive)
	before := len(e.w.calls)
	e.say(e.doc(desired.Active, 3))
	e.want(t, events.ArrayActive)
	got := strings.Join(e.w.calls[before:], ", ")
	if !strings.HasPrefix(got, "state unavailable, dm reload") || !strings.Contains(got, "stop, ") || !strings.Contains(got, "assemble, dm create ce-own-") {
		t.Fatalf("calls %s", got)
	}
	if own := e.w.device("ce-own-" + string(arrayID)); own.UUID != "CE-own-"+string(arrayID)+"-1.3" {
		t.Fatalf("own %+v", own)
	}
}

func TestLegsThatAreLate(t *testing.T) {
	e := newEngine(newWorld(2, 1))
	e.say(e.doc(desired.Active, 1, fresh))
	e.want(t, events.ArrayActive)
	e.say(e.doc(desired.Standby, 1))
	e.want(t, events.ArrayStandby)
	e.w.disks[1].there = false
	e.say(e.doc(desired.Active, 2))
	for range 4 {
		_, _ = e.pass() // the login fails
	}
	if r := e.last[arrayID]; r.State != events.ArrayWaiting || !strings.Contains(r.Message, "leg 1 on node1 is not there") {
		t.Fatalf("report %+v", r)
	}
	e.clock.now = e.clock.now.Add(10 * time.Second)
	for range 4 {
		_, _ = e.pass()
	}
	if r := e.last[arrayID]; r.State != events.ArrayActive || r.Degraded != 1 || r.Legs[1] != events.LegMissing {
		t.Fatalf("report %+v", r)
	}
	e.w.disks[1].there = true
	if r := e.want(t, events.ArrayActive); r.Degraded != 0 {
		t.Fatalf("the leg is back: %+v", r)
	}
}

// TestBroken: an owner that has lost all copies of a set is unavailable by itself at once, and comes back when they do.
func TestBroken(t *testing.T) {
	e := newEngine(newWorld(2, 1))
	e.say(e.doc(desired.Active, 1, fresh))
	e.want(t, events.ArrayActive)
	for _, d := range e.w.disks {
		d.there = false
	}
	_, _ = e.pass()
	if r := e.last[arrayID]; r.State != events.ArrayBroken || e.w.exports[arrayID].State != proxy.ExportUnavailable || len(e.w.arrays) > 0 {
		t.Fatalf("report %+v, export %+v", r, e.w.exports)
	}
	for _, d := range e.w.disks {
		d.there = true
	}
	e.want(t, events.ArrayActive)
}

// TestCountReadAfterAFill: a member is filled, and written to, between the look at md's state, which lacks it, and the look at superblocks. When
// the array becomes clean then, md takes one event back: an array whose log knew a higher count would never be assembled again.
func TestCountReadAfterAFill(t *testing.T) {
	e := newEngine(newWorld(2, 1))
	e.say(e.doc(desired.Active, 1, fresh))
	e.want(t, events.ArrayActive)
	a := &e.w.arrays[0]
	a.Members[0].States = []string{"spare"}
	e.w.update(a)
	e.w.between = func() {
		a.Members[0].States = []string{"in_sync"}
		e.w.update(a)
		e.w.update(a)
	}
	if _, err := e.pass(); err != nil || e.w.between != nil || e.last[arrayID].Degraded != 1 {
		t.Fatalf("%v; report %+v", err, e.last[arrayID])
	}
	for _, d := range e.w.disks {
		d.super.Events--
	}
	if told, have := e.last[arrayID].Events, e.w.disks[0].super.Events; told == 0 || told > have {
		t.Fatalf("event count %d was told, and md has %d now", told, have)
	}
}

// TestOlderLegAfterALoss: the legs that missed writes are not assembled alone, even under a document of before.
func TestOlderLegAfterALoss(t *testing.T) {
	e := newEngine(newWorld(2, 1))
	e.say(e.doc(desired.Active, 1, fresh))
	e.want(t, events.ArrayActive)
	e.w.disks[0].there = false
	for range 4 {
		_, _ = e.pass()
	}
	if r := e.last[arrayID]; r.Degraded != 1 || r.Events <= e.w.disks[0].super.Events {
		t.Fatalf("told with the loss: %+v, the lost leg has event count %d", r, e.w.disks[0].super.Events)
	}
	e.w.disks[0].there, e.w.disks[1].there = true, false
	for range 10 {
		_, _ = e.pass()
		e.clock.now = e.clock.now.Add(5 * time.Second)
	}
	if r := e.last[arrayID]; r.State != events.ArrayWaiting || !strings.Contains(r.Message, "was seen") {
		t.Fatalf("report %+v", r)
	}
	e.w.disks[1].there = true
	e.want(t, events.ArrayActive)
	e.check(t)
}

func TestWithoutADocument(t *testing.T) {
	for _, x := range []struct {
		name  string
		after time.Duration
		runs  bool
	}{{"a new term", 0, true}, {"nobody says it again", 15 * time.Second, false}} {
		e := newEngine(newWorld(2, 1))
		e.say(e.doc(desired.Active, 1, fresh))
		e.want(t, events.ArrayActive)
		e.term++
		e.offer(desired.KindTerm, "p1", desired.Term{Term: e.term})
		_, _ = e.pass()
		if r := e.last[arrayID]; r.State != events.ArrayWaiting || r.Generation != (events.Generation{}) || len(e.w.arrays) != 1 {
			t.Fatalf("%s: report %+v", x.name, r)
		}
		e.clock.now = e.clock.now.Add(x.after)
		_, _ = e.pass()
		if (len(e.w.arrays) == 1) != x.runs {
			t.Fatalf("%s: arrays %+v", x.name, e.w.arrays)
		}
		e.check(t)
	}
}

// TestAutoAssembled: an array that nobody here has assembled is stopped at once, whatever the document says.
func TestAutoAssembled(t *testing.T) {
	for _, want := range []string{"", desired.Standby, desired.Absent, desired.Active, "none", "new"} {
		e := newEngine(newWorld(2, 1))
		e.say(e.doc(desired.Active, 1, fresh))
		e.want(t, events.ArrayActive)
		e.say(e.doc(desired.Standby, 1))
		e.want(t, events.ArrayStandby)
		e.w.sessions = map[proxy.Node]bool{e.w.disks[0].node: true, e.w.disks[1].node: true}
		if want == "none" {
			e.term++
			e.offer(desired.KindTerm, "p1", desired.Term{Term: e.term})
		} else {
			e.say(e.doc(want, 1))
		}
		rule := e.w.mayAssemble
		e.w.mayAssemble = func(string, []md.Candidate) string { return "" }
		if _, err := (arrays{e.w}).Assemble(t.Context(), md.Wanted{UUID: string(arrayID), RaidDisks: 2},
			[]md.Candidate{{Slot: 0, Dev: dev(e.w.disks[0].naa)}, {Slot: 1, Dev: dev(e.w.disks[1].naa)}}); err != nil {
			t.Fatal(err)
		}
		e.w.mayAssemble = rule
		before := len(e.w.calls)
		_, _ = e.pass()
		if len(e.w.calls) == before || e.w.calls[before] != "stop" {
			t.Fatalf("want %q: calls %q", want, e.w.calls[before:])
		}
		e.check(t)
	}
}

// TestNoOpinion: nothing changes.
func TestNoOpinion(t *testing.T) {
	e := newEngine(newWorld(2, 1))
	e.say(e.doc(desired.Active, 1, fresh))
	e.want(t, events.ArrayActive)
	before := len(e.w.calls)
	for _, want := range []string{"", "a wish of a later version"} {
		e.say(desired.Array{Array: arrayID, Name: "gold", Want: want})
		for range 5 {
			if _, err := e.pass(); err != nil {
				t.Fatal(err)
			}
			e.clock.now = e.clock.now.Add(time.Minute)
		}
	}
	if len(e.w.calls) != before || len(e.last) > 0 {
		t.Fatalf("calls %q, reports %+v", e.w.calls[before:], e.last)
	}
}

func TestForeignLeg(t *testing.T) {
	e := newEngine(newWorld(2, 1))
	e.say(e.doc(desired.Active, 1, fresh))
	e.want(t, events.ArrayActive)
	e.say(e.doc(desired.Standby, 1))
	e.want(t, events.ArrayStandby)
	e.w.disks[0].super = &md.Super{UUID: "ff112233-4455-6677-8899-aabbccddeeff"}
	e.say(e.doc(desired.Active, 2))
	r := e.want(t, events.ArrayActive)
	if r.Degraded != 1 || !strings.Contains(r.Message, "another array") {
		t.Fatalf("report %+v", r)
	}
}

// TestVolumesThatAreRefused: nothing is zeroed that may be another's.
func TestVolumesThatAreRefused(t *testing.T) {
	seg := func(start, count int) events.Segment { return events.Segment{Start: start, Count: count} }
	for _, x := range []struct {
		name    string
		volumes []func(*desired.Array)
		message string
	}{
		{"beyond the end", []func(*desired.Array){volume("v2", desired.There, seg(14, 2))}, "none of this array"},
		{"twice", []func(*desired.Array){volume("v2", desired.There, seg(4, 2), seg(5, 2))}, "twice"},
		{"recorded for another", []func(*desired.Array){volume("v2", desired.There, seg(2, 2))}, "the records give its extents to v1"},
		{"told for another", []func(*desired.Array){volume("v2", desired.There, seg(4, 2)), volume("v3", desired.There, seg(5, 2))}, "to v3 too"},
		{"another record", []func(*desired.Array){volume("v1", desired.Absent, seg(1, 3))}, "other extents"},
	} {
		e := newEngine(newWorld(2, 1))
		e.say(e.doc(desired.Active, 1, fresh, volume("v1", desired.There, seg(0, 3))))
		e.want(t, events.ArrayActive)
		e.w.mayZero = func(events.ArrayID, int) string { return "it must not be" }
		e.say(e.doc(desired.Active, 1, x.volumes...))
		if r := e.want(t, events.ArrayActive); !strings.Contains(r.Message, x.message) || slices.Contains(r.Ready, "v2") || len(r.Wiped) > 0 {
			t.Errorf("%s: report %+v", x.name, r)
		}
	}
}

// TestKeep: what was ready once is not zeroed again, though its record is gone; what grew is.
func TestKeep(t *testing.T) {
	e := newEngine(newWorld(2, 1))
	e.say(e.doc(desired.Active, 1, fresh, volume("v1", desired.There, events.Segment{Start: 0, Count: 3})))
	e.want(t, events.ArrayActive)
	delete(e.w.records[arrayID].Volumes, "v1")
	e.w.mayZero = func(_ events.ArrayID, extent int) string {
		if extent < 3 {
			return "it holds data"
		}
		return ""
	}
	e.restart()
	e.say(e.doc(desired.Active, 1, func(a *desired.Array) {
		a.Volumes = []desired.Volume{{Volume: "v1", Segments: []events.Segment{{Start: 0, Count: 3}, {Start: 6, Count: 1}}, Keep: 3, Want: desired.There}}
	}))
	if r := e.want(t, events.ArrayActive); len(r.Ready) != 1 || e.w.data[arrayID][6] != "0" {
		t.Fatalf("report %+v, data %v", r, e.w.data[arrayID])
	}
}

// TestSource: without a way to fetch it, a volume that is made from an image is not ready, and the others are.
func TestSource(t *testing.T) {
	e := newEngine(newWorld(2, 1))
	e.say(e.doc(desired.Active, 1, fresh, func(a *desired.Array) {
		a.Volumes = []desired.Volume{{Volume: "v1", Segments: []events.Segment{{Start: 0, Count: 3}}, Source: events.Blob{SHA256: "x", Size: 5}, Want: desired.There}}
	}, volume("v2", desired.There, events.Segment{Start: 5, Count: 1})))
	if r := e.want(t, events.ArrayActive); len(r.Ready) != 1 || r.Ready[0] != "v2" || !strings.Contains(r.Message, "cannot be fetched") {
		t.Fatalf("report %+v", r)
	}
}

// TestABusyArrayIsNotToldAsGivenUp: its steps may still assemble it.
func TestABusyArrayIsNotToldAsGivenUp(t *testing.T) {
	e := newEngine(newWorld(2, 1))
	e.say(e.doc(desired.Standby, 1))
	e.want(t, events.ArrayStandby)
	seen, err := e.worker.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	busy := map[events.Ref]bool{{Kind: desired.KindArray, ID: string(arrayID)}: true}
	if r := e.worker.Report(e.wishes.All(), seen, busy); len(r.Arrays) != 0 {
		t.Fatalf("report %+v", r)
	}
}

// TestKilledAnywhere dies before and after every call from nothing to active, and from there to standby.
func TestKilledAnywhere(t *testing.T) {
	run := func(killAt int, after bool) (calls int) {
		e := newEngine(newWorld(2, 2))
		e.w.killIn, e.w.after = killAt, after
		e.say(e.doc(desired.Active, 1, fresh, volume("v1", desired.There, events.Segment{Start: 0, Count: 3}, events.Segment{Start: 9, Count: 2})))
		r := e.want(t, events.ArrayActive)
		if len(r.Ready) != 1 || r.Degraded != 0 {
			t.Fatalf("killed at %d: %+v", killAt, r)
		}
		e.say(e.doc(desired.Standby, 1))
		e.want(t, events.ArrayStandby)
		return len(e.w.calls)
	}
	n := run(0, false)
	for at := 1; at <= n; at++ {
		run(at, false)
		run(at, true)
	}
}

// TestFailingCalls: a call that fails for some time delays, and nothing else.
func TestFailingCalls(t *testing.T) {
	for _, call := range []string{"state", "dm reload", "dm remove ce-own", "stop", "assemble", "dm create ce-own", "record", "export", "extend", "zero"} {
		e := newEngine(newWorld(2, 1))
		left := 3
		e.w.fail = func(c string) error {
			if strings.HasPrefix(c, call) && left > 0 {
				left--
				return unix.EBUSY
			}
			return nil
		}
		e.say(e.doc(desired.Active, 1, fresh, volume("v1", desired.There, events.Segment{Start: 0, Count: 3})))
		e.want(t, events.ArrayActive)
		e.say(e.doc(desired.Standby, 1))
		e.want(t, events.ArrayStandby)
		e.say(e.doc(desired.Active, 2))
		e.want(t, events.ArrayActive)
		if left == 3 {
			t.Errorf("%s was not called", call)
		}
	}
}

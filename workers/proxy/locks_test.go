package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/proxy"
	"cloudengine/workers/reserve"
)

// takes lets another proxy, which is admitted everywhere, reserve a disk for an epoch.
func (w *world) takes(d *disk, who string, epoch uint64) error {
	k, err := reserve.KeyOf(arrayID, events.Epoch{Term: 1, Counter: epoch}, "boot of "+who)
	if err != nil {
		return err
	}
	return reserve.Take(context.Background(), d.unit.At(who), k)
}

// formerOwner is a proxy that had the array under an earlier epoch and does not know that it is over: it takes what it can get, and writes. Where the
// owner holds the reservation it gets nothing.
func (w *world) formerOwner(now uint64) {
	if now < 2 {
		return
	}
	for _, d := range w.disks {
		ours := d.unit.Holder == us && d.unit.Seen().Holder.Epoch().Counter >= now
		err := w.takes(d, "p0", now-1)
		if ours && (err == nil || d.unit.May("p0")) {
			w.complain("the owner before gets %s, which epoch %d has reserved: %+v", d.naa, now, d.unit)
		}
	}
}

// TestSecondWriter: another proxy is admitted to every leg, as if its access had never been taken away. It can write none, nor take one under an
// earlier epoch, and the owner does not notice.
func TestSecondWriter(t *testing.T) {
	e := newEngine(newWorld(2, 2))
	e.say(e.doc(desired.Active, 1, fresh))
	e.want(t, events.ArrayActive)
	e.say(e.doc(desired.Active, 3))
	e.want(t, events.ArrayActive)
	for _, d := range e.w.disks {
		if err := e.w.takes(d, "p0", 2); !errors.Is(err, reserve.ErrNewer) || d.unit.May("p0") || len(d.unit.Keys) != 1 {
			t.Fatalf("the second writer gets %s: %v, %+v", d.naa, err, d.unit)
		}
	}
	before := len(e.w.calls)
	if r := e.want(t, events.ArrayActive); r.Degraded != 0 || len(e.w.calls) != before {
		t.Fatalf("report %+v, calls %q", r, e.w.calls[before:])
	}
	// it registers, without taking anything: its key is removed, and nobody who is served waits
	low, err := reserve.KeyOf(arrayID, events.Epoch{Term: 1, Counter: 2}, "boot of p0")
	if err != nil {
		t.Fatal(err)
	}
	u := e.w.disks[1].unit
	if err := u.Do("p0", reserve.Out{Action: reserve.RegisterAndIgnore, Other: low}); err != nil {
		t.Fatal(err)
	}
	if r := e.want(t, events.ArrayActive); r.Degraded != 0 || len(u.Keys) != 1 {
		t.Fatalf("report %+v, %+v", r, u)
	}
	for _, c := range e.w.calls[before:] {
		if !strings.HasPrefix(c, "reserve sd01") {
			t.Fatalf("calls %q", e.w.calls[before:])
		}
	}
}

// TestRobbed: a later owner, or somebody else, takes one leg. The array is unavailable at once, nothing is assembled again, and the lock is not taken
// back; when this proxy is the later one, it is.
func TestRobbed(t *testing.T) {
	for name, rob := range map[string]func(*engine, *disk) error{
		"a later owner": func(e *engine, d *disk) error { return e.w.takes(d, "p2", 2) },
		"somebody else": func(_ *engine, d *disk) error { return foreign(d) },
		"an earlier owner, after the target began anew": func(e *engine, d *disk) error {
			d.unit.Restart()
			return e.w.takes(d, "p2", 1)
		},
	} {
		e := newEngine(newWorld(2, 2))
		e.say(e.doc(desired.Active, 1, fresh))
		e.want(t, events.ArrayActive)
		d := e.w.disks[2]
		if err := rob(e, d); err != nil {
			t.Fatal(err)
		}
		_, _ = e.pass()
		if r := e.last[arrayID]; r.State != events.ArrayBroken || e.w.exports[arrayID].State != proxy.ExportUnavailable || len(e.w.arrays) > 0 ||
			!strings.Contains(r.Message, "leg 2 on node0") {
			t.Fatalf("%s: report %+v, exports %+v", name, r, e.w.exports)
		}
		for range 8 {
			_, _ = e.pass()
			e.clock.now = e.clock.now.Add(3 * time.Second)
		}
		if name == "a later owner" && len(e.w.arrays) > 0 || d.unit.Holder != "p2" {
			t.Fatalf("%s: %+v, arrays %+v", name, d.unit, e.w.arrays)
		}
		if r := e.last[arrayID]; r.Legs[2] != events.LegReserved {
			t.Fatalf("%s: report %+v", name, r)
		}
		e.check(t)
		e.say(e.doc(desired.Standby, 2))
		e.want(t, events.ArrayStandby)
		e.say(e.doc(desired.Active, 3))
		if r := e.want(t, events.ArrayActive); name != "somebody else" && (d.unit.Holder != us || len(d.unit.Keys) != 1 || r.Degraded != 0) {
			t.Fatalf("%s: report %+v, %+v", name, r, d.unit)
		}
		e.check(t)
	}
}

// TestRobbedWithoutADocument: an array that waits for the documents of a new term is given up when another owner has it.
func TestRobbedWithoutADocument(t *testing.T) {
	for _, none := range []bool{true, false} {
		e := newEngine(newWorld(2, 1))
		e.say(e.doc(desired.Active, 1, fresh))
		e.want(t, events.ArrayActive)
		if none {
			e.term++
			e.offer(desired.KindTerm, "p1", desired.Term{Term: e.term})
		} else {
			e.say(desired.Array{Array: arrayID, Want: "a wish of a later version"})
		}
		if _, err := e.pass(); err != nil || len(e.w.arrays) != 1 {
			t.Fatal(err, e.w.arrays)
		}
		if err := e.w.takes(e.w.disks[0], "p2", 2); err != nil {
			t.Fatal(err)
		}
		_, _ = e.pass()
		if len(e.w.arrays) > 0 || e.w.exports[arrayID].State != proxy.ExportUnavailable {
			t.Fatalf("arrays %+v, exports %+v", e.w.arrays, e.w.exports)
		}
		e.check(t)
	}
}

// foreign lets somebody who is none of ours reserve a disk.
func foreign(d *disk) error {
	for n := range d.unit.Keys {
		delete(d.unit.Keys, n)
	}
	d.unit.Holder = ""
	return errors.Join(d.unit.Do("p2", reserve.Out{Action: reserve.RegisterAndIgnore, Other: 77}),
		d.unit.Do("p2", reserve.Out{Action: reserve.Reserve, Key: 77, Type: reserve.ExclusiveAccess}))
}

// TestRobbedBesideTheLoop: the export becomes unavailable though the loop does not come to look.
func TestRobbedBesideTheLoop(t *testing.T) {
	e := running(t)
	l := locked{arrays{e.w}, target{e.w}, &sync.Mutex{}}
	for _, d := range e.w.disks {
		if err := e.w.takes(d, "p2", 9); err != nil {
			t.Fatal(err)
		}
	}
	woken := make(chan struct{}, 100)
	w := &proxy.Worker{Boot: boot, Root: t.TempDir(), Initiator: e.w, Target: lockedTarget{l}, Arrays: lockedArrays{l}, Mapper: mapper{e.w},
		Records: records{e.w}, Blocks: blocks{e.w}, Wake: func() { woken <- struct{}{} }}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, time.Hour) }()
	for end := time.After(10 * time.Second); ; {
		l.mu.Lock()
		state := e.w.exports[arrayID].State
		l.mu.Unlock()
		if state == proxy.ExportUnavailable {
			break
		}
		select {
		case <-woken:
		case <-end:
			t.Fatalf("the export is %s", state)
		}
	}
	cancel()
	<-ended
}

// TestTargetBeginsAnew: what a storage node had reserved is forgotten. Its legs leave the array, are reserved, and come back; if no other copy is
// reserved, the array is given up for as long as that takes.
func TestTargetBeginsAnew(t *testing.T) {
	for _, nodes := range []int{1, 2} {
		e := newEngine(newWorld(2, 2))
		e.say(e.doc(desired.Active, 1, fresh))
		e.want(t, events.ArrayActive)
		for i, d := range e.w.disks {
			if i%2 < nodes {
				d.unit.Restart()
			}
		}
		before := len(e.w.calls)
		if r := e.want(t, events.ArrayActive); r.Degraded != 0 || r.Message != "" {
			t.Fatalf("report %+v", r)
		}
		calls := strings.Join(e.w.calls[before:], ", ")
		if given := strings.Contains(calls, "state unavailable"); given != (nodes == 2) || nodes == 1 && !strings.Contains(calls, "fail sd02") {
			t.Fatalf("%d nodes: calls %s", nodes, calls)
		}
		for _, d := range e.w.disks {
			if why := e.locked(d); why != "" {
				t.Fatal(why)
			}
		}
		e.check(t)
	}
}

// TestNoReservations: a leg that cannot be reserved is not used, and told.
func TestNoReservations(t *testing.T) {
	e := newEngine(newWorld(2, 1))
	e.say(e.doc(desired.Active, 1, fresh))
	e.want(t, events.ArrayActive)
	e.say(e.doc(desired.Standby, 1))
	e.want(t, events.ArrayStandby)
	e.w.disks[1].unit.None = true
	e.say(e.doc(desired.Active, 2))
	for range 16 {
		_, _ = e.pass()
		e.clock.now = e.clock.now.Add(time.Second)
	}
	r := e.last[arrayID]
	if r.State != events.ArrayActive || r.Degraded != 1 || r.Legs[1] != events.LegNoReservations || !strings.Contains(r.Message, "leg 1 on node1: it has no persistent reservations") {
		t.Fatalf("report %+v", r)
	}
	e.check(t)
	e = newEngine(newWorld(2, 1))
	e.w.disks[1].unit.None = true
	e.say(e.doc(desired.Active, 1, fresh))
	for range 16 {
		_, _ = e.pass()
		e.clock.now = e.clock.now.Add(3 * time.Second)
	}
	if r := e.last[arrayID]; r.State != events.ArrayWaiting || r.Made || r.Legs[1] != events.LegNoReservations || e.w.disks[0].super != nil {
		t.Fatalf("report %+v", r)
	}
	e.check(t)
}

// TestReservingFails: a leg that refuses to be reserved keeps the others from the array for as long as one that is late.
func TestReservingFails(t *testing.T) {
	e := newEngine(newWorld(2, 1))
	e.say(e.doc(desired.Active, 1, fresh))
	e.want(t, events.ArrayActive)
	e.say(e.doc(desired.Standby, 1))
	e.want(t, events.ArrayStandby)
	e.w.fail = func(call string) error {
		if strings.HasPrefix(call, "reserve sd01") {
			return errors.New("not ready")
		}
		return nil
	}
	e.say(e.doc(desired.Active, 2))
	for i := range 16 {
		if r := e.last[arrayID]; i < 9 && r.State == events.ArrayActive {
			t.Fatalf("after %d s: report %+v", i, r)
		}
		_, _ = e.pass()
		e.clock.now = e.clock.now.Add(time.Second)
	}
	if r := e.last[arrayID]; r.State != events.ArrayActive || r.Degraded != 1 || !strings.Contains(r.Message, "not ready") {
		t.Fatalf("report %+v", r)
	}
	e.w.fail = nil
	if r := e.want(t, events.ArrayActive); r.Degraded != 0 {
		t.Fatalf("report %+v", r)
	}
	e.check(t)
}

// TestKilledWhileReserving: the agent dies before or after each call of a takeover from an owner that left its keys, and the next one ends it.
func TestKilledWhileReserving(t *testing.T) {
	for at, after := 1, false; ; {
		e := newEngine(newWorld(2, 1))
		e.say(e.doc(desired.Active, 1, fresh))
		e.want(t, events.ArrayActive)
		e.say(e.doc(desired.Standby, 1))
		e.want(t, events.ArrayStandby)
		for _, d := range e.w.disks {
			if err := e.w.takes(d, "p2", 2); err != nil {
				t.Fatal(err)
			}
		}
		e.say(e.doc(desired.Active, 3))
		e.w.killIn, e.w.after = at, after
		if r := e.want(t, events.ArrayActive); r.Degraded != 0 {
			t.Fatalf("killed at call %d: report %+v", at, r)
		}
		e.check(t)
		survived := e.w.killIn > 0
		e.say(e.doc(desired.Standby, 3))
		e.w.killIn = at
		e.want(t, events.ArrayStandby)
		for _, d := range e.w.disks {
			if len(d.unit.Keys) > 0 {
				t.Fatalf("killed at call %d: it keeps %+v", at, d.unit)
			}
		}
		e.check(t)
		if survived && after {
			return
		}
		if after {
			at++
		}
		after = !after
	}
}

// TestDropsNoMember: a reservation was to be taken back, and the disk has come into md since then, under the same epoch: it stays reserved.
func TestDropsNoMember(t *testing.T) {
	e := newEngine(newWorld(2, 2))
	e.say(e.doc(desired.Active, 1, fresh))
	e.want(t, events.ArrayActive)
	d := e.w.disks[0]
	s := workers.Step{Kind: "unlock", Target: d.naa, Params: map[string]string{"dev": dev(d.naa), "naa": d.naa, "key": fmt.Sprintf("%x", uint64(d.unit.Seen().Holder))}}
	if err := e.worker.Apply(t.Context(), s); err == nil || d.unit.Holder != us {
		t.Fatalf("a member's reservation was taken back: %v, %+v", err, d.unit)
	}
	e.check(t)
}

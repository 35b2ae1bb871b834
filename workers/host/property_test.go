package host_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/host"
	"cloudengine/workers/workertest"
)

// history draws the documents that a control plane could have rendered for one VM on one boot: generations rise, epochs never fall,
// and a grant that was told to end never runs again: only the next epoch does.
func history(t *rapid.T, vm events.VMID, first uint64) []desired.Document {
	var docs []desired.Document
	epoch, restarts, ending, resizes := uint64(1), 0, false, 0
	for i := range rapid.IntRange(1, 7).Draw(t, "documents") {
		d := wish(vm, rapid.SampledFrom([]string{desired.Running, desired.Running, desired.Paused, desired.Absent, desired.Shutdown}).Draw(t, "want"), 0)
		ends := d.Want == desired.Absent || d.Want == desired.Shutdown
		switch what := rapid.IntRange(0, 3).Draw(t, "what"); {
		case what == 0 || ending && !ends:
			epoch, restarts = epoch+1, 0
		case what == 1:
			restarts++
		}
		ending = ends
		if rapid.Bool().Draw(t, "resize") {
			resizes++
		}
		d.Epoch.Counter, d.Restarts, d.Resizes, d.MemoryMiB = epoch, restarts, resizes, 64+resizes%3*64
		if vm == vm2 {
			d.Type = events.TypeHVM
			d.Disks = []desired.Disk{diskOf("xvda", vol1, 2)}
			d.Disks[0].Limits.WriteBPS = rapid.SampledFrom([]int64{0, 1 << 20, 2 << 20}).Draw(t, "limit")
		}
		docs = append(docs, vmDoc(first+uint64(i), d))
	}
	return docs
}

// TestAnyDeliveryEndsAsTheNewestDocumentSays: every document twice, in any order, with deaths of the agent, failing calls and guests
// that reboot in between. No VM ever runs twice, and in the end there is one domain or none, as the highest generation says.
func TestAnyDeliveryEndsAsTheNewestDocumentSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		newest := map[events.VMID]desired.Document{}
		var all []desired.Document
		for i, vm := range []events.VMID{vm1, vm2} {
			docs := history(t, vm, uint64(1+100*i))
			newest[vm] = docs[len(docs)-1]
			all = append(append(all, docs...), docs...)
		}
		e := newEngine(workertest.NewHost(2048))
		order := make([]int, len(all))
		for i := range order {
			order[i] = i
		}
		for _, i := range rapid.Permutation(order).Draw(t, "order") {
			e.wishes.Take(all[i])
			disturb(t, e)
		}
		e.h.Revive()
		e.h.Fail = nil
		e.h.SetDevice(vol1, true)
		e.mustSettle(t)
		for _, disks := range e.h.DisksOf(vm2) {
			if len(disks) != 1 {
				t.Fatalf("a domain runs without its disk: %v", disks)
			}
		}
		if d, err := newest[vm2].Domain(); err == nil && d.Want == desired.Running {
			if got := e.h.LimitsOf(vol1); got != d.Disks[0].Limits {
				t.Fatalf("its disk has limits %+v, want %+v", got, d.Disks[0].Limits)
			}
		}
		for vm, d := range newest {
			checkNewest(t, e, vm, d)
		}
	})
}

// disturb lets a few things happen between two documents.
func disturb(t *rapid.T, e *engine) {
	e.h.Fail = nil
	switch rapid.IntRange(0, 6).Draw(t, "then") {
	case 0:
		return // the next document comes at once
	case 1:
		e.h.Guest(string(vm1), "reboot")
	case 2:
		e.h.KillAt(workertest.Kill{At: rapid.IntRange(1, 12).Draw(t, "at"), Where: workertest.Where(rapid.IntRange(0, 2).Draw(t, "where"))})
	case 3:
		left := rapid.IntRange(0, 4).Draw(t, "left")
		e.h.Fail = func(string) error {
			if left--; left < 0 {
				return errors.New("injected")
			}
			return nil
		}
	case 4:
		e.restart()
	case 5:
		e.h.SetDevice(vol1, rapid.Bool().Draw(t, "device"))
	}
	for range rapid.IntRange(1, 6).Draw(t, "passes") {
		if _, err := e.pass(context.Background()); errors.Is(err, workertest.ErrKilled) {
			e.restart()
		}
	}
}

func checkNewest(t *rapid.T, e *engine, vm events.VMID, d desired.Document) {
	t.Helper()
	w, err := d.Domain()
	if err != nil {
		t.Fatalf("%v", err)
	}
	switch w.Want {
	case desired.Running:
		e.wantDomain(t, vm, events.DomainRunning, w.Epoch.Counter)
	case desired.Paused:
		e.wantDomain(t, vm, events.DomainPaused, w.Epoch.Counter)
	default:
		e.wantNone(t, vm)
		e.wantEnded(t, vm, w.Epoch.Counter, events.EndedDestroyed, events.EndedShutdown, events.EndedAbsent)
	}
}

// TestPlansTouchOnlyWhatIsOurs: whatever is seen and wanted, no step touches a domain that is neither this VM's by a stamp of this
// boot, nor an unstamped one with its UUID that never ran, nor named by an orphan document; and nothing is started beside a domain
// that may run the same VM.
func TestPlansTouchOnlyWhatIsOurs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seen := drawObserved(t)
		w := host.Wish{Domain: wish(vm1, rapid.SampledFrom([]string{desired.Running, desired.Paused, desired.Absent, desired.Shutdown}).Draw(t, "want"), 2),
			Generation: events.Generation{Term: 1, Number: 9}}
		stamps := map[int]host.Stamp{}
		for _, s := range seen.Stamps {
			stamps[s.DomID] = s
		}
		for _, p := range host.PlanDomains([]host.Wish{w}, nil, seen) {
			for _, s := range p.Steps {
				checkStep(t, s, seen, stamps)
			}
		}
	})
}

func checkStep(t *rapid.T, s workers.Step, seen host.Observed, stamps map[int]host.Stamp) {
	for _, d := range seen.Domains {
		st, stamped := stamps[d.DomID]
		stamped = stamped && st.UUID == d.UUID
		if s.Kind == "start" || s.Kind == "create" {
			mayRun := d.State == events.DomainRunning || d.State == events.DomainPaused && d.Ran
			if mayRun && (stamped && st.VM == vm1 || !stamped && d.UUID == string(vm1)) {
				t.Fatalf("%s beside %+v", s, d)
			}
			continue
		}
		if s.Target != strconv.Itoa(d.DomID) || s.Kind == "forget" {
			continue
		}
		ours := stamped && st.VM == vm1 || !stamped && d.UUID == string(vm1) && d.State == events.DomainPaused && !d.Ran
		if !ours {
			t.Fatalf("%s touches %+v", s, d)
		}
	}
}

func drawObserved(t *rapid.T) host.Observed {
	o := host.Observed{Boot: bootID}
	states := []string{events.DomainRunning, events.DomainPaused, events.DomainShutdown, events.DomainCrashed, events.DomainDying}
	uuids := []string{string(vm1), string(vm2), foreignUUID}
	for id := range rapid.IntRange(0, 4).Draw(t, "domains") {
		d := dom(id+1, rapid.SampledFrom(uuids).Draw(t, "uuid"), rapid.SampledFrom(states).Draw(t, "state"), "", rapid.Bool().Draw(t, "ran"))
		if d.State == events.DomainShutdown {
			d.ShutdownReason = rapid.SampledFrom([]string{"poweroff", "reboot"}).Draw(t, "reason")
		}
		o.Domains = append(o.Domains, d)
		if rapid.Bool().Draw(t, "stamped") {
			s := stampOf(d.DomID, d.UUID, rapid.SampledFrom([]events.VMID{vm1, vm2}).Draw(t, "vm"), uint64(rapid.IntRange(1, 3).Draw(t, "epoch")))
			if rapid.IntRange(0, 3).Draw(t, "boot") == 0 {
				s.Boot = "b0070000-0000-4000-8000-000000000000"
			}
			o.Stamps = append(o.Stamps, s)
		}
	}
	return o
}

package storage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/lio"
	"cloudengine/workers/storage"
)

// TestAnyHistory: any documents in any order, links that come and go, and kills. At each moment nobody has access whom neither the newest
// document of the disk names nor the time before it; a document of a lower epoch gives nothing; and in the end it is as the newest says.
func TestAnyHistory(t *testing.T) {
	root := machine(t, 2)
	rapid.Check(t, func(rt *rapid.T) {
		run, err := os.MkdirTemp(t.TempDir(), "run")
		if err != nil {
			rt.Fatalf("%v", err)
		}
		transport := rapid.SampledFrom([]string{lio.ISCSI, lio.SRP}).Draw(rt, "transport")
		r := newRig(root, run, transport)
		highest := map[string]events.Epoch{}
		for i := range rapid.IntRange(1, 8).Draw(rt, "changes") {
			before := reached(r)
			allowed := before
			switch serial := rapid.SampledFrom([]string{"d0", "d1"}).Draw(rt, "disk"); rapid.IntRange(0, 4).Draw(rt, "change") {
			case 0:
				r.links = nil
			case 1:
				r.links = []storage.Link{link(transport)}
			default:
				e := desired.Export{Epoch: epoch(rapid.Uint64Range(1, 4).Draw(rt, "epoch")),
					Want: rapid.SampledFrom([]string{desired.There, desired.There, desired.Absent, ""}).Draw(rt, "want")}
				to := rapid.SliceOfDistinct(rapid.SampledFrom([]events.MachineID{p1, p2}), rapid.ID[events.MachineID]).Draw(rt, "to")
				r.say(uint64(i), serial, e, to...)
			}
			for _, d := range r.docs {
				allowed = append(allowed, names(rt, d, transport, highest)...)
			}
			r.kernel.Each = guard(r, allowed, rapid.IntRange(0, 60).Draw(rt, "kill"))
			for range 4 {
				planned, err := r.pass(rt)
				if err != nil && !errors.Is(err, errKilled) {
					rt.Fatalf("apply: %v", err)
				}
				if !planned {
					break
				}
			}
			r.kernel.Each = nil
			noteEpochs(r, highest)
		}
		r.links = []storage.Link{link(transport)}
		r.settle(rt)
		checkNewest(rt, r)
	})
}

var errKilled = errors.New("killed")

func guard(r *rig, allowed []string, kill int) func(string, bool) error {
	calls := 0
	return func(change string, _ bool) error {
		if calls++; kill > 0 && calls > kill {
			return errKilled
		}
		for _, x := range reached(r) {
			if !slices.Contains(allowed, x) {
				return fmt.Errorf("%s: %s", change, x)
			}
		}
		return nil
	}
}

// reached lists who can reach what: initiator, device and serial.
func reached(r *rig) []string {
	var out []string
	for who, what := range r.kernel.Access() {
		for _, x := range what {
			out = append(out, who+" "+x)
		}
	}
	return out
}

// names lists what a document allows.
func names(t fataler, d desired.Document, transport string, highest map[string]events.Epoch) []string {
	t.Helper()
	var e desired.Export
	var to struct {
		To []struct {
			Machine events.MachineID `json:"machine"`
			MAC     string           `json:"mac"`
		} `json:"to"`
	}
	if json.Unmarshal(d.Body, &e) != nil || json.Unmarshal(d.Body, &to) != nil {
		t.Fatalf("document %s cannot be read", d.ID)
	}
	if e.Want != desired.There || e.Epoch.Compare(highest[d.ID]) < 0 {
		return nil
	}
	var out []string
	for _, p := range to.To {
		name, err := lio.Initiator(transport, p.Machine, p.MAC)
		if err != nil {
			t.Fatalf("%v", err)
		}
		device := map[string]string{"d0": "/dev/vda", "d1": "/dev/vdb"}[e.Serial]
		out = append(out, fmt.Sprintf("%s %s as %s lun_%d", name, device, e.UnitSerial, lio.LUN(e.UnitSerial)))
	}
	return out
}

// noteEpochs keeps the highest epoch that was remembered.
func noteEpochs(r *rig, highest map[string]events.Epoch) {
	o, err := r.worker.Observe(context.Background())
	if err != nil {
		return
	}
	for id, rec := range o.Records {
		highest[string(id)] = rec.Epoch
	}
}

func checkNewest(t fataler, r *rig) {
	t.Helper()
	for _, d := range r.docs {
		var e desired.Export
		if err := json.Unmarshal(d.Body, &e); err != nil {
			t.Fatalf("%v", err)
		}
		record := r.observe(t).Records[e.Disk]
		if e.Want == "" || e.Epoch.Compare(record.Epoch) < 0 {
			continue
		}
		var want []events.MachineID
		state := events.ExportAbsent
		if e.Want == desired.There {
			state = events.ExportThere
			for _, p := range e.To {
				want = append(want, p.Machine)
			}
			slices.Sort(want)
		}
		x, ok := r.export(t, e.Serial)
		if !ok || x.State != state || x.Epoch != e.Epoch || !slices.Equal(x.To, want) {
			t.Fatalf("export is %+v, wanted %+v", x, e)
		}
	}
}

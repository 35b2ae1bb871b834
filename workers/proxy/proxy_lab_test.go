//go:build lab

package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/dm"
	"cloudengine/workers/md"
	"cloudengine/workers/modprobe"
	"cloudengine/workers/proxy"
	"cloudengine/workers/reserve"
)

func TestMain(m *testing.M) {
	for _, name := range []string{"dm_mod", "md_mod", "raid10"} {
		if err := modprobe.Load(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// lab is a proxy whose storage nodes are the machine's own disks; only what needs a network is a model.
type lab struct {
	*testing.T
	*engine
}

// local is an Initiator that finds disks here.
type local struct {
	*world
	state map[string]string
}

func (l local) LUNs(ctx context.Context) ([]proxy.LUN, error) {
	out, err := l.world.LUNs(ctx)
	for i := range out {
		out[i].Dev = real[out[i].Dev]
		if s := l.state[out[i].Dev]; s != "" {
			out[i].State = s
		}
	}
	return out, err
}

// Reservation is the model's: virtio disks have none.
func (l local) Reservation(ctx context.Context, dev string) (reserve.Seen, error) {
	return l.world.Reservation(ctx, modelled(dev))
}

func (l local) Reserve(ctx context.Context, dev string, o reserve.Out) error {
	return l.world.Reserve(ctx, modelled(dev), o)
}

func modelled(dev string) string {
	for m, r := range real {
		if r == dev {
			return m
		}
	}
	return dev
}

// real maps the names of world's disks to the machine's.
var real = map[string]string{"sd00": "vda", "sd01": "vdb", "sd02": "vdc", "sd03": "vdd", "sd04": "vde"}

func newLab(t *testing.T) (*lab, local) {
	k := &md.Kernel{}
	devices, err := dm.List()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(devices, func(a, b dm.Device) int { return a.Open - b.Open })
	for _, d := range devices {
		if err := dm.Remove(d.Name); err != nil {
			t.Fatal(err)
		}
	}
	all, err := md.List("")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if err := k.Stop(t.Context(), a.Name); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range real {
		soil(t, "/dev/"+d)
	}
	w := newWorld(2, 2)
	e := newEngine(w)
	l := local{w, map[string]string{}}
	x := &lab{t, e}
	x.fresh(l)
	return x, l
}

// fresh is an agent that knows nothing.
func (x *lab) fresh(l local) {
	x.worker = &proxy.Worker{Boot: boot, Initiator: l, Target: labTarget{x.w}, Now: time.Now, Fetch: x.w.fetch,
		Name: func(_ string, p desired.Peer) (string, error) { return "i-" + string(p.Machine), nil }}
}

// labTarget exports nothing really, but insists on a block device.
type labTarget struct{ *world }

func (l labTarget) Set(_ context.Context, e proxy.Export) error {
	var st unix.Stat_t
	if err := unix.Stat(e.Device, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return fmt.Errorf("%s is no block device: %w", e.Device, err)
	}
	l.exports[e.Array] = e
	return nil
}

func (l labTarget) Remove(_ context.Context, id events.ArrayID) error {
	delete(l.exports, id)
	return nil
}

// soil leaves old data everywhere on a disk.
func soil(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 64 {
		if _, err := f.Write(bytes.Repeat([]byte("old data"), 1<<17)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// until passes until a report is as it should be.
func (x *lab) until(what string, f func(events.ArrayReport) bool) events.ArrayReport {
	x.Helper()
	began := time.Now()
	for {
		acted, err := x.look()
		if r, ok := x.last[arrayID]; ok && f(r) {
			x.Logf("%s: after %v", what, time.Since(began).Round(time.Millisecond))
			return r
		}
		if time.Since(began) > 90*time.Second {
			x.Fatalf("%s: not in time: %+v, %v", what, x.last, err)
		}
		if !acted || err != nil {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// look is one pass over the real kernel.
func (x *lab) look() (acted bool, err error) {
	seen, err := x.worker.Observe(x.Context())
	if err != nil {
		return false, err
	}
	docs := x.wishes.All()
	x.last = map[events.ArrayID]events.ArrayReport{}
	for _, r := range x.worker.Report(docs, seen, nil).Arrays {
		x.last[r.Array] = r
	}
	for _, p := range x.worker.Plan(docs, seen) {
		acted = true
		for _, s := range p.Steps {
			began := time.Now()
			if err = x.worker.Apply(x.Context(), s); err != nil {
				x.Logf("%s: %v", s, err)
				break
			}
			x.Logf("%s in %v", s.Kind, time.Since(began).Round(time.Millisecond))
		}
	}
	return acted, err
}

func (x *lab) state(state string) events.ArrayReport {
	x.Helper()
	return x.until(state, func(r events.ArrayReport) bool { return r.State == state })
}

func (x *lab) ready(n int) events.ArrayReport {
	x.Helper()
	return x.until("ready", func(r events.ArrayReport) bool {
		return r.State == events.ArrayActive && len(r.Ready) == n && r.Message == ""
	})
}

const v1ID events.VolumeID = "11111111-0000-4000-8000-000000000001"

var v1 = []events.Segment{{Start: 0, Count: 2}, {Start: 9, Count: 1}}

const front = "/dev/mapper/ce-" + string(arrayID)

func extentAt(n int) int64 { return (startMiB + int64(n)*extentMiB) << 20 }

func (x *lab) read(extent int) string {
	x.Helper()
	f, err := os.Open(front)
	if err != nil {
		x.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, extentMiB<<20)
	if _, err := f.ReadAt(b, extentAt(extent)); err != nil {
		return err.Error()
	}
	word := string(b[:8])
	for i := 0; i < len(b); i += 8 {
		if string(b[i:i+8]) != word {
			return "mixed"
		}
	}
	return strings.Trim(word, "\x00")
}

func (x *lab) write(extent int, word string) {
	x.Helper()
	f, err := os.OpenFile(front, os.O_WRONLY, 0)
	if err != nil {
		x.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte(fmt.Sprintf("%-8s", word)), extentMiB<<17), extentAt(extent)); err != nil {
		x.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		x.Fatal(err)
	}
}

func (x *lab) holds(want map[int]string) {
	x.Helper()
	for e, word := range want {
		if got := x.read(e); strings.TrimSpace(got) != word {
			x.Errorf("extent %d holds %q, want %q", e, got, word)
		}
	}
}

func TestRealProxy(t *testing.T) {
	x, l := newLab(t)
	x.say(x.doc(desired.Standby, 1))
	x.state(events.ArrayStandby)
	if got := x.read(0); !strings.Contains(got, "input/output error") {
		t.Errorf("a standby reads %q", got)
	}
	x.say(x.doc(desired.Active, 1, fresh, volume(v1ID, desired.There, v1...)))
	r := x.ready(1)
	if !r.Made || r.Degraded != 0 || r.Events == 0 {
		t.Errorf("report %+v", r)
	}
	x.holds(map[int]string{0: "", 1: "", 9: "", 2: "old data", 8: "old data", 10: "old data"})
	rec, err := proxy.LVM{}.Read(t.Context(), arrayID, "/dev/mapper/ce-own-"+string(arrayID))
	if err != nil || !rec.Found || rec.StartMiB != startMiB || rec.ExtentMiB != extentMiB || rec.Extents != extents ||
		!slices.Equal(rec.Volumes[v1ID], v1) {
		t.Errorf("records %+v, %v", rec, err)
	}
	x.recordsAgree()
	x.write(1, "customer")
	x.loss(l)
	x.handover(l)
	x.volumes()
	x.say(x.doc(desired.Absent, 2))
	x.state(events.ArrayAbsent)
	if all, err := dm.List(); err != nil || len(all) > 0 {
		t.Errorf("left: %+v, %v", all, err)
	}
}

// recordsAgree compares what is read of the records with what the program lvm tells.
func (x *lab) recordsAgree() {
	x.Helper()
	device := "/dev/mapper/ce-own-" + string(arrayID)
	ours, err1 := proxy.LVM{}.Read(x.Context(), arrayID, device)
	theirs, err2 := proxy.ReadByProgram(x.Context(), arrayID, device)
	if err1 != nil || err2 != nil || !proxy.SameRecord(ours, theirs) || !ours.Found {
		x.Errorf("records are %+v (%v), the program says %+v (%v)", ours, err1, theirs, err2)
	}
}

// loss: a leg does not answer, and comes back.
func (x *lab) loss(l local) {
	x.Helper()
	l.state["vda"] = "transport-offline"
	r := x.until("the loss", func(r events.ArrayReport) bool { return r.Degraded == 1 && r.Events > 0 })
	if r.Legs[0] != events.LegMissing && r.Legs[0] != events.LegFaulty || r.State != events.ArrayActive {
		x.Errorf("report %+v", r)
	}
	x.write(9, "degraded")
	if s, err := md.ReadSuper("/dev/vda"); err != nil || s.Events >= r.Events {
		x.Errorf("the lost leg has event count %d, told was %d: %v", s.Events, r.Events, err)
	}
	delete(l.state, "vda")
	x.until("the return", func(r events.ArrayReport) bool {
		return r.Degraded == 0 && r.Sync == "" && r.Legs[0] == events.LegInSync
	})
	x.holds(map[int]string{0: "", 1: "customer", 9: "degraded"})
}

// handover: another agent finds all as it is; the array is given up and taken again with half of its legs.
func (x *lab) handover(l local) {
	x.Helper()
	x.fresh(l)
	if acted, err := x.look(); acted || err != nil || x.last[arrayID].State != events.ArrayActive {
		x.Errorf("a new agent acts: %v, %v, %+v", acted, err, x.last)
	}
	x.say(x.doc(desired.Standby, 1))
	x.state(events.ArrayStandby)
	if all, err := md.List(""); err != nil || len(all) > 0 {
		x.Errorf("md still runs: %+v, %v", all, err)
	}
	if got := x.read(1); !strings.Contains(got, "input/output error") {
		x.Errorf("a standby reads %q", got)
	}
	l.state["vdb"], l.state["vdd"] = "transport-offline", "transport-offline"
	x.say(x.doc(desired.Active, 2, volume(v1ID, desired.There, v1...)))
	if r := x.state(events.ArrayActive); r.Degraded != 2 {
		x.Errorf("report %+v", r)
	}
	x.holds(map[int]string{0: "", 1: "customer", 9: "degraded"})
	clear(l.state)
	x.until("both legs", func(r events.ArrayReport) bool { return r.Degraded == 0 && r.Sync == "" })
}

// volumes: one grows, another is made and deleted.
func (x *lab) volumes() {
	x.Helper()
	grown := func(a *desired.Array) {
		a.Volumes = append(a.Volumes, desired.Volume{Volume: v1ID, Keep: 3, Want: desired.There,
			Segments: append(slices.Clone(v1), events.Segment{Start: 10, Count: 1}, events.Segment{Start: 4, Count: 2})})
	}
	const v2 = "22222222-0000-4000-8000-000000000002"
	x.say(x.doc(desired.Active, 2, grown, volume(v2, desired.There, events.Segment{Start: 12, Count: 2})))
	x.ready(2)
	x.recordsAgree()
	x.write(12, "secret")
	x.holds(map[int]string{0: "", 1: "customer", 9: "degraded", 10: "", 4: "", 5: "", 13: "", 6: "old data"})
	x.say(x.doc(desired.Active, 2, grown, volume(v2, desired.Absent, events.Segment{Start: 12, Count: 2})))
	x.until("wiped", func(r events.ArrayReport) bool { return slices.Contains(r.Wiped, events.VolumeID(v2)) })
	x.holds(map[int]string{12: "", 1: "customer", 14: "old data"})
	x.filled(grown)
}

// filled: a volume is made from an image, whose second half is zero.
func (x *lab) filled(others func(*desired.Array)) {
	x.Helper()
	image := append(bytes.Repeat([]byte("an image"), extentMiB<<17), make([]byte, extentMiB<<20)...)
	zip := packed(x, image)
	x.worker.Fetch = gives(zip)
	const v3 events.VolumeID = "33333333-0000-4000-8000-000000000003"
	x.say(x.doc(desired.Active, 2, others, func(a *desired.Array) {
		a.Volumes = append(a.Volumes, desired.Volume{Volume: v3, Want: desired.There, Source: blobOf(zip), SourceBytes: int64(len(image)),
			Segments: []events.Segment{{Start: 7, Count: 1}, {Start: 3, Count: 1}, {Start: 11, Count: 1}}})
	}))
	x.until("filled", func(r events.ArrayReport) bool { return slices.Contains(r.Ready, v3) })
	x.recordsAgree()
	x.holds(map[int]string{7: "an image", 3: "", 11: "", 1: "customer", 6: "old data", 8: "old data", 14: "old data"})
}

// TestRealForeigners: an array that nobody here has assembled is stopped.
func TestRealForeigners(t *testing.T) {
	x, _ := newLab(t)
	x.say(x.doc(desired.Active, 1, fresh))
	x.state(events.ArrayActive)
	x.say(x.doc(desired.Standby, 1))
	x.state(events.ArrayStandby)
	k := &md.Kernel{}
	var members []md.Candidate
	for i, d := range []string{"vda", "vdb", "vdc", "vdd"} {
		s, err := md.ReadSuper("/dev/" + d)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, md.Candidate{Slot: i, Dev: d, Super: &s})
	}
	w := md.Wanted{UUID: string(arrayID), RaidDisks: 4, Copies: 2, ChunkKiB: 64}
	if _, err := k.Assemble(t.Context(), w, members); err != nil {
		t.Fatal(err)
	}
	x.until("the end of what assembled itself", func(events.ArrayReport) bool {
		all, err := md.List("")
		return err == nil && len(all) == 0
	})
}

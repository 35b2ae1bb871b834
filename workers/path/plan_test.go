package path

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

func newWorker(w *world) *Worker {
	return &Worker{Initiator: w, Mapper: w, Patience: time.Millisecond}
}

// pass does what the loop does once. A step that fails ends its plan only.
func pass(t fatal, w *Worker, docs []desired.Document) (steps int, seen Observed) {
	t.Helper()
	seen, err := w.Observe(context.Background())
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	plans := w.Plan(docs, seen)
	for i, p := range plans {
		if i > 0 && plans[i-1].Object.String() >= p.Object.String() {
			t.Fatalf("plans are not sorted, or two are for one object:\n%s", workers.Print(plans))
		}
		for _, s := range p.Steps {
			steps++
			if w.Apply(context.Background(), s) != nil {
				break
			}
		}
	}
	return steps, seen
}

func settle(t fatal, w *Worker, docs []desired.Document) Observed {
	t.Helper()
	for range 20 {
		w.check(context.Background())
		if n, seen := pass(t, w, docs); n == 0 {
			return seen
		}
	}
	t.Fatalf("it does not settle")
	return Observed{}
}

func docsOf(disks ...desired.Disk) []desired.Document {
	return []desired.Document{fabricDoc(), pathDoc(2, arrayA, desired.There), vmDoc(3, vm1, desired.Running, disks...)}
}

func ready(w *Worker, v events.VolumeID, a events.ArrayID, bytes int64) error {
	_, err := w.Ready(context.Background(), v, a, bytes)
	return err
}

func TestADiskStandsAndGrowsAndGoes(t *testing.T) {
	x := newWorld(100 * mib)
	w := newWorker(x)
	d := disk(vol1, arrayA, events.Segment{Start: 2, Count: 3}, events.Segment{Start: 9, Count: 1})
	settle(t, w, docsOf(d))
	if err := ready(w, vol1, arrayA, 16*mib); err != nil {
		t.Fatal(err)
	}
	dev := x.devices[VolumeName(vol1)]
	m := x.devices[MapName(arrayA)]
	want := "0 24576 linear " + m.DevNo + " 18432;24576 8192 linear " + m.DevNo + " 75776"
	if got := printTable(dev.Table); got != want || dev.UUID != "CE-volume-"+string(vol1) {
		t.Errorf("table %s, want %s", got, want)
	}
	if m.usable() != 1 || len(m.Paths) != 2 {
		t.Errorf("paths %+v", m.Paths)
	}
	dev.Open = 1 // the domain runs
	d.Segments[1].Count = 2
	settle(t, w, docsOf(d))
	if dev.Bytes() != 20*mib {
		t.Errorf("it has %d bytes", dev.Bytes())
	}
	moved := disk(vol1, arrayA, events.Segment{Start: 0, Count: 9})
	seen := settle(t, w, docsOf(moved))
	if dev.Bytes() != 20*mib || len(x.wrong) > 0 {
		t.Errorf("an open device was changed to other extents: %v", x.wrong)
	}
	if r := w.Report(docsOf(moved), seen, nil); len(r.Paths) != 1 || !strings.Contains(r.Paths[0].Message, "other extents") {
		t.Errorf("report %+v", r)
	}
	absent := []desired.Document{fabricDoc(), pathDoc(4, arrayA, desired.Absent), vmDoc(5, vm1, desired.Absent)}
	settle(t, w, absent)
	if len(x.devices) != 2 {
		t.Errorf("an open device or its map was removed: %v", x.calls)
	}
	dev.Open = 0
	settle(t, w, absent)
	if len(x.devices) != 0 || len(x.sessions) != 0 {
		t.Errorf("left: %v, %v", x.devices, x.sessions)
	}
}

func TestPathsComeAndGo(t *testing.T) {
	x := newWorld(100 * mib)
	w := newWorker(x)
	x.down[proxy2] = true
	docs := docsOf(disk(vol1, arrayA, events.Segment{Count: 1}))
	for range 5 {
		pass(t, w, docs)
	}
	if err := ready(w, vol1, arrayA, 4*mib); err != nil {
		t.Fatalf("a proxy that is down holds up the other: %v", err)
	}
	x.down[proxy2] = false
	settle(t, w, docs)
	m := x.devices[MapName(arrayA)]
	if len(m.Paths) != 2 {
		t.Fatalf("paths %+v", m.Paths)
	}
	x.down[proxy1] = true
	if c := w.check(t.Context()); m.usable() != 0 || !c.stuck || !c.changed {
		t.Fatalf("no path works, and that is not known: %+v", m.Paths)
	}
	if err := ready(w, vol1, arrayA, 4*mib); !errors.Is(err, errNotReady) {
		t.Errorf("a disk without a path is ready: %v", err)
	}
	x.active[arrayA] = proxy2 // taken over
	if c := w.check(t.Context()); m.usable() != 1 || c.stuck || !c.changed {
		t.Fatalf("the takeover is not seen: %+v", m.Paths)
	}
	x.drop(proxy1) // given up by the kernel: its disk is gone
	pass(t, w, docs)
	if len(m.Paths) != 1 {
		t.Errorf("a disk that is gone is still in the map: %+v", m.Paths)
	}
	x.drop(proxy2)
	pass(t, w, docs)
	if len(m.Paths) != 1 {
		t.Errorf("the last path was taken away: %+v", m.Paths)
	}
	x.down[proxy1] = false
	settle(t, w, docs)
	if len(m.Paths) != 2 || len(x.wrong) > 0 {
		t.Errorf("paths %+v, %v", m.Paths, x.wrong)
	}
}

func TestAnArrayThatGrew(t *testing.T) {
	x := newWorld(10 * mib)
	w := newWorker(x)
	d := disk(vol1, arrayA, events.Segment{Count: 2})
	settle(t, w, docsOf(d))
	m := x.devices[MapName(arrayA)]
	x.exports[proxy1][arrayA], x.exports[proxy2][arrayA] = 40*mib, 40*mib
	x.down[proxy2] = true // its path goes on having the old size
	d.Segments = append(d.Segments, events.Segment{Start: 4, Count: 2})
	for range 6 {
		pass(t, w, docsOf(d))
	}
	if err := ready(w, vol1, arrayA, 16*mib); err != nil || m.Bytes() != 40*mib || len(m.Paths) != 1 {
		t.Fatalf("%v; the map has %d bytes, %+v", err, m.Bytes(), m.Paths)
	}
	x.down[proxy2] = false
	settle(t, w, docsOf(d))
	if len(m.Paths) != 2 {
		t.Errorf("paths %+v", m.Paths)
	}
}

func TestNoDeviceWithoutItsArray(t *testing.T) {
	d := disk(vol1, arrayA, events.Segment{Count: 1})
	other, beyond, odd := d, d, d
	other.NAA = naa(arrayB)
	beyond.Segments = []events.Segment{{Start: 100, Count: 1}}
	odd.Segments = []events.Segment{{Start: -1, Count: 1}}
	none := []desired.Document{fabricDoc(), vmDoc(3, vm1, desired.Running, d)}
	for name, docs := range map[string][]desired.Document{
		"no path wanted": none, "another array": docsOf(other), "beyond the end": docsOf(beyond), "odd segments": docsOf(odd),
		"no fabric": {pathDoc(2, arrayA, desired.There), vmDoc(3, vm1, desired.Running, d)},
	} {
		x := newWorld(100 * mib)
		w := newWorker(x)
		for range 4 {
			pass(t, w, docs)
		}
		if x.devices[VolumeName(vol1)] != nil {
			t.Errorf("%s: a device was made", name)
		}
		if err := ready(w, vol1, arrayA, 4*mib); !errors.Is(err, errNotReady) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWithoutDocumentsNothingIsTouched: a new term begins without documents.
func TestWithoutDocumentsNothingIsTouched(t *testing.T) {
	x := newWorld(100 * mib)
	w := newWorker(x)
	settle(t, w, docsOf(disk(vol1, arrayA, events.Segment{Count: 1})))
	if n, _ := pass(t, w, nil); n != 0 || len(x.devices) != 2 {
		t.Errorf("%d steps, %v", n, x.calls)
	}
}

// TestWhateverHappensDisksEndAsDocumentsSay: proxies that die, come back and take over, arrays that grow, volumes that grow, domains that
// start and end, in any order. No open device is moved or removed, no map shrinks, and in the end each disk maps what its document says.
func TestWhateverHappensDisksEndAsDocumentsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newWorld(40 * mib)
		w := newWorker(x)
		disks := []desired.Disk{disk(vol1, arrayA, events.Segment{Count: 1}), disk(vol2, arrayB, events.Segment{Start: 3, Count: 1})}
		want, paths := desired.Running, desired.There
		docs := func() []desired.Document {
			return []desired.Document{fabricDoc(), pathDoc(2, arrayA, desired.There), pathDoc(3, arrayB, paths), vmDoc(4, vm1, want, disks...)}
		}
		for range rapid.IntRange(1, 25).Draw(t, "events") {
			m := rapid.SampledFrom([]events.MachineID{proxy1, proxy2}).Draw(t, "proxy")
			a := rapid.SampledFrom([]events.ArrayID{arrayA, arrayB}).Draw(t, "array")
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0, 1:
				x.down[m] = !x.down[m]
			case 2:
				x.active[a] = m
			case 3:
				x.drop(m)
			case 4:
				x.exports[proxy1][a] += 8 * mib
				x.exports[proxy2][a] += 8 * mib
			case 5:
				d := &disks[rapid.IntRange(0, 1).Draw(t, "disk")]
				last := &d.Segments[len(d.Segments)-1]
				if next := last.Start + last.Count; int64(4*(next+1)+1)*mib <= x.exports[m][d.Array] {
					last.Count++
				}
			case 6:
				for _, d := range x.all() {
					if _, ok := volumeOf(d.UUID); ok {
						d.Open = rapid.IntRange(0, 1).Draw(t, "open")
					}
				}
			case 7:
				want = rapid.SampledFrom([]string{desired.Running, desired.Absent, desired.Shutdown}).Draw(t, "want")
			case 8:
				paths = rapid.SampledFrom([]string{desired.There, desired.Absent}).Draw(t, "paths")
			case 9:
				for _, d := range x.all() {
					d.Unsettled = true // an agent died in a change
				}
			}
			pass(t, w, docs())
			w.check(context.Background())
		}
		clear(x.down)
		want, paths = desired.Running, desired.There
		settle(t, w, docs())
		if len(x.wrong) > 0 {
			t.Fatalf("%v\n%s", x.wrong, strings.Join(x.calls, "\n"))
		}
		for _, d := range disks {
			if err := ready(w, d.Volume, d.Array, diskBytes(d)); err != nil {
				t.Fatalf("%v\n%s", err, strings.Join(x.calls, "\n"))
			}
			table, _, err := volumeTable(d, x.devices[MapName(d.Array)].DevNo)
			if err != nil || !slices.Equal(table, x.devices[VolumeName(d.Volume)].Table) {
				t.Fatalf("%s has another table: %v", d.Volume, err)
			}
		}
	})
}

//go:build lab

package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
)

const (
	labGolden events.VolumeID = "44444444-0000-4000-8000-000000000004"
	labCopy   events.VolumeID = "55555555-0000-4000-8000-000000000005"
	labSecond events.VolumeID = "66666666-0000-4000-8000-000000000006"
)

// TestRealGolden: over a real array an image is fetched once, in a golden volume, and volumes are copied from it: one as all goes well, one
// while a leg is lost and the array changes hands in the middle.
func TestRealGolden(t *testing.T) {
	x, l := newLab(t)
	image := append(bytes.Repeat([]byte("an image"), extentMiB<<17), make([]byte, extentMiB<<20)...)
	image = append(image, bytes.Repeat([]byte("its tail"), extentMiB<<16+64)...) // it ends within an extent, at a whole sector
	zip, fetched := packed(x, image), 0
	serve := func(ctx context.Context, b events.Blob) (io.ReadCloser, error) {
		fetched++
		return gives(zip)(ctx, b)
	}
	x.worker.Fetch = serve
	made := func(id, from events.VolumeID, segments ...events.Segment) desired.Volume {
		return desired.Volume{Volume: id, From: from, Want: desired.There, Source: blobOf(zip), SourceBytes: int64(len(image)), SourceContent: sum(image), Segments: segments}
	}
	golden := made(labGolden, "", events.Segment{Start: 12, Count: 2}, events.Segment{Start: 0, Count: 1})
	one := made(labCopy, labGolden, events.Segment{Start: 3, Count: 1}, events.Segment{Start: 6, Count: 3})
	two := made(labSecond, labGolden, events.Segment{Start: 10, Count: 2}, events.Segment{Start: 1, Count: 1})
	with := func(all ...desired.Volume) func(*desired.Array) {
		return func(a *desired.Array) { a.Volumes, a.Resync.LimitKiB = all, 100<<10 }
	}
	x.say(x.doc(desired.Active, 1, fresh, with(one, golden)))
	x.until("golden and one copy", func(r events.ArrayReport) bool {
		return slices.Contains(r.Ready, labGolden) && slices.Contains(r.Ready, labCopy)
	})
	if fetched != 1 {
		t.Errorf("the image was fetched %d times", fetched)
	}
	held := map[int]string{12: "an image", 13: "", 0: "mixed", 3: "an image", 6: "", 7: "mixed", 8: "", 2: "old data", 9: "old data", 14: "old data"}
	x.holds(held)
	x.recordsAgree()
	golden.Keep, one.Keep = 3, 4
	x.worker.Fetch = func(context.Context, events.Blob) (io.ReadCloser, error) {
		return nil, errors.New("nothing is served any more")
	}
	l.state["vda"] = "transport-offline"
	x.say(x.doc(desired.Active, 1, fresh, with(two, one, golden)))
	if _, err := x.look(); err != nil { // some of it, or all
		t.Logf("with a lost leg: %v", err)
	}
	x.fresh(l)
	x.say(x.doc(desired.Standby, 1))
	x.state(events.ArrayStandby)
	x.say(x.doc(desired.Active, 2, with(two, one, golden)))
	x.fresh(l)
	x.worker.Fetch = nil // it is not needed
	x.until("the second copy", func(r events.ArrayReport) bool { return slices.Contains(r.Ready, labSecond) })
	held[10], held[11], held[1] = "an image", "", "mixed"
	x.holds(held)
	clear(l.state)
	x.until("both legs", func(r events.ArrayReport) bool { return r.Degraded == 0 && r.Sync == "" })
	x.holds(held)
	x.say(x.doc(desired.Absent, 2))
	x.state(events.ArrayAbsent)
}

package proxy_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/proxy"
)

// goldenOf is a golden volume of an image, in pieces.
func goldenOf(source events.Blob, bytes int64) desired.Volume {
	return desired.Volume{Volume: "g", Source: source, SourceBytes: bytes, Want: desired.There,
		Segments: []events.Segment{{Start: 12, Count: 2}, {Start: 3, Count: 1}}}
}

// copyOf is a volume that is copied from it.
func copyOf(source events.Blob, bytes int64) desired.Volume {
	return desired.Volume{Volume: "v1", Source: source, SourceBytes: bytes, Want: desired.There, From: "g",
		Segments: []events.Segment{{Start: 8, Count: 2}, {Start: 0, Count: 1}, {Start: 5, Count: 1}}}
}

// smallImage is more than two steps of filling as these tests have them, and ends within an extent.
func smallImage() []byte {
	raw := testImage()[:9<<20+512]
	raw[len(raw)-1] = 7
	return raw
}

func sum(raw []byte) string { return fmt.Sprintf("%x", sha256.Sum256(raw)) }

// goldenWorld has a document with a golden volume, two that are copied from it, and an image that is fetched.
func goldenWorld(t testing.TB, zip, raw []byte, change ...func(g, v *desired.Volume)) (e *engine, g, v desired.Volume) {
	t.Helper()
	t.Cleanup(proxy.SetFillStep(4 << 20))
	g, v = goldenOf(blobOf(zip), int64(len(raw))), copyOf(blobOf(zip), int64(len(raw)))
	g.SourceContent, v.SourceContent = sum(raw), sum(raw)
	for _, f := range change {
		f(&g, &v)
	}
	e = fillWorld(t, v, g)
	e.w.fetch = gives(zip)
	e.restart()
	return e, g, v
}

func TestGolden(t *testing.T) {
	raw := smallImage()
	zip := packed(t, raw)
	e, g, v := goldenWorld(t, zip, raw)
	r := e.want(t, events.ArrayActive)
	if !e.isReady("g") || !e.isReady("v1") || len(r.Failed) > 0 || len(r.Fills) > 0 {
		t.Fatalf("report %+v", r)
	}
	e.w.holds(t, raw, g, v)
	if n := strings.Count(strings.Join(e.w.calls, " "), "open"); n != 3 {
		t.Fatalf("it was copied in %d steps, want 3", n)
	}
	e.w.fetch = nil // another volume needs no server
	e.restart()
	second := v
	second.Volume, second.Segments = "v2", []events.Segment{{Start: 4, Count: 1}, {Start: 7, Count: 1}}
	a, _ := e.current()
	a.Volumes = append(a.Volumes, second)
	e.say(a)
	e.settle(t)
	if e.isReady("v2") { // two extents are too few for it
		t.Fatal("a volume is ready that is smaller than its image")
	}
	if f := e.last[arrayID].Failed; len(f) != 1 || f[0].Volume != "v2" || !strings.Contains(f[0].Message, "does not fit") {
		t.Fatalf("it is told: %+v", f)
	}
}

// TestGoldenNeedsNoServer: once it is there nothing is fetched.
func TestGoldenNeedsNoServer(t *testing.T) {
	raw := smallImage()[:7<<20]
	zip := packed(t, raw)
	g := goldenOf(blobOf(zip), int64(len(raw)))
	g.Segments = g.Segments[:1]
	e := fillWorld(t, g)
	e.w.fetch = gives(zip)
	e.restart()
	e.want(t, events.ArrayActive)
	e.w.fetch = nil
	e.restart()
	v := copyOf(g.Source, g.SourceBytes)
	v.Segments = []events.Segment{{Start: 5, Count: 2}}
	e.say(e.doc(desired.Active, 1, func(a *desired.Array) { a.Create, a.Volumes = true, []desired.Volume{g, v} }))
	if e.want(t, events.ArrayActive); !e.isReady("v1") || !e.w.begins(v, raw) {
		t.Fatalf("report %+v", e.last[arrayID])
	}
}

// TestGoldenIsKilled: the agent dies before or after each of its calls from the first zeroing on. Neither volume is told ready before it is
// whole, and nothing is copied from a golden volume that is not.
func TestGoldenIsKilled(t *testing.T) {
	raw := smallImage()
	zip := packed(t, raw)
	clean, _, _ := goldenWorld(t, zip, raw)
	clean.settle(t)
	for kill := slices.Index(clean.w.calls, "zero") + 1; kill <= len(clean.w.calls); kill++ {
		for _, after := range []bool{false, true} {
			e, g, v := goldenWorld(t, zip, raw)
			e.w.killIn, e.w.after = kill, after
			told := false
			for n := 0; n < 40 && !e.isReady("v1"); n++ {
				_, _ = e.pass()
				if e.isReady("g") && !told {
					told = true
					e.w.holds(t, raw, g)
				}
				e.check(t)
				e.clock.now = e.clock.now.Add(3 * time.Second)
			}
			if !e.isReady("v1") || !e.isReady("g") {
				t.Fatalf("killed at call %d: not ready: %+v", kill, e.last[arrayID])
			}
			e.w.holds(t, raw, g, v)
		}
	}
}

// TestGoldenMovesWithItsArray: at each call the array is given up, and the next owner begins with what has no record.
func TestGoldenMovesWithItsArray(t *testing.T) {
	raw := smallImage()
	zip := packed(t, raw)
	clean, _, _ := goldenWorld(t, zip, raw)
	clean.settle(t)
	for at := slices.Index(clean.w.calls, "zero") + 1; at <= len(clean.w.calls); at++ {
		e, g, v := goldenWorld(t, zip, raw)
		active, _ := e.current()
		left := at
		e.w.fail = func(string) error {
			if left--; left == 0 {
				e.say(e.doc(desired.Standby, 1))
			}
			return nil
		}
		e.want2(t, at)
		e.w.fail = nil
		e.restart() // on another machine
		active.Create, active.Epoch.Counter = false, 2
		e.say(active)
		e.want(t, events.ArrayActive)
		if !e.isReady("g") || !e.isReady("v1") {
			t.Fatalf("moved at call %d: %+v", at, e.last[arrayID])
		}
		e.w.holds(t, raw, g, v)
	}
}

// want2 settles until the array is given up.
func (e *engine) want2(t *testing.T, at int) {
	t.Helper()
	e.settle(t)
	if a, _ := e.current(); a.Want == desired.Standby && e.last[arrayID].State != events.ArrayStandby {
		t.Fatalf("moved at call %d: %+v", at, e.last[arrayID])
	}
	if a, _ := e.current(); a.Want != desired.Standby {
		e.say(e.doc(desired.Standby, 1))
		e.settle(t)
	}
}

// TestGoldenThatIsWrong: nothing is copied from it, it is told why, and another try that is asked for is made at once.
func TestGoldenThatIsWrong(t *testing.T) {
	raw := smallImage()
	zip := packed(t, raw)
	for name, x := range map[string]struct {
		gives   []byte
		content string
		says    string
	}{
		"another image":   {packed(t, raw[:len(raw)-512]), sum(raw), "unexpected EOF"},
		"cut off":         {zip[:len(zip)/2], sum(raw), "unexpected EOF"},
		"another content": {zip, sum(raw[:512]), "is not what it should be"},
	} {
		t.Run(name, func(t *testing.T) {
			e, g, v := goldenWorld(t, zip, raw, func(g, v *desired.Volume) { g.SourceContent, v.SourceContent = x.content, x.content })
			e.w.fetch = gives(x.gives)
			e.restart()
			for range 30 {
				_, _ = e.pass()
				e.check(t)
				e.clock.now = e.clock.now.Add(2 * time.Second)
			}
			r := e.last[arrayID]
			if e.isReady("g") || e.isReady("v1") || len(r.Failed) != 1 || r.Failed[0].Volume != "g" || !strings.Contains(r.Failed[0].Message, x.says) {
				t.Fatalf("report %+v", r)
			}
			if slices.Contains(e.w.calls, "open") {
				t.Fatal("something was copied from a golden volume that is not what it should be")
			}
			before := len(e.w.calls)
			g.SourceContent, v.SourceContent, g.Try = sum(raw), sum(raw), 1
			a, _ := e.current()
			a.Volumes = []desired.Volume{g, v}
			e.say(a)
			e.worker.Fetch = gives(zip)
			if _, _ = e.pass(); len(e.w.calls) == before {
				t.Fatal("it is not tried again at once")
			}
			e.settle(t)
			e.w.holds(t, raw, g, v)
		})
	}
}

// TestGoldenThatWasDamaged: what is copied is compared with what the image's content is known to be.
func TestGoldenThatWasDamaged(t *testing.T) {
	raw := smallImage()
	zip := packed(t, raw)
	e, g, v := goldenWorld(t, zip, raw)
	a, _ := e.current()
	a.Volumes = []desired.Volume{g}
	e.say(a)
	e.want(t, events.ArrayActive)
	f, err := os.OpenFile(e.w.file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{1}, extentStart(3)+77); err != nil {
		t.Fatal(err)
	}
	a.Volumes = []desired.Volume{g, v}
	e.say(a)
	for range 10 {
		_, _ = e.pass()
		e.clock.now = e.clock.now.Add(2 * time.Second)
	}
	r := e.last[arrayID]
	if e.isReady("v1") || len(r.Failed) != 1 || r.Failed[0].Volume != "v1" || !strings.Contains(r.Failed[0].Message, "not what it should be") {
		t.Fatalf("report %+v", r)
	}
	e.check(t)
}

// TestFillProgress: who asks is told what is done, and how far it is.
func TestFillProgress(t *testing.T) {
	raw := smallImage()
	zip := packed(t, raw)
	e, _, _ := goldenWorld(t, zip, raw)
	seen := map[string]bool{}
	e.w.fail = func(string) error {
		e.clock.now = e.clock.now.Add(time.Second)
		if s, err := e.worker.Observe(t.Context()); err == nil {
			for _, r := range e.worker.Report(e.wishes.All(), s, nil).Arrays {
				for _, f := range r.Fills {
					seen[string(f.Volume)+" "+f.What] = true
					if f.Done < 0 || f.Done > f.Bytes || (f.Rate > 0) != (f.ETA > 0 || f.Done == f.Bytes && f.Rate > 0) {
						t.Errorf("it is told: %+v", f)
					}
				}
			}
		}
		return nil
	}
	e.settle(t)
	for _, want := range []string{"g zero", "g fetch", "v1 wait", "v1 zero", "v1 copy"} {
		if !seen[want] {
			t.Errorf("%q was not told: %v", want, seen)
		}
	}
}

// TestOpenReadsPastTheCache on a real file: what is given is what is there, whatever its end is a multiple of.
func TestOpenReadsPastTheCache(t *testing.T) {
	raw := testImage()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, append(bytes.Clone(raw), make([]byte, 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := proxy.Direct{}.Open(path, []proxy.Run{{Offset: 5 << 20, Length: 3 << 20}, {Offset: 0, Length: 1<<20 + 512}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got bytes.Buffer
	if _, err := got.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), append(bytes.Clone(raw[5<<20:8<<20]), raw[:1<<20+512]...)) {
		t.Fatal("it reads something else")
	}
}

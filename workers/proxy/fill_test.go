package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/proxy"
)

// zeroFile zeroes a part of the file that stands for the array. The kernel does it: the race detector looks at each byte that we write.
func (w *world) zeroFile(offset, length int64) error {
	if w.file == "" {
		return nil
	}
	f, err := os.OpenFile(w.file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
	return errors.Join(err, f.Close())
}

// imageSize is more than one step of filling, and ends within the third piece of the volume.
const imageSize = 9<<20 + 512

// testImage has some blocks of data among zeroes.
func testImage() []byte {
	raw := make([]byte, imageSize)
	r := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(raw); i += 5 << 20 {
		for j := range min(100<<10, len(raw)-i) {
			raw[i+j] = byte(r.Uint32())
		}
	}
	raw[imageSize-1] = 7
	return raw
}

func packed(t testing.TB, raw []byte) []byte {
	t.Helper()
	return packedWith(t, raw, 1<<20)
}

func packedWith(t testing.TB, raw []byte, window int) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithWindowSize(window))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func blobOf(b []byte) events.Blob {
	return events.Blob{SHA256: fmt.Sprintf("%x", sha256.Sum256(b)), Size: int64(len(b))}
}

// gives is a Fetch of bytes.
func gives(b []byte) proxy.Fetch {
	return func(context.Context, events.Blob) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	}
}

// filled is a volume of three pieces, the last first, that is made from an image.
func filled(source events.Blob, bytes int64) desired.Volume {
	return desired.Volume{Volume: "v1", Source: source, SourceBytes: bytes, Want: desired.There,
		Segments: []events.Segment{{Start: 11, Count: 1}, {Start: 0, Count: 1}, {Start: 5, Count: 1}}}
}

// fillWorld has an array whose bytes are all 0xff, and a document with volumes.
func fillWorld(t testing.TB, volumes ...desired.Volume) *engine {
	t.Helper()
	w := newWorld(2, 1)
	array := memory(t)
	w.file, w.theirs = array.Name(), volumes
	from, err := unwritten()
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < sectors*512; {
		if _, err := unix.Sendfile(int(array.Fd()), int(from.Fd()), &at, int(sectors*512-at)); err != nil {
			t.Fatal(err)
		}
	}
	if w.mapped, err = unix.Mmap(int(array.Fd()), 0, sectors*512, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(w.mapped) })
	e := newEngine(w)
	e.say(e.doc(desired.Active, 1, func(a *desired.Array) { a.Create, a.Volumes = true, volumes }))
	return e
}

// unwritten is an array's bytes before anything is written, made once: the kernel copies it for each world, as the race detector
// would look at each byte.
var unwritten = sync.OnceValues(func() (*os.File, error) {
	f, err := inMemory()
	if err != nil {
		return nil, err
	}
	_, err = f.Write(bytes.Repeat([]byte{0xff}, sectors*512))
	return f, err
})

// memory is a file in memory, as arrays are synchronized often.
func memory(t testing.TB) *os.File {
	t.Helper()
	f, err := inMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func inMemory() (*os.File, error) {
	fd, err := unix.MemfdCreate("array", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("/proc/self/fd/%d", fd)), nil
}

// content gives the bytes of a volume, piece by piece, as they are in the file that stands for the array.
func (w *world) content(v desired.Volume) (pieces [][]byte) {
	for _, s := range v.Segments {
		pieces = append(pieces, w.mapped[extentStart(s.Start):extentStart(s.Start+s.Count)])
	}
	return pieces
}

// begins says whether a volume begins with an image.
func (w *world) begins(v desired.Volume, raw []byte) bool {
	for _, p := range w.content(v) {
		n := min(len(p), len(raw))
		if !bytes.Equal(p[:n], raw[:n]) {
			return false
		}
		raw = raw[n:]
	}
	return len(raw) == 0
}

// holds fails unless ready volumes are the image, with zeroes behind it, and extents of nobody are as they were.
func (w *world) holds(t testing.TB, raw []byte, all ...desired.Volume) {
	t.Helper()
	var used [extents]bool
	for _, v := range all {
		if !w.begins(v, raw) {
			t.Fatalf("volume %s does not hold the image", v.Volume)
		}
		left := len(raw)
		for _, p := range w.content(v) {
			n := min(len(p), left)
			if rest := p[n:]; bytes.Count(rest, []byte{0}) != len(rest) {
				t.Fatalf("what follows the image on volume %s is not zero", v.Volume)
			}
			left -= n
		}
	}
	for _, v := range w.theirs {
		for _, s := range v.Segments {
			for i := range s.Count {
				used[s.Start+i] = true
			}
		}
	}
	for e, u := range used {
		if p := w.mapped[extentStart(e):extentStart(e+1)]; !u && bytes.Count(p, []byte{0xff}) != len(p) {
			t.Fatalf("extent %d, which is nobody's, was written", e)
		}
	}
}

func (e *engine) isReady(id events.VolumeID) bool {
	for _, v := range e.last[arrayID].Ready {
		if v == id {
			return true
		}
	}
	return false
}

func TestFill(t *testing.T) {
	raw := testImage()
	zip := packed(t, raw)
	v := filled(blobOf(zip), imageSize)
	e := fillWorld(t, v)
	e.w.fetch = gives(zip)
	e.restart()
	r := e.want(t, events.ArrayActive)
	if !e.isReady("v1") {
		t.Fatalf("not ready: %s", r.Message)
	}
	e.w.holds(t, raw, v)
	steps := 0
	for _, c := range e.w.calls {
		if c == "fill" {
			steps++
		}
	}
	if steps != 2 {
		t.Fatalf("it was filled in %d steps, want 2", steps)
	}
}

// TestFillOfAWrongImage: whatever is wrong, the volume is not ready and has no record, other volumes go on, and the right image, when it comes,
// is all that is on it.
func TestFillOfAWrongImage(t *testing.T) {
	raw := testImage()
	zip := packed(t, raw)
	changed := bytes.Clone(raw)
	for i := range changed {
		changed[i] |= 0x10 // nothing in it is zero
	}
	for name, x := range map[string]struct {
		source events.Blob
		bytes  int64
		gives  []byte
		says   string
	}{
		"another digest": {blobOf(zip), imageSize, packed(t, changed), "not what it should be"},
		"cut off":        {blobOf(zip), imageSize, zip[:len(zip)/2], "unexpected EOF"},
		"cut at its end": {blobOf(zip), imageSize, zip[:len(zip)-1], "unexpected EOF"},
		"bytes behind":   {blobOf(zip), imageSize, append(bytes.Clone(zip), zip...), "unexpected EOF"},
		"no image":       {blobOf(raw[:512]), 512, raw[:512], "magic"},
		"too long":       {blobOf(zip), imageSize - 512, zip, "longer than its template says"},
		"too short":      {blobOf(zip), imageSize + 512, zip, "unexpected EOF"},
		"large window":   {blobOf(zip), imageSize, windowed(t, changed), "window size exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			v := filled(x.source, x.bytes)
			e := fillWorld(t, v, desired.Volume{Volume: "v2", Segments: []events.Segment{{Start: 3, Count: 1}}, Want: desired.There})
			e.w.fetch = gives(x.gives)
			e.restart()
			for range 40 {
				_, _ = e.pass()
				e.check(t)
				e.clock.now = e.clock.now.Add(5 * time.Second)
			}
			r := e.last[arrayID]
			if e.isReady("v1") || len(e.w.records[arrayID].Volumes["v1"]) > 0 {
				t.Fatal("a volume with a wrong image is ready")
			}
			if !e.isReady("v2") {
				t.Fatal("another volume had to wait for it")
			}
			if !strings.Contains(r.Message, x.says) {
				t.Fatalf("it is told: %q, want %q", r.Message, x.says)
			}
			if n := strings.Count(strings.Join(e.w.calls, " "), "fill"); n > 8 {
				t.Fatalf("it was tried %d times in 200 s", n)
			}
			e.mends(t, zip, raw)
		})
	}
}

// mends gives the volume its right image, and looks at what becomes of it.
func (e *engine) mends(t *testing.T, zip, raw []byte) {
	t.Helper()
	v := filled(blobOf(zip), imageSize)
	a, _ := e.current()
	a.Volumes = []desired.Volume{v}
	e.say(a)
	right := gives(zip)
	e.worker.Fetch = right
	e.clock.now = e.clock.now.Add(time.Hour)
	e.settle(t)
	if !e.isReady("v1") {
		t.Fatalf("not ready with the right image: %s", e.last[arrayID].Message)
	}
	if !e.w.begins(v, raw) {
		t.Fatal("something of the wrong image is left")
	}
}

// windowed packs with a window that proxies do not have the memory for.
func windowed(t testing.TB, raw []byte) []byte {
	t.Helper()
	return packedWith(t, raw, 16<<20)
}

// TestFillIsKilled: the agent dies before or after each of its calls from the first zeroing on. It is never told ready before it is whole.
func TestFillIsKilled(t *testing.T) {
	raw := testImage()
	zip := packed(t, raw)
	v := filled(blobOf(zip), imageSize)
	clean := fillWorld(t, v)
	clean.w.fetch = gives(zip)
	clean.restart()
	clean.settle(t)
	for kill := slices.Index(clean.w.calls, "zero") + 1; kill <= len(clean.w.calls); kill++ {
		e := fillWorld(t, v)
		e.w.fetch = gives(zip)
		e.restart()
		e.w.killIn, e.w.after = kill, kill%2 == 0
		for n := 0; n < 30 && !e.isReady("v1"); n++ {
			_, _ = e.pass()
			if e.isReady("v1") {
				e.w.holds(t, raw, v)
			}
			e.clock.now = e.clock.now.Add(3 * time.Second)
		}
		if !e.isReady("v1") {
			t.Fatalf("killed at call %d: not ready: %s", kill, e.last[arrayID].Message)
		}
		e.check(t)
	}
}

// TestFillSkipsZeroes: what is zero stays unwritten.
func TestFillSkipsZeroes(t *testing.T) {
	raw := testImage()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, bytes.Repeat([]byte{0xee}, 2*imageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (proxy.Direct{}).Fill(t.Context(), path, []proxy.Run{{Offset: 512, Length: imageSize}}, bytes.NewReader(raw), imageSize); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got[511] != 0xee || got[512] != raw[0] || got[512+imageSize-1] != 7 || got[512+imageSize] != 0xee {
		t.Fatal("it was written in the wrong place")
	}
	if n := bytes.Count(got, []byte{0xee}); n < 2*imageSize-2<<20 {
		t.Fatalf("%d bytes were left as they were: zeroes are written", n)
	}
	if err := (proxy.Direct{}).Fill(t.Context(), path, []proxy.Run{{Offset: 0, Length: 512}}, bytes.NewReader(raw), 1024); err == nil {
		t.Fatal("it was filled beyond its end")
	}
}

// TestFillEndsWithItsWish: a volume that is deleted while it is filled is wiped, and what was read of the image is let go of.
func TestFillEndsWithItsWish(t *testing.T) {
	zip := packed(t, testImage())
	v := filled(blobOf(zip), imageSize)
	e := fillWorld(t, v)
	ended := make(chan struct{})
	e.w.fetch = func(ctx context.Context, _ events.Blob) (io.ReadCloser, error) {
		context.AfterFunc(ctx, func() { close(ended) })
		return io.NopCloser(bytes.NewReader(zip)), nil
	}
	e.w.fail = func(call string) error {
		if call == "fill" && e.current0().Want == desired.There {
			v.Want = desired.Absent
			e.say(e.doc(desired.Active, 1, func(a *desired.Array) { a.Volumes = []desired.Volume{v} }))
		}
		return nil
	}
	e.restart()
	e.settle(t)
	if e.isReady("v1") || len(e.last[arrayID].Wiped) != 1 {
		t.Fatalf("report %+v", e.last[arrayID])
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the image is still being fetched")
	}
}

func (e *engine) current0() desired.Volume {
	a, _ := e.current()
	return a.Volumes[0]
}

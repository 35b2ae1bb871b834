package diskimage

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"cloudengine/events"
)

// disk is a raw image that a PC would boot from, mostly zeroes, that ends within a cluster.
func disk() []byte {
	raw := make([]byte, 5<<20+3*512)
	copy(raw[510:], "\x55\xaa")
	for i := range 100 << 10 {
		raw[1<<20+i] = byte(i * i >> 3)
		raw[4<<20-50<<10+i] = byte(i >> 5)
	}
	copy(raw[len(raw)-4:], "last")
	return raw
}

func file(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	z.Close()
	return out.Bytes()
}

func zst(b []byte) []byte {
	z, _ := zstd.NewWriter(nil)
	return z.EncodeAll(b, nil)
}

func xzOf(t testing.TB, b []byte) []byte {
	t.Helper()
	cmd := exec.Command("xz", "-0c")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("xz: %v", err)
	}
	return out
}

// qcow2Of makes a qcow2 image: clusters of zeroes are left out, each third one is compressed (version 3).
func qcow2Of(raw []byte, version uint32, bits uint, zip byte) []byte {
	be, cs := binary.BigEndian, 1<<bits
	span := cs * cs / 8
	l1 := (len(raw) + span - 1) / span
	round := func(b []byte) []byte { return append(b, make([]byte, (cs-len(b)%cs)%cs)...) }
	out := make([]byte, 104, cs)
	copy(out, qcow2Magic)
	be.PutUint32(out[4:], version)
	be.PutUint32(out[20:], uint32(bits))
	be.PutUint64(out[24:], uint64(len(raw)))
	be.PutUint32(out[36:], uint32(l1))
	be.PutUint64(out[40:], uint64(max(cs, 512)))
	be.PutUint32(out[100:], 104)
	if zip > 0 {
		be.PutUint64(out[72:], featureCompression)
		be.PutUint32(out[100:], 112)
		out = append(out, zip)
	}
	out = round(out)
	table := len(out)
	out = round(append(out, make([]byte, l1*8)...))
	for i := range l1 {
		l2 := len(out)
		be.PutUint64(out[table+i*8:], uint64(l2)|1<<63)
		out = append(out, make([]byte, cs)...)
		for j := range cs / 8 {
			at := i*span + j*cs
			if at >= len(raw) {
				break
			}
			data := round(bytes.Clone(raw[at:min(at+cs, len(raw))]))
			var entry uint64
			switch {
			case len(bytes.TrimLeft(data, "\x00")) == 0:
				continue
			case j%3 == 0 || zip > 0:
				packed := deflated(data)
				if zip == 1 {
					packed = zst(data)
				}
				x := 62 - (bits - 8)
				sectors := (len(out)%512 + len(packed) - 1) / 512
				entry = uint64(len(out)) | uint64(sectors)<<x | compressed
				out = append(out, packed...)
				if j%2 == 0 {
					out = round(out)
				}
			default:
				out = round(out)
				entry = uint64(len(out)) | 1<<63
				out = append(out, data...)
			}
			be.PutUint64(out[l2+j*8:], entry)
		}
		out = round(out)
	}
	return out
}

func deflated(b []byte) []byte {
	var out bytes.Buffer
	z, _ := flate.NewWriter(&out, 6)
	_, _ = z.Write(b)
	z.Close()
	return out.Bytes()
}

// pack opens and packs a file.
func pack(t testing.TB, path, format string) (events.Blob, int64, []byte, error) {
	t.Helper()
	i, err := Open(path, format, t.TempDir())
	if err != nil {
		return events.Blob{}, 0, nil, err
	}
	defer i.Close()
	var out bytes.Buffer
	said := 0
	b, n, content, err := Pack(t.Context(), i, &out, func() { said++ })
	if err == nil && content != unpackedSum(t, out.Bytes()) {
		t.Fatalf("the digest of the content is told as %s", content)
	}
	if done, total := i.Progress(); err == nil && (done != total || said == 0) {
		t.Fatalf("at the end %d of %d bytes are told, %d times", done, total, said)
	}
	return b, n, out.Bytes(), err
}

// unpackedSum is the digest of what was packed.
func unpackedSum(t testing.TB, packed []byte) string {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, z); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// TestPack: the same disk gives the same bytes, however it comes.
func TestPack(t *testing.T) {
	raw := disk()
	want, _, _, err := pack(t, file(t, raw), Auto)
	if err != nil {
		t.Fatal(err)
	}
	q := qcow2Of(raw, 3, 16, 0)
	for name, b := range map[string][]byte{
		"raw": raw, "gzip": gz(raw), "xz": xzOf(t, raw), "zstd": zst(raw), "two streams of gzip": append(gz(raw[:1<<20]), gz(raw[1<<20:])...),
		"qcow2": q, "qcow2, version 2": qcow2Of(raw, 2, 12, 0), "qcow2, small clusters": qcow2Of(raw, 3, 9, 0), "qcow2, large clusters": qcow2Of(raw, 3, 21, 0),
		"qcow2, Zstandard": qcow2Of(raw, 3, 16, 1), "qcow2 in gzip": gz(q), "qcow2 in xz": xzOf(t, q),
	} {
		t.Run(name, func(t *testing.T) {
			got, n, zip, err := pack(t, file(t, b), Auto)
			if err != nil || got != want || n != int64(len(raw)) {
				t.Fatalf("%+v of %d bytes, want %+v: %v", got, n, want, err)
			}
			z, err := zstd.NewReader(bytes.NewReader(zip), zstd.WithDecoderMaxWindow(8<<20))
			if err != nil {
				t.Fatal(err)
			}
			defer z.Close()
			if back, err := io.ReadAll(z); err != nil || !bytes.Equal(back, raw) || int64(len(zip)) != got.Size {
				t.Fatalf("unpacked it is another: %v", err)
			}
		})
	}
}

func half(b []byte) []byte { return b[:len(b)/2] }

func TestRefusedImages(t *testing.T) {
	raw := disk()
	q := qcow2Of(raw, 3, 16, 0)
	with := func(at int, b ...byte) []byte {
		out := bytes.Clone(q)
		copy(out[at:], b)
		return out
	}
	cd := bytes.Clone(raw)
	copy(cd[0x8001:], "CD001")
	for name, x := range map[string]struct {
		b    []byte
		err  error
		says string
	}{
		"empty":                {nil, ErrFormat, ""},
		"text":                 {bytes.Repeat([]byte("<html>"), 1000), ErrFormat, "--format raw"},
		"a CD":                 {cd, ErrFormat, "a CD"},
		"VMDK":                 {[]byte("KDMV" + strings.Repeat("x", 1000)), ErrFormat, "VMDK"},
		"raw, cut":             {raw[:len(raw)-100], ErrSize, "cut off"},
		"gzip, cut":            {half(gz(raw)), ErrCut, ""},
		"xz, cut":              {half(xzOf(t, raw)), ErrCut, ""},
		"zstd, cut":            {half(zst(raw)), ErrCut, ""},
		"gzip, changed":        {append(gz(raw)[:len(gz(raw))-8], 1, 2, 3, 4, 5, 6, 7, 8), ErrCut, ""},
		"gzip, cut at its end": {gz(raw)[:len(gz(raw))-1], ErrCut, ""},
		"qcow2, cut":           {q[:len(q)-2<<16], ErrCut, ""},
		"qcow2, header alone":  {q[:104], ErrCut, ""},
		"qcow2, magic alone":   {q[:4], ErrCut, ""},
		"backing file":         {with(8, 0, 0, 0, 0, 0, 0, 0, 104), ErrFormat, "backing file"},
		"encrypted":            {with(32, 0, 0, 0, 1), ErrFormat, "encrypted"},
		"huge":                 {with(24, 0x7f), ErrSize, ""},
		"no size":              {with(24, 0, 0, 0, 0, 0, 0, 0, 0), ErrSize, ""},
		"half a sector":        {with(31, 1), ErrSize, ""},
		"tiny clusters":        {with(20, 0, 0, 0, 1), ErrFormat, ""},
		"huge clusters":        {with(20, 0, 0, 0, 63), ErrFormat, ""},
		"short L1":             {with(36, 0, 0, 0, 0), ErrFormat, "L1"},
		"version 9":            {with(4, 0, 0, 0, 9), ErrFormat, "version 9"},
		"dirty":                {with(79, 1), ErrCut, "repair"},
		"data elsewhere":       {with(79, 4), ErrFormat, "another file"},
		"unknown features":     {with(72, 0x40), ErrFormat, "features"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, _, err := pack(t, file(t, x.b), Auto); !errors.Is(err, x.err) || !strings.Contains(err.Error(), x.says) {
				t.Fatalf("got %v; want %v, and %q", err, x.err, x.says)
			}
		})
	}
	if _, _, _, err := pack(t, file(t, raw), Qcow2); !errors.Is(err, ErrFormat) {
		t.Fatalf("raw as qcow2: %v", err)
	}
	if _, n, _, err := pack(t, file(t, cd), Raw); err != nil || n != int64(len(cd)) {
		t.Fatalf("a CD as raw: %v", err)
	}
}

// FuzzOpen: whatever is in a file, it is read or refused, and what is read has the size that is told.
func FuzzOpen(f *testing.F) {
	raw := disk()[:64<<10]
	q := qcow2Of(raw, 3, 9, 0)
	for _, b := range [][]byte{raw, gz(raw), zst(raw), q, gz(q), qcow2Of(raw, 2, 12, 0), qcow2Of(raw, 3, 12, 1)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := Open(file(t, b), Auto, t.TempDir())
		if err != nil {
			return
		}
		defer i.Close()
		n, err := io.Copy(io.Discard, io.LimitReader(i, 8<<20))
		if _, total := i.Progress(); err == nil && i.Format == Qcow2 && n < 8<<20 && n != total {
			t.Fatalf("%d bytes of %d", n, total)
		}
	})
}

func TestDownload(t *testing.T) {
	raw := disk()
	want, _, _, err := pack(t, file(t, raw), Auto) // any digest of the test's
	if err != nil {
		t.Fatal(err)
	}
	_, _, zip, _ := pack(t, file(t, raw), Auto)
	var ranges []string
	whole := true
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		if !whole {
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(zip[:len(zip)/2])
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(zip))
	}))
	defer web.Close()
	dir := filepath.Join(t.TempDir(), "cache")
	whole = false
	if _, err := Download(t.Context(), web.URL, want.SHA256, dir, nil); err == nil || !strings.Contains(err.Error(), "goes on there") {
		t.Fatalf("a download that breaks: %v", err)
	}
	whole = true
	var done, total int64
	path, err := Download(t.Context(), web.URL, want.SHA256, dir, func(d, n int64) { done, total = d, n })
	if err != nil || done != want.Size || total != want.Size || ranges[1] == "" {
		t.Fatalf("%d of %d bytes, asked for %q: %v", done, total, ranges, err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, zip) {
		t.Fatalf("another file: %v", err)
	}
	if _, err := Download(t.Context(), web.URL, want.SHA256, dir, nil); err != nil || len(ranges) != 2 {
		t.Fatalf("what is there was asked for again: %v", err)
	}
	other := strings.Repeat("ab", 32)
	if _, err := Download(t.Context(), web.URL, other, dir, nil); !errors.Is(err, ErrDigest) {
		t.Fatalf("a wrong digest: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, other+"*")); len(left) > 0 {
		t.Fatalf("left: %v", left)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Download(ctx, web.URL, other, dir, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("a download that is given up: %v", err)
	}
}

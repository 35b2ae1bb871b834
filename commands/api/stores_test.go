package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestBlobIsResumedAndVerified(t *testing.T) {
	dir := t.TempDir()
	b, err := OpenBlobs(dir)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789"), 100)
	digest, total := digestOf(data), int64(len(data))
	step := func(offset int64, chunk []byte, wantAt int64, wantDone bool) {
		t.Helper()
		at, done, err := b.Write(digest, total, offset, chunk)
		if err != nil || at != wantAt || done != wantDone {
			t.Fatalf("write at %d: got %d %t %v; want %d %t", offset, at, done, err, wantAt, wantDone)
		}
	}
	step(0, nil, 0, false)
	step(0, data[:400], 400, false)
	step(0, data[:400], 400, false) // delivered twice
	step(700, data[700:], 400, false)
	if b, err = OpenBlobs(dir); err != nil { // a restart
		t.Fatal(err)
	}
	step(0, nil, 400, false)
	step(400, data[400:], total, true)
	step(0, nil, total, true)
	got, err := os.ReadFile(b.Path(digest))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("stored %d bytes, %v", len(got), err)
	}
}

// TestBlobWithoutRoom: what would fill the server's disk is refused before anything of it is stored.
func TestBlobWithoutRoom(t *testing.T) {
	b, err := OpenBlobs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.roomOnDisk(1 << 60); !errors.Is(err, ErrRoom) {
		t.Fatalf("an exbibyte: %v", err)
	}
	if err := b.roomOnDisk(1); err != nil {
		t.Fatalf("a byte: %v", err)
	}
}

func TestBlobThatIsWrong(t *testing.T) {
	dir := t.TempDir()
	b, err := OpenBlobs(dir)
	if err != nil {
		t.Fatal(err)
	}
	digest := digestOf([]byte("right"))
	for name, c := range map[string]struct {
		digest        string
		total, offset int64
		chunk         string
	}{
		"content":   {digest, 5, 0, "wrong"},
		"too_much":  {digest, 5, 0, "right and more"},
		"no_digest": {"../../etc/passwd", 5, 0, "right"},
		"upper":     {strings.ToUpper(digest), 5, 0, "right"},
		"no_bytes":  {digest, 0, 0, ""},
		"huge":      {digest, wire.MaxBlob + 1, 0, "x"},
		"negative":  {digest, -1, 0, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, done, err := b.Write(c.digest, c.total, c.offset, []byte(c.chunk)); !errors.Is(err, ErrBlob) || done {
				t.Errorf("got %t %v", done, err)
			}
		})
	}
	if _, done, err := b.Write(digest, 5, 0, []byte("right")); err != nil || !done {
		t.Errorf("after wrong ones: %t %v", done, err)
	}
	if left, _ := filepath.Glob(dir + "/*.part"); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestUploadsUnderWayAreBounded(t *testing.T) {
	b, err := OpenBlobs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxParts {
		if _, _, err := b.Write(digestOf([]byte{byte(i)}), 2, 0, []byte{0}); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := b.Write(digestOf([]byte("one more")), 2, 0, []byte{0}); err == nil {
		t.Error("one more was taken")
	}
}

func TestBlobNeedsTheRole(t *testing.T) {
	s, _ := service(t)
	m := nats.NewMsg("put.guest.blob")
	if a := s.putBlob(t.Context(), m).(wire.BlobAnswer); a.Error == nil || a.Error.Code != events.CodeForbidden {
		t.Errorf("got %+v", a)
	}
	m.Subject = "put.ann.blob"
	if a := s.putBlob(t.Context(), m).(wire.BlobAnswer); a.Error == nil || a.Error.Code != events.CodeInvalid {
		t.Errorf("no headers: got %+v", a)
	}
}

func TestSecretsSurviveAndDoNotShow(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "master.key")
	s, err := OpenSecrets(dir, key)
	if err != nil {
		t.Fatal(err)
	}
	one, err := s.Seal("bmc", []byte("first value"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Value("bmc"); !errors.Is(err, ErrNoSecret) {
		t.Errorf("before it is used: %v", err)
	}
	if err := errors.Join(s.Use("bmc", one), s.Use("bmc", one)); err != nil {
		t.Fatal(err)
	}
	two, err := s.Seal("bmc", []byte("second value"))
	if err != nil || one == two {
		t.Fatalf("%v, fingerprints %s %s", err, one, two)
	}
	if s, err = OpenSecrets(dir, key); err != nil { // a restart between Seal and Use
		t.Fatal(err)
	}
	if v, err := s.Value("bmc"); err != nil || string(v) != "first value" {
		t.Errorf("got %q %v", v, err)
	}
	if err := s.Use("bmc", two); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Value("bmc"); err != nil || string(v) != "second value" {
		t.Errorf("got %q %v", v, err)
	}
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil || bytes.Contains(raw, []byte("value")) {
			t.Errorf("%s shows a value (%v)", f, err)
		}
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", f, info.Mode(), err)
		}
	}
}

func TestSecretsWithoutTheirKey(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "master.key")
	s, err := OpenSecrets(dir, key)
	if err != nil {
		t.Fatal(err)
	}
	fp, err := s.Seal("bmc", []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Use("bmc", fp); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSecrets(dir, key); err == nil {
		t.Error("opened with a new key beside old values")
	}
	if err := os.WriteFile(key, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenSecrets(dir, key); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Value("bmc"); err == nil {
		t.Error("opened with another key")
	}
	for _, name := range []string{"", "../x", "A", strings.Repeat("x", 65)} {
		if _, err := s.Seal(name, []byte("v")); !errors.Is(err, ErrSecret) {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

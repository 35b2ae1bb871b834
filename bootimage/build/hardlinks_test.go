package build

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/u-root/mkuimage/cpio"
)

// A package's file with several names: each name has the bytes in the archive.
func TestFilesWithSeveralNames(t *testing.T) {
	dir, work := t.TempDir(), t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	mustFile(t, one, []byte("bytes"))
	if err := os.Chmod(one, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(one, two); err != nil {
		t.Fatal(err)
	}
	var from []string
	for _, path := range []string{one, two} {
		at, err := apart(path, work)
		if err != nil {
			t.Fatal(err)
		}
		from = append(from, at)
	}
	for i, body := range archived(t, from) {
		if body != "bytes" {
			t.Errorf("name %d has %q in the archive", i+1, body)
		}
	}
	alone := filepath.Join(dir, "alone")
	mustFile(t, alone, []byte("x"))
	if at, err := apart(alone, work); err != nil || at != alone {
		t.Errorf("%s is read from %s, %v", alone, at, err)
	}
}

// archived gives the bytes of files as they are in an archive that u-root makes of them.
func archived(t *testing.T, paths []string) []string {
	t.Helper()
	var plain bytes.Buffer
	w, recorder := cpio.Newc.Writer(&plain), cpio.NewRecorder()
	for _, path := range paths {
		r, err := recorder.GetRecord(path)
		if err != nil || r.Mode&0o777 != 0o755 {
			t.Fatalf("%s: mode %o, %v", path, r.Mode, err)
		}
		if err := w.WriteRecord(cpio.MakeReproducible(r)); err != nil {
			t.Fatal(err)
		}
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(plain.Bytes())))
	if err != nil || len(records) != len(paths) {
		t.Fatalf("%d records, %v", len(records), err)
	}
	var out []string
	for _, r := range records {
		body, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(body))
	}
	return out
}

package build

import (
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
	recorder := cpio.NewRecorder()
	for _, path := range []string{one, two} {
		from, err := apart(path, work)
		if err != nil {
			t.Fatal(err)
		}
		r, err := recorder.GetRecord(from)
		if err != nil || r.FileSize != 5 || r.Mode&0o777 != 0o755 {
			t.Errorf("%s: %+v, %v", path, r.Info, err)
		}
	}
	alone := filepath.Join(dir, "alone")
	mustFile(t, alone, []byte("x"))
	if from, err := apart(alone, work); err != nil || from != alone {
		t.Errorf("%s is read from %s, %v", alone, from, err)
	}
}

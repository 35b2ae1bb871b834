//go:build lab

package seed

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"cloudengine/workers/host"
	"cloudengine/workers/modprobe"
)

// TestRealLoops makes a seed's device, reads it, and takes it away while somebody has it open.
func TestRealLoops(t *testing.T) {
	if err := modprobe.Load("loop"); err != nil {
		t.Fatal(err)
	}
	d := &Dir{Path: filepath.Join(t.TempDir(), "seeds")}
	path, err := d.Make(t.Context(), vm1, web)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.Make(t.Context(), vm1, web); err != nil || again != path {
		t.Fatalf("again: %q, %v", again, err)
	}
	l, err := d.Device(path, vm1)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(l.Path(), &st); err != nil || st.Rdev != unix.Mkdev(l.Major, l.Minor) {
		t.Fatalf("%+v has number %x, %v", l, st.Rdev, err)
	}
	b, err := os.ReadFile(l.Path())
	if err != nil {
		t.Fatal(err)
	}
	if files, name := readImage(t, b); name != label || files["user-data"] != userData(web) {
		t.Fatalf("label %q, files %v", name, files)
	}
	held, err := os.Open(l.Path()) // as a domain would
	if err != nil {
		t.Fatal(err)
	}
	if f, err := os.OpenFile(l.Path(), os.O_WRONLY, 0); err == nil { // the kernel lets it be opened, and refuses to write
		if _, err := f.WriteAt(make([]byte, 512), 0); err == nil {
			t.Error("it can be written")
		}
		f.Close()
	}
	name := host.SeedName(vm1, web)
	if err := d.Remove(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if all := have(t, d); len(all) != 1 || all[0].Device != "" {
		t.Fatalf("while it is open: %+v", all)
	}
	if _, err := held.ReadAt(make([]byte, 4096), 0x8000); err != nil {
		t.Errorf("who has it cannot read it any more: %v", err)
	}
	held.Close()
	if all := have(t, d); len(all) != 0 {
		t.Fatalf("left: %+v", all)
	}
}

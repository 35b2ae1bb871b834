package throttle

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"cloudengine/events"
)

func TestLimitsAreRead(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"blkio.throttle.read_bps_device": "253:4 1048576\n253:5 2097152\n", "blkio.throttle.write_bps_device": "",
		"blkio.throttle.read_iops_device": "253:5 500\n", "blkio.throttle.write_iops_device": "8:16 10\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.Limits(t.Context())
	want := map[string]events.DiskLimits{"253:4": {ReadBPS: 1 << 20}, "253:5": {ReadBPS: 2 << 20, ReadIOPS: 500}, "8:16": {WriteIOPS: 10}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("limits %v, %v", got, err)
	}
	for n, l := range want {
		if got[n] != l {
			t.Errorf("device %s: %+v, want %+v", n, got[n], l)
		}
	}
	if err := k.Set(t.Context(), "253:4", events.DiskLimits{WriteBPS: 3 << 20}); err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string]string{"read_bps": "253:4 0", "write_bps": "253:4 3145728", "read_iops": "253:4 0", "write_iops": "253:4 0"} {
		if b, err := os.ReadFile(filepath.Join(dir, "blkio.throttle."+name+"_device")); err != nil || string(b) != line {
			t.Errorf("%s was written %q, want %q (%v)", name, b, line, err)
		}
	}
}

func TestWhatIsNotUnderstoodIsAnError(t *testing.T) {
	for _, text := range []string{"253:4", "253:4 max\n", "253:4 1 2\n", "x:4 1\n", "253:4 -1\n", "\n"} {
		if err := parse(text, func(string, int64) {}); !errors.Is(err, errShape) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := (&Kernel{t.TempDir()}).Set(t.Context(), "253:4\n253:5", events.DiskLimits{}); !errors.Is(err, errShape) {
		t.Errorf("a bad number: %v", err)
	}
}

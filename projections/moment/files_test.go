package moment_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cloudengine/projections"
	"cloudengine/projections/moment"
)

func files(t *testing.T, dir string) []string {
	t.Helper()
	out, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDamagedFiles: whatever happens to the files, no moment shows anything but the fold; damage is told, and repaired from the log.
func TestDamagedFiles(t *testing.T) {
	log, whole := chain(4, 1600), t.TempDir()
	made, _ := keep(t, whole, log, "v")
	makeAll(t, made)
	all := log.Recorded()
	memory := projections.NewMemory()
	for i := range all {
		if err := memory.Apply(&all[i]); err != nil {
			t.Fatal(err)
		}
	}
	want := folded(t, memory)
	for name, harm := range map[string]func(raw []byte) []byte{
		"a page is changed":    func(b []byte) []byte { b[len(b)/3] ^= 1; return b },
		"its first page":       func(b []byte) []byte { b[40] ^= 0x80; return b },
		"its end is changed":   func(b []byte) []byte { b[len(b)-100] ^= 4; return b },
		"cut off":              func(b []byte) []byte { return b[:len(b)*2/3] },
		"cut at a page":        func(b []byte) []byte { return b[:len(b)-1] },
		"empty":                func([]byte) []byte { return nil },
		"something else":       func(b []byte) []byte { return []byte(strings.Repeat("no snapshot ", 1000)) },
		"zeros in the middle":  func(b []byte) []byte { clear(b[len(b)/2 : len(b)/2+512]); return b },
		"something at its end": func(b []byte) []byte { return append(b, 'x') },
	} {
		for _, which := range []int{0, 1, -1} {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			names := files(t, dir)
			if which < 0 {
				which = len(names) - 1
			}
			raw, err := os.ReadFile(names[which])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(names[which], harm(raw), 0o600); err != nil {
				t.Fatal(err)
			}
			k, said := keep(t, dir, log, "v")
			healed(t, k, fmt.Sprintf("%s of file %d", name, which), uint64(len(all)), want)
			if tells := which == len(names)-1 || !strings.HasPrefix(name, "a page") && !strings.HasPrefix(name, "its first") && !strings.HasPrefix(name, "zeros"); tells && !strings.Contains(said.String(), "snapshot") {
				t.Errorf("%s of file %d: nothing was said", name, which)
			}
			makeAll(t, k)
			healed(t, k, name, uint64(len(all)), want)
			if got := files(t, dir); len(got) != len(names) {
				t.Errorf("%s: %d files afterwards, want %d", name, len(got), len(names))
			}
		}
	}
}

// healed asks until there is an answer, which must be right; between questions snapshots are made.
func healed(t *testing.T, k *moment.Keeper, what string, number uint64, want string) {
	t.Helper()
	for try := 0; ; try++ {
		_, err := k.Make(t.Context())
		if err != nil && !errors.Is(err, moment.ErrNotYet) {
			t.Fatalf("%s: %v", what, err)
		}
		if number-k.Reached() > 3*small {
			continue
		}
		m, err := k.Moment(t.Context(), number)
		var got string
		if err == nil {
			got, err = rowsAt(m)
		}
		if errors.Is(err, moment.ErrNotYet) && try < 100 {
			continue
		}
		if err != nil || got != want {
			t.Fatalf("%s: %v: %s", what, err, first(want, got))
		}
		return
	}
}

func TestFullDisk(t *testing.T) {
	dir, full := t.TempDir(), true
	k, err := moment.Open(moment.Options{Dir: dir, Log: chain(10, 700), Every: small, Full: func() bool { return full }})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if made, err := k.Make(t.Context()); made || err != nil || len(files(t, dir)) > 0 {
		t.Fatalf("made %v, %v, with a full disk", made, err)
	}
	if m, err := k.At(t.Context(), "now"); err != nil || m.Number() == 0 {
		t.Fatalf("without snapshots: %v", err)
	}
	full = false
	if made, err := k.Make(t.Context()); !made || err != nil {
		t.Fatalf("made %v, %v, with room again", made, err)
	}
}

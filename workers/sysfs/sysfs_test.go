package sysfs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRead(t *testing.T) {
	for name, size := range map[string]int{"empty": 0, "short": 10, "page": room, "longer": 3*room + 1} {
		want := bytes.Repeat([]byte("x"), size)
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, append(want, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil || got != string(want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	var failed *os.PathError
	if _, err := Read(t.TempDir()); !errors.As(err, &failed) || !errors.Is(err, unix.EISDIR) {
		t.Errorf("a directory: %v", err)
	}
}

func BenchmarkRead(b *testing.B) {
	for name, read := range map[string]func(string) ([]byte, error){"os": os.ReadFile, "sysfs": ReadFile} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := read("/sys/kernel/uevent_seqnum"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

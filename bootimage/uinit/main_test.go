package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeepStartsAgain(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	starts := 0
	keep(ctx, "child", func() *exec.Cmd {
		if starts++; starts == 3 {
			cancel()
		}
		return exec.Command("/bin/sh", "-c", "kill -9 $$")
	})
	if starts != 3 {
		t.Errorf("started %d times", starts)
	}
}

func TestBoundedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "log")
	b := &boundedFile{path: path, limit: 100}
	line := strings.Repeat("x", 29) + "\n"
	for range 50 {
		if n, err := b.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
		for _, p := range []string{path, path + ".1"} {
			if info, err := os.Stat(p); err == nil && info.Size() > b.limit {
				t.Fatalf("%s has %d bytes", p, info.Size())
			}
		}
	}
	for _, p := range []string{path, path + ".1"} {
		if body, err := os.ReadFile(p); err != nil || len(body) == 0 {
			t.Errorf("%s: %d bytes, %v", p, len(body), err)
		}
	}
}

func TestHasFlag(t *testing.T) {
	for line, want := range map[string]bool{"quiet ce.shell\n": true, "ce.shell=1": true, "ce.shell=0": false, "xce.shell": false, "": false} {
		if got := hasFlag(line, "ce.shell"); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

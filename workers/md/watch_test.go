package md

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWaitEndsWithItsContext: at once, though it may wait for an hour.
func TestWaitEndsWithItsContext(t *testing.T) {
	root := sysfsTree(t, map[string]string{"md0/md/array_state": "clean", "md0/md/degraded": "0", "md0/md/dev-sda/state": "in_sync"})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Wait(ctx, root, time.Hour) }()
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on waiting")
	}
	if err := Wait(t.Context(), root, time.Millisecond); err != nil {
		t.Errorf("it waited as long as it may: %v", err)
	}
}

// TestWritesAreNoChange: all states in which an array serves are one, so that guests' writes wake nobody.
func TestWritesAreNoChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), stateFile)
	say := func(text string) {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	say("clean")
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	a := &attribute{fd: fd, name: stateFile}
	if changed, err := a.read(); err != nil || !changed {
		t.Fatalf("first read: %v, %v", changed, err)
	}
	for _, x := range []struct {
		state string
		want  bool
	}{{"active", false}, {"clean", false}, {"write-pending", false}, {StateBroken, true}, {StateBroken, false}, {"clean", true}} {
		say(x.state)
		if changed, err := a.read(); err != nil || changed != x.want {
			t.Errorf("%s: changed %v, %v, want %v", x.state, changed, err, x.want)
		}
	}
}

package main

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// withLock starts a shell that inherits a lock on the file, as a call of xl does, and gives what it prints.
func withLock(t *testing.T, dir, script string) string {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	must(t, err)
	defer f.Close() // the lock lives on in the shell and what it starts
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	cmd := exec.Command("sh", "-c", script)
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

// Seen on real Xen: the agent was killed while xl hung, and its successor waited for it for ever.
func TestCallThatWasLeftBehindAndHangsIsEnded(t *testing.T) {
	dir := t.TempDir()
	pid, err := strconv.Atoi(withLock(t, dir, "sleep 600 >/dev/null 2>&1 & echo $!"))
	must(t, err)
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	lock, err := lockRun(t.Context(), dir, 300*time.Millisecond, slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, lock.Close())
}

// What an agent still waits for is its own business.
func TestCallOfALivingAgentIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	must(t, err)
	defer f.Close()
	cmd := exec.Command("sleep", "600")
	cmd.ExtraFiles = []*os.File{f}
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if n, err := endLeftBehind(f.Name()); err != nil || n != 0 {
		t.Fatalf("%d killed, %v", n, err)
	}
}

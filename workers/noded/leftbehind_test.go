package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/workers/host"
)

// withMark starts a shell that inherits the mark of tools, as a call of xl does, and gives what it prints.
func withMark(t *testing.T, dir, script string) string {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "tools"), os.O_CREATE|os.O_RDWR, 0o600)
	must(t, err)
	defer f.Close()
	cmd := exec.Command("sh", "-c", script)
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

// Seen on real Xen: the agent was killed while xl hung, and its successor waited for it for ever.
func TestCallThatWasLeftBehindAndHangsIsEnded(t *testing.T) {
	dir := t.TempDir()
	pid, err := strconv.Atoi(withMark(t, dir, "sleep 600 >/dev/null 2>&1 & echo $!"))
	must(t, err)
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	lock, tools, err := lockRun(t.Context(), dir, 300*time.Millisecond, slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, errors.Join(lock.Close(), tools.Close()))
}

// What an agent still waits for is its own business.
func TestCallOfALivingAgentIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	f, err := os.OpenFile(filepath.Join(dir, "tools"), os.O_CREATE|os.O_RDWR, 0o600)
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

// A device model lives as long as its domain, and has inherited what its xl had open: the next agent must not wait for it, nor end it.
func TestDeviceModelIsNotLeftBehind(t *testing.T) {
	dir := t.TempDir()
	model := filepath.Join(dir, "xen-qemu-system-i386")
	sh, err := exec.LookPath("sh")
	must(t, err)
	body, err := os.ReadFile(sh)
	must(t, err)
	must(t, os.WriteFile(model, body, 0o700))
	pid, err := strconv.Atoi(withMark(t, dir, model+" -c 'kill -STOP $$' -xen-domid 7 </dev/null >/dev/null 2>&1 & echo $!"))
	must(t, err)
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	for end := time.Now().Add(10 * time.Second); !host.IsDeviceModel(pid); time.Sleep(time.Millisecond) { // it is still the shell before its exec
		if time.Now().After(end) {
			t.Fatal("the test's device model does not look like one")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	lock, tools, err := lockRun(ctx, dir, time.Millisecond, slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, errors.Join(lock.Close(), tools.Close()))
	if unix.Kill(pid, 0) != nil {
		t.Fatal("it was killed")
	}
}

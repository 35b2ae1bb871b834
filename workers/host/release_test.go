package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// inBackground starts a program called xl whose output goes to a log.
func inBackground(t *testing.T, program, log string) <-chan error {
	t.Helper()
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(program, "600")
	cmd.Stdout = f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return done
}

func TestReleaseEndsTheXLThatWaitsForTheDomain(t *testing.T) {
	dir := t.TempDir()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	xl := filepath.Join(dir, "xl")
	if err := os.WriteFile(xl, program, 0o700); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "xl-web.log")
	first := inBackground(t, xl, old)
	if err := os.Rename(old, old+".1"); err != nil { // as the next "xl create" of that name does
		t.Fatal(err)
	}
	second := inBackground(t, xl, old)
	other := inBackground(t, xl, filepath.Join(dir, "xl-web.log2.log"))
	if err := (&XL{Logs: dir}).Release(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	for i, done := range []<-chan error{first, second} {
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Errorf("process %d still waits", i)
		}
	}
	select {
	case err := <-other:
		t.Errorf("another domain's xl was ended: %v", err)
	default:
	}
}

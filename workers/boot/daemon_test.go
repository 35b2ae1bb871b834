package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

func TestDaemonIsSeenToDieAndToComeBack(t *testing.T) {
	d := daemon{pidFile: filepath.Join(t.TempDir(), "pid"), name: "sleep", fd: -1}
	defer d.forget()
	start := func() *exec.Cmd {
		t.Helper()
		cmd := exec.Command("sleep", "60")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d.pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	if d.alive() {
		t.Fatal("alive before it was started")
	}
	for range 2 {
		cmd := start()
		if !d.alive() || d.fd < 0 || !d.alive() {
			t.Fatal("not seen to live")
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		if d.alive() {
			t.Fatal("not seen to die")
		}
	}
}

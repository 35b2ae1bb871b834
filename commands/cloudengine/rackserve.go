package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cloudengine/bootimage/netboot"
	"cloudengine/e2e/rack"

	"golang.org/x/sys/unix"
)

// serveTime bounds how long a control plane may take to stop.
const serveTime = 30 * time.Second

func servePid(dir string) string { return filepath.Join(dir, "serve.pid") }

// startServe starts this program as the control plane inside the rack, unless one runs there already. ended is closed when a
// process that was started here ends.
func startServe(r *rack.Rack, f rackFlags, bus, web string) (logFile string, ended <-chan struct{}, err error) {
	dir := r.Config().Dir
	logFile = filepath.Join(dir, "serve.log")
	if pid, err := runningServe(dir); err != nil || pid != 0 {
		return logFile, make(chan struct{}), err
	}
	self, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("find own program: %w", err)
	}
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return "", nil, fmt.Errorf("open log of the control plane: %w", err)
	}
	defer out.Close()
	args := []string{"serve", "--data", f.data, "--listen", bus, "--http", web, "--netboot-interface", rack.BootBridge, "--image", f.image}
	// Xen switches vector registers at once and not at their first use, which the emulation does not always notice: programs of the
	// control domain then found the registers of another domain (wrong digests, crashes of the agent, TLS records that cannot be read).
	args = append(args, "--netboot-xen-args", netboot.DefaultXenArgs+" spec-ctrl=eager-fpu")
	// Its processors are emulated: without native TSCs each read of one by a guest would be emulated twice.
	args = append(args, "--netboot-dom0-args", strings.TrimSpace(netboot.DefaultDom0Args+" ce.tsc_mode=native "+f.dom0Args))
	args = append(args, "--netboot-linux-args", strings.TrimSpace(netboot.DefaultLinuxArgs+" "+rack.ClockArgs()+" "+f.dom0Args))
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // Ctrl-C is for us; we stop it in order
	if err := r.Start(cmd); err != nil {
		return "", nil, fmt.Errorf("start the control plane: %w", err)
	}
	done := make(chan struct{})
	go func() { // ends with the process, which stopServe ends
		defer close(done)
		_ = cmd.Wait()
	}()
	if err := os.WriteFile(servePid(dir), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		return "", nil, errors.Join(fmt.Errorf("note the control plane's process: %w", err), cmd.Process.Kill())
	}
	return logFile, done, nil
}

// runningServe gives the process id of the rack's control plane, or 0. A number that belongs to another program by now is none.
func runningServe(dir string) (int, error) {
	raw, err := os.ReadFile(servePid(dir))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find the control plane: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", servePid(dir), err)
	}
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil || !bytes.Contains(line, []byte("\x00serve\x00")) || !bytes.Contains(line, []byte("\x00--netboot-interface\x00")) {
		return 0, nil
	}
	return pid, nil
}

// stopServe asks the control plane to end, waits for it, and kills it if it does not.
func stopServe(ctx context.Context, dir string) error {
	pid, err := runningServe(dir)
	if err != nil || pid == 0 {
		return err
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop the control plane: %w", err)
	}
	for end := time.Now().Add(serveTime); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		if pid, err := runningServe(dir); err != nil || pid == 0 {
			return errors.Join(err, removeIfThere(servePid(dir)))
		}
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill the control plane: %w", err)
	}
	return errors.Join(fmt.Errorf("the control plane did not end within %s and was killed", serveTime), removeIfThere(servePid(dir)))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// lastLines gives the end of a log for an error message.
func lastLines(path string, n int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

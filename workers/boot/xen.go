package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/workers/modprobe"
)

// xenModules are loaded in the control domain, in this order.
var xenModules = []string{
	"xen_evtchn", "xen_privcmd", "xen_gntdev", "xen_gntalloc", "xen_blkback", "xen_netback", "loop", "bridge",
}

const (
	xenstoreSocket = "/run/xenstored/socket"
	xenstorePid    = "/run/xen/xenstored.pid"
	consolePid     = "/run/xen/xenconsoled.pid"
	// Marks of what was done in this boot; /run is new at each.
	xenstoreMark = RunDir + "/xenstored.started"
	dom0Mark     = RunDir + "/dom0.initialized"
	// daemonWait bounds how long a daemon may take to answer; under emulation it takes a second.
	daemonWait = 60 * time.Second
	// daemonPeriod is the time between two looks at the daemons.
	daemonPeriod = 2 * time.Second
)

// prepareXen says whether this is Xen's control domain, and makes its file systems if so.
func prepareXen(log *slog.Logger) (bool, error) {
	kind, err := os.ReadFile("/sys/hypervisor/type")
	if errors.Is(err, os.ErrNotExist) || (err == nil && strings.TrimSpace(string(kind)) != "xen") {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for the hypervisor: %w", err)
	}
	if err := modprobe.Load("xenfs"); err != nil {
		return false, err
	}
	if err := mountAll(log, xenMounts[:1]); err != nil {
		return false, err
	}
	caps, err := os.ReadFile("/proc/xen/capabilities")
	if err != nil {
		return false, fmt.Errorf("ask for Xen's capabilities: %w", err)
	}
	if !strings.Contains(string(caps), "control_d") {
		return false, nil
	}
	return true, mountAll(log, xenMounts)
}

// upXen loads the back ends and starts the daemons that do not run yet: xenstored, the entries of domain 0, xenconsoled.
func upXen(ctx context.Context, log *slog.Logger, mods *modprobe.Modules) error {
	for _, name := range xenModules {
		if err := mods.Load(name); err != nil {
			return err
		}
	}
	if err := startXenstore(ctx, log); err != nil {
		return err
	}
	if _, err := os.Stat(dom0Mark); err != nil {
		if err := runTool(ctx, "xen-init-dom0"); err != nil {
			return err
		}
		if err := touch(dom0Mark); err != nil {
			return err
		}
	}
	return startConsole(ctx, log)
}

// startXenstore starts xenstored once per boot. The mark is written before the start: after a kill in between, a
// xenstored that is not there counts as lost only if it had come up, which its pid file proves.
func startXenstore(ctx context.Context, log *slog.Logger) error {
	if pid := running(xenstorePid, "xenstored"); pid != 0 {
		return waitXenstore(ctx)
	}
	_, marked := os.Stat(xenstoreMark)
	_, hadPid := os.Stat(xenstorePid)
	if marked == nil && hadPid == nil {
		return ErrXenstoreLost
	}
	if err := touch(xenstoreMark); err != nil {
		return err
	}
	if err := runTool(ctx, "xenstored", "--pid-file", xenstorePid); err != nil {
		return err
	}
	if err := waitXenstore(ctx); err != nil {
		return err
	}
	log.Info("xenstored started", "pid", running(xenstorePid, "xenstored"))
	return nil
}

// waitXenstore waits until xenstored takes connections.
func waitXenstore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, daemonWait)
	defer cancel()
	for {
		conn, err := net.Dial("unix", xenstoreSocket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for xenstored: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// startConsole starts xenconsoled if it does not run. It may be started again at any time: the rings are in the guests.
func startConsole(ctx context.Context, log *slog.Logger) error {
	if running(consolePid, "xenconsoled") != 0 {
		return nil
	}
	if err := runTool(ctx, "xenconsoled", "--log=guest", "--log-dir="+consoleDir, "--pid-file="+consolePid); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, daemonWait)
	defer cancel()
	for running(consolePid, "xenconsoled") == 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for xenconsoled: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	log.Info("xenconsoled started", "pid", running(consolePid, "xenconsoled"))
	return nil
}

// watchXen starts xenconsoled again when it has died, and ends with ErrXenstoreLost when xenstored has.
func watchXen(ctx context.Context, log *slog.Logger) error {
	store, console := daemon{pidFile: xenstorePid, name: "xenstored", fd: -1}, daemon{pidFile: consolePid, name: "xenconsoled", fd: -1}
	defer store.forget()
	defer console.forget()
	return every(ctx, daemonPeriod, func() error {
		if !store.alive() {
			return ErrXenstoreLost
		}
		if console.alive() {
			return nil
		}
		if err := startConsole(ctx, log); err != nil {
			log.Error("xenconsoled not started", "err", err)
		}
		return nil
	})
}

// daemon is a process that is watched by a pidfd: one cheap system call a look, where reading its files costs many.
type daemon struct {
	pidFile, name string
	fd            int // -1: not open
}

// alive says whether the daemon lives. A new one that has taken the place of one that died is found by its pid file.
func (d *daemon) alive() bool {
	if d.fd >= 0 {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}, 0)
		if n == 0 && err == nil {
			return true
		}
		d.forget()
	}
	pid := running(d.pidFile, d.name)
	if pid == 0 {
		return false
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil && running(d.pidFile, d.name) != pid { // it died, and the number may be another's
		err = unix.Close(fd)
		return err == nil && running(d.pidFile, d.name) != 0
	}
	if err == nil {
		d.fd = fd
	}
	return true
}

func (d *daemon) forget() {
	if d.fd >= 0 {
		_ = unix.Close(d.fd) // it is only looked at
		d.fd = -1
	}
}

// running returns the process of a pid file if it lives and has this name, else 0.
func running(pidFile, name string) int {
	body, err := os.ReadFile(pidFile)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(body)))
	if err != nil || pid <= 0 {
		return 0
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil || !isAlive(string(status), name) {
		return 0
	}
	return pid
}

// isAlive reads /proc/<pid>/status: a process of this name that is not a zombie.
func isAlive(status, name string) bool {
	var called, state string
	for _, line := range strings.Split(status, "\n") {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "Name":
			called = strings.TrimSpace(value)
		case "State":
			state = strings.TrimSpace(value)
		}
	}
	return called == name && !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// runTool runs one of Xen's programs to its end; a daemon returns at once. Its output goes to a file and not to a pipe
// of ours: a daemon keeps it, and must survive noded.
func runTool(ctx context.Context, name string, args ...string) error {
	path := filepath.Join("/var/log/xen", name+".log")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|unix.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	defer out.Close()
	ctx, cancel := context.WithTimeout(ctx, daemonWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(XenBin, name), args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		said, readErr := os.ReadFile(path)
		return fmt.Errorf("run %s: %w: %s", name, errors.Join(err, readErr), strings.TrimSpace(string(said)))
	}
	return nil
}

func touch(path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("mark %s: %w", filepath.Base(path), err)
	}
	return nil
}

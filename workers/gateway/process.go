package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/workers/netspace"
)

// Programs are where Debian's packages have them.
const (
	keepalivedProgram = "/usr/sbin/keepalived"
	conntrackdProgram = "/usr/sbin/conntrackd"
)

// endTime is how long a program is waited for that was told to end, before it is killed.
const endTime = 5 * time.Second

// daemon is one of the programs of a gateway. It is known by its program and by the file that its command line names, so that an agent that
// starts again finds what the one before it has started.
type daemon struct {
	program string
	file    string
	args    []string
	locks   []string // files that it makes, and that keep the next one from starting when it was killed
}

func daemons(dir string) (conntrackd, keepalived daemon) {
	c, k := filepath.Join(dir, conntrackdFile), filepath.Join(dir, keepalivedFile)
	conntrackd = daemon{conntrackdProgram, c, []string{"-C", c}, []string{lockFile, controlFile}}
	keepalived = daemon{program: keepalivedProgram, file: k, args: []string{
		"--dont-fork", "--vrrp", "--log-console", "--use-file=" + k, "--pid=" + filepath.Join(dir, pidFile), "--vrrp_pid=" + filepath.Join(dir, vrrpPidFile),
	}, locks: []string{pidFile, vrrpPidFile}}
	return conntrackd, keepalived
}

// pids gives the processes of a daemon, those that have ended left out; the first is the one to be told.
func (d daemon) pids() ([]int, error) {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []int
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || !bytes.HasPrefix(line, []byte(d.program+"\x00")) || !bytes.Contains(line, []byte(d.file+"\x00")) {
			continue
		}
		out = append(out, pid)
	}
	return out, nil
}

// start starts a daemon in a namespace. It is a session of its own and does not end with the agent. What it prints goes to a file, which is
// begun anew.
func (d daemon) start(path string) error {
	log, err := os.Create(d.file + ".log")
	if err != nil {
		return fmt.Errorf("make log of %s: %w", filepath.Base(d.program), err)
	}
	defer log.Close()
	cmd := exec.Command(d.program, d.args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Setsid: true}
	if err := netspace.Inside(path, cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(d.program), err)
	}
	go func() { _ = cmd.Wait() }() // how it ended is seen by its absence
	return nil
}

// stop ends a daemon; no error if it does not run.
func (d daemon) stop(ctx context.Context) error {
	signal, deadline := unix.SIGTERM, time.Now().Add(endTime)
	for {
		pids, err := d.pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			signal = unix.SIGKILL
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end %s: %w", filepath.Base(d.program), err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// reload lets keepalived read its file again, without a change of who is active.
func (d daemon) reload() error {
	pids, err := d.pids()
	if err != nil || len(pids) == 0 {
		return err
	}
	if err := unix.Kill(pids[0], unix.SIGHUP); err != nil {
		return fmt.Errorf("tell %s of its file: %w", filepath.Base(d.program), err)
	}
	return nil
}

// write replaces a file as a whole.
func write(file, text string) error {
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("put file in place: %w", err)
	}
	return nil
}

func read(file string) (string, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read file: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

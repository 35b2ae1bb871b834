package rack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a long-lived process that outlives whoever started it. It is known by its pid file
// and by a mark: an argument of its command line that only it has (a path below the rack's
// directory). A pid whose command line lacks the mark is somebody else's and is not touched.
type process struct {
	pidFile string
	mark    string
	logFile string
	signal  unix.Signal // asks it to end
}

// find returns a pid file descriptor of the running process, or -1. The caller closes it.
func (p process) find() (pidfd int, err error) {
	raw, err := os.ReadFile(p.pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("read pid: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 1 {
		return -1, nil // half-written by a crash; such a process ends with its namespace
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", pid, err)
	}
	// The descriptor holds the process; only now can its command line be trusted. The command line
	// of a zombie is empty, so a dead process that nobody waited for is not found.
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains("\x00"+string(cmdline), p.mark) {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

func (p process) running() (bool, error) {
	fd, err := p.find()
	if fd >= 0 {
		unix.Close(fd)
	}
	return fd >= 0, err
}

// send signals the process; false if it does not run.
func (p process) send(sig unix.Signal) (bool, error) {
	fd, err := p.find()
	if fd < 0 {
		return false, err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, fmt.Errorf("signal %s: %w", filepath.Base(p.pidFile), err)
	}
	return true, nil
}

// stop ends the process and returns when it is gone: its signal, and SIGKILL after five seconds.
// Nothing happens if it does not run.
func (p process) stop(ctx context.Context) error {
	fd, err := p.find()
	if err != nil {
		return fmt.Errorf("stop %s: %w", filepath.Base(p.pidFile), err)
	}
	if fd < 0 {
		return nil
	}
	defer unix.Close(fd)
	for _, sig := range []unix.Signal{p.signal, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("stop %s: %w", filepath.Base(p.pidFile), err)
		}
		ended, err := waitPidfd(ctx, fd, 5*time.Second)
		if err != nil {
			return fmt.Errorf("stop %s: %w", filepath.Base(p.pidFile), err)
		}
		if ended {
			return nil
		}
	}
	return fmt.Errorf("stop %s: it does not end on SIGKILL", filepath.Base(p.pidFile))
}

func waitPidfd(ctx context.Context, fd int, limit time.Duration) (bool, error) {
	for end := time.Now().Add(limit); time.Now().Before(end); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	return false, nil
}

// launch starts the command as this process in a session of its own and notes its pid. start is
// cmd.Start, or Rack.Start to put it into the namespace.
func (p process) launch(cmd *exec.Cmd, start func(*exec.Cmd) error) error {
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	if err := writeFile(p.pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("note pid: %w", err)
	}
	// Reap it should it end before us. The goroutine ends with the process or with ours.
	go func() { _ = cmd.Wait() }()
	return p.settle(200 * time.Millisecond)
}

// settle returns when the process is known by its command line (a moment after it was started, the
// kernel shows none yet) and has lived for that long, or tells its last words. Bad arguments and
// addresses in use end a program at once, and are worth an error.
func (p process) settle(long time.Duration) error {
	for end := time.Now().Add(long); time.Now().Before(end); {
		fd, err := p.find()
		if err != nil {
			return err
		}
		if fd < 0 {
			time.Sleep(time.Millisecond)
			continue
		}
		ended, err := waitPidfd(context.Background(), fd, time.Until(end))
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("watch process: %w", err)
		}
		if ended {
			break
		}
	}
	if on, err := p.running(); err != nil || on {
		return err
	}
	last, _ := lastLines(p.logFile, 5)
	return fmt.Errorf("it ended at once: %q", last)
}

// lastLines returns the end of a file for an error message or a user; at most n lines.
func lastLines(path string, n int) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at log: %w", err)
	}
	const window = 256 << 10
	buf := make([]byte, min(st.Size(), window))
	k, err := f.ReadAt(buf, st.Size()-int64(len(buf)))
	if err != nil && k == 0 && len(buf) > 0 {
		return nil, fmt.Errorf("read log: %w", err)
	}
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(string(buf[:k]), "\r", ""), "\n"), "\n")
	return lines[max(0, len(lines)-n):], nil
}

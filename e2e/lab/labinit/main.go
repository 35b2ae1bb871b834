// Command labinit is the first program of a lab machine: it mounts the kernel's file systems, loads the drivers of the devices that are
// there, runs one program and says with what code it ended.
//
// It promises that the line with the code is the last on the second serial port, and that the machine stops after it, also when labinit
// itself cannot go on. It does nothing that the boot image's agent does: no network, no clock, no enrolment.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"cloudengine/e2e/lab/job"
	"cloudengine/workers/modprobe"
)

// tty is the port for the program's output; the kernel's messages have the first one.
const tty = "/dev/ttyS1"

// codeFailed is the code when the program could not be run.
const codeFailed = 125

var mounts = []struct{ kind, dir, data string }{
	{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"devtmpfs", "/dev", "mode=0755"}, {"devpts", "/dev/pts", "mode=0620,ptmxmode=0666"},
	{"cgroup2", "/sys/fs/cgroup", ""}, {"tmpfs", "/tmp", "mode=1777"},
}

func main() {
	out, err := setUp()
	code := codeFailed
	if err == nil {
		fmt.Fprintln(out, job.Begin)
		code, err = runJob(out)
	}
	if err != nil {
		fmt.Fprintln(out, "labinit:", err)
	}
	fmt.Fprintln(out, job.End(code))
	if f, ok := out.(*os.File); ok {
		_ = unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1) // wait until it is sent (tcdrain(3))
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // the machine is run with -no-reboot: it ends
}

// setUp makes the machine usable. The output is there even if something failed: then it is the console.
func setUp() (io.Writer, error) {
	for _, m := range mounts {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return os.Stderr, fmt.Errorf("mount %s: %w", m.dir, err)
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, m.data); err != nil {
			return os.Stderr, fmt.Errorf("mount %s on %s: %w", m.kind, m.dir, err)
		}
	}
	out, err := openRaw(tty)
	if err != nil {
		return os.Stderr, err
	}
	return out, prepare()
}

// openRaw opens a serial port that changes no byte of what is written.
func openRaw(path string) (*os.File, error) {
	out, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open port for output: %w", err)
	}
	t, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("set port for output: %w", err)
	}
	t.Oflag &^= unix.OPOST
	t.Cflag = t.Cflag&^unix.CBAUD | unix.B115200
	if err := unix.IoctlSetTermios(int(out.Fd()), unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("set port for output: %w", err)
	}
	return out, nil
}

// prepare loads drivers, mounts configfs and brings the loop-back interface up.
func prepare() error {
	mods, err := modprobe.Open()
	if err != nil {
		return err
	}
	if err := mods.Coldplug(slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		return err
	}
	if err := mods.Load("configfs"); err != nil {
		return err
	}
	if err := unix.Mount("configfs", "/sys/kernel/config", "configfs", 0, ""); err != nil {
		return fmt.Errorf("mount configfs: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loop-back interface: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring loop-back interface up: %w", err)
	}
	return nil
}

// runJob runs the program with its output on out, and returns its code; 128 and the signal's number if a signal ended it.
func runJob(out io.Writer) (int, error) {
	var j job.Job
	body, err := os.ReadFile(job.Path)
	if err != nil {
		return codeFailed, fmt.Errorf("read job: %w", err)
	}
	if err := json.Unmarshal(body, &j); err != nil {
		return codeFailed, fmt.Errorf("decode job: %w", err)
	}
	const consoleLevel = 8 // SYSLOG_ACTION_CONSOLE_LEVEL of syslog(2)
	if _, _, errno := unix.Syscall(unix.SYS_SYSLOG, consoleLevel, 0, uintptr(j.LogLevel)); errno != 0 {
		return codeFailed, fmt.Errorf("set level of kernel messages: %w", errno)
	}
	if err := os.MkdirAll(job.WorkDir, 0o755); err != nil {
		return codeFailed, fmt.Errorf("make directory: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return codeFailed, fmt.Errorf("open input: %w", err)
	}
	fd := out.(*os.File).Fd()
	pid, err := syscall.ForkExec(job.ProgramPath, append([]string{filepath.Base(job.ProgramPath)}, j.Args...), &syscall.ProcAttr{
		Dir:   job.WorkDir,
		Env:   []string{"PATH=/bin:/bbin:/sbin:/usr/sbin:/usr/bin", "HOME=/root", "TMPDIR=/tmp", "GOTRACEBACK=all"},
		Files: []uintptr{null.Fd(), fd, fd},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return codeFailed, fmt.Errorf("start program: %w", err)
	}
	return await(pid)
}

// await waits for the program and, as a first program must, for all that have lost their parents.
func await(pid int) (int, error) {
	for {
		var status unix.WaitStatus
		ended, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return codeFailed, fmt.Errorf("wait for program: %w", err)
		case ended == pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case ended == pid && status.Exited():
			return status.ExitStatus(), nil
		}
	}
}

// Command uinit is what u-root's init starts in the boot image: it runs /bin/noded and starts it again whenever it ends.
//
// It promises that the death of noded touches nothing else on the machine, and that noded's output goes to the console
// and to a file of bounded size. It does no bring-up of its own (that is workers/boot, inside noded) and never ends by
// itself. With ce.shell on the kernel command line it also keeps a shell on the console, and the log only in the file.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	agent   = "/bin/noded"
	shell   = "/bbin/gosh"
	logFile = "/run/cloudengine/noded.log"
	// logLimit bounds the log file in bytes; at the limit it is moved to noded.log.1, which replaces the older one.
	logLimit = 1 << 20
	// shortest and longest wait before noded is started again; the wait doubles while it dies within steady.
	minWait = 200 * time.Millisecond
	maxWait = 10 * time.Second
	steady  = 30 * time.Second
)

func main() {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
	os.Setenv("PATH", "/bin:/bbin:/usr/lib/xen-4.17/bin:/usr/sbin:/usr/bin:/sbin")
	var out io.Writer = &boundedFile{path: logFile, limit: logLimit}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		fmt.Fprintf(os.Stderr, "uinit: read kernel command line: %v\n", err)
	}
	if hasFlag(string(line), "ce.shell") {
		go keep(context.Background(), "shell", func() *exec.Cmd { return shellCommand() })
	} else {
		out = io.MultiWriter(&tolerant{os.Stderr}, out)
	}
	keep(context.Background(), "noded", func() *exec.Cmd {
		cmd := exec.Command(agent)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmd
	})
}

// keep runs what start returns, again and again, until ctx ends.
func keep(ctx context.Context, name string, start func() *exec.Cmd) {
	wait := minWait
	for ctx.Err() == nil {
		began := time.Now()
		err := run(start())
		if time.Since(began) > steady {
			wait = minWait
		}
		fmt.Fprintf(os.Stderr, "uinit: %s ended after %s: %v; starting it again in %s\n",
			name, time.Since(began).Round(time.Millisecond), err, wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, maxWait)
	}
}

// run starts cmd and waits for the process itself, not for others that inherited its output.
func run(cmd *exec.Cmd) error {
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Wait()
}

func shellCommand() *exec.Cmd {
	cmd := exec.Command(shell)
	tty, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		fmt.Fprintf(os.Stderr, "uinit: open console for the shell: %v\n", err)
		return cmd
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	return cmd
}

// hasFlag says whether a kernel command line holds name as a word, or name=1.
func hasFlag(line, name string) bool {
	for _, word := range strings.Fields(line) {
		if word == name || word == name+"=1" {
			return true
		}
	}
	return false
}

// tolerant writes to w and reports success even if that fails: a broken console must not stop the log file.
type tolerant struct{ w io.Writer }

func (t *tolerant) Write(p []byte) (int, error) {
	_, _ = t.w.Write(p)
	return len(p), nil
}

// boundedFile appends to a file and keeps it and its predecessor below limit bytes each. Errors are not reported: the
// memory file system is the only place there is, and noded must not die of a full one.
type boundedFile struct {
	path  string
	limit int64
	file  *os.File
	size  int64
}

func (b *boundedFile) Write(p []byte) (int, error) {
	if b.file != nil && b.size+int64(len(p)) > b.limit {
		b.file.Close()
		b.file = nil
		_ = os.Rename(b.path, b.path+".1")
	}
	if b.file == nil {
		_ = os.MkdirAll(filepath.Dir(b.path), 0o755)
		f, err := os.OpenFile(b.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return len(p), nil
		}
		b.file = f
		b.size, _ = f.Seek(0, io.SeekEnd)
	}
	n, _ := b.file.Write(p)
	b.size += int64(n)
	return len(p), nil
}

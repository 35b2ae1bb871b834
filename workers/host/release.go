package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// logDir is where Debian's xl writes.
const logDir = "/var/log/xen"

// Release ends the process that "xl create" without -e leaves in the background. It would destroy the domain or make it again, when its
// guest ends, without our stamp and beside ours. It is known by its log, xl-<name>.log, which libxl may have moved on to .1, .2, …
// (libxl_create_logfile). One that was started in the foreground is not found: it has no log.
func (x *XL) Release(_ context.Context, name string) error {
	dir := x.Logs
	if dir == "" {
		dir = logDir
	}
	log := regexp.MustCompile("^" + regexp.QuoteMeta(filepath.Join(dir, "xl-"+name+".log")) + `(\.\d+)?$`)
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	for _, proc := range all {
		pid, err := strconv.Atoi(filepath.Base(proc))
		if err != nil || !writes(proc, log) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has ended
		}
		if writes(proc, log) { // still, so the number is not another program's by now
			err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("end the xl that waits for domain %s: %w", name, err)
		}
	}
	return nil
}

// writes says whether a process is an xl whose output goes to such a file.
func writes(proc string, log *regexp.Regexp) bool {
	name, err := os.ReadFile(proc + "/comm")
	if err != nil || strings.TrimSpace(string(name)) != "xl" {
		return false
	}
	to, err := os.Readlink(proc + "/fd/1")
	return err == nil && log.MatchString(to)
}

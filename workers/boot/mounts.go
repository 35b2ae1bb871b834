package boot

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is a file system that a machine has.
type mount struct {
	kind, dir, data string
	flags           uintptr
}

// plainMounts are needed on every machine. The root is the kernel's own tmpfs, bounded to half of the memory, so /run
// needs none of its own. proc comes first: it says what is mounted.
var plainMounts = []mount{
	{"proc", "/proc", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"sysfs", "/sys", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"devtmpfs", "/dev", "mode=0755", unix.MS_NOSUID},
	{"devpts", "/dev/pts", "mode=0620,ptmxmode=0666", unix.MS_NOSUID | unix.MS_NOEXEC},
	{"cgroup2", "/sys/fs/cgroup", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
}

// xenMounts are needed in Xen's control domain. The console logs have a file system of their own, so that whatever
// guests print cannot take more memory than this.
var xenMounts = []mount{
	{"xenfs", "/proc/xen", "", 0},
	{"tmpfs", consoleDir, "mode=0700,size=128m", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
}

// mountAll mounts what is not yet mounted, in order.
func mountAll(log *slog.Logger, mounts []mount) error {
	for _, m := range mounts {
		info, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read mounts: %w", err)
		}
		if isMounted(string(info), m) {
			continue
		}
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.dir, err)
		}
		log.Debug("mounted", "kind", m.kind, "dir", m.dir)
	}
	return nil
}

// isMounted says whether the text of /proc/self/mountinfo (proc(5)) names a mount of this kind at this place.
func isMounted(mountinfo string, m mount) bool {
	for _, line := range strings.Split(mountinfo, "\n") {
		left, right, ok := strings.Cut(line, " - ")
		if !ok {
			continue
		}
		fields, kind := strings.Fields(left), strings.Fields(right)
		if len(fields) > 4 && fields[4] == m.dir && len(kind) > 0 && kind[0] == m.kind {
			return true
		}
	}
	return false
}

// makeDirectories makes what Xen's tools and noded expect; a /var/run that is a directory of its own is refused:
// libxl would not find its lock file, and domains could be started but not ended.
func makeDirectories() error {
	for dir, mode := range map[string]os.FileMode{
		RunDir: 0o700, "/run/xen": 0o755, "/run/xenstored": 0o755, "/var/lib/xen": 0o755, "/etc/xen": 0o755,
		"/var/log/xen": 0o755, consoleDir: 0o700,
	} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	if err := os.Chmod(RunDir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	target, err := os.Readlink("/var/run")
	if errors.Is(err, os.ErrNotExist) {
		target, err = "/run", os.Symlink("/run", "/var/run")
	}
	if err != nil {
		return fmt.Errorf("check that /var/run is a link to /run: %w", err)
	}
	if target != "/run" && target != "../run" {
		return fmt.Errorf("check that /var/run is a link to /run: it points to %s", target)
	}
	f, err := os.OpenFile("/etc/xen/xl.conf", os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make xl.conf: %w", err)
	}
	return f.Close()
}

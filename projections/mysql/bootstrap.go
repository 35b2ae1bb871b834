package mysql

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Where Debian's packages put the server and its bootstrap scripts.
const (
	serverPath  = "/usr/sbin/mariadbd"
	scriptsPath = "/usr/share/mysql"
)

var versionPattern = regexp.MustCompile(`Ver (\d+\.\d+)\.`)

// findServer gives the server's program and its version, as "10.11": a major upgrade gets a new folder, and is filled from the log.
func findServer(ctx context.Context) (binary, version string, err error) {
	binary, err = exec.LookPath("mariadbd")
	if err != nil {
		binary = serverPath // not on the path of every user
	}
	out, err := exec.CommandContext(ctx, binary, "--no-defaults", "--version").Output()
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("find database server: %w", ErrNoServer)
	}
	if err != nil {
		return "", "", fmt.Errorf("ask %s for its version: %w", binary, err)
	}
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return "", "", fmt.Errorf("ask %s for its version: it answered %q", binary, out)
	}
	return binary, string(m[1]), nil
}

// bootstrap makes the server's files if they are not there. They are written aside and renamed when they are whole, so that a killed
// bootstrap does not look finished.
func (p *Private) bootstrap(ctx context.Context) error {
	if _, err := os.Stat(p.data); err == nil {
		return nil
	}
	script, err := p.bootstrapScript()
	if err != nil {
		return err
	}
	tmp := p.data + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("clear an unfinished database: %w", err)
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return fmt.Errorf("make database files: %w", err)
	}
	args := append([]string{"--no-defaults", "--bootstrap", "--silent-startup", "--basedir=/usr", "--datadir=" + tmp, "--tmpdir=" + p.tmpDir(), "--lc-messages=en_US",
		"--log-warnings=0", "--enforce-storage-engine=", "--max_allowed_packet=8M", "--net_buffer_length=16K", "--innodb-log-file-size=64M"}, asRoot()...)
	cmd := exec.CommandContext(ctx, p.binary, args...)
	cmd.Env = environment()
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make database files: %w: %s", err, strings.TrimSpace(string(out)))
	}
	if err := os.Rename(tmp, p.data); err != nil {
		return fmt.Errorf("make database files: %w", err)
	}
	return nil
}

// bootstrapScript is what mariadb-install-db would feed to the server; that script needs programs of another package.
func (p *Private) bootstrapScript() (string, error) {
	var s strings.Builder
	s.WriteString("create database if not exists mysql;\nuse mysql;\n")
	fmt.Fprintf(&s, "SET @auth_root_socket='%s';\n", strings.ReplaceAll(p.user, "'", "''"))
	for _, name := range []string{"mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data", "maria_add_gis_sp_bootstrap"} {
		b, err := os.ReadFile(filepath.Join(scriptsPath, name+".sql"))
		if err != nil {
			return "", fmt.Errorf("read bootstrap script of the database: %w (%w)", err, ErrNoServer)
		}
		s.Write(b)
		s.WriteString("\n")
	}
	return s.String(), nil
}

// stopOrphan ends a server that a killed process of ours left behind on these files. The caller holds the lock.
func (p *Private) stopOrphan(ctx context.Context) error {
	pid, ok := p.orphan()
	if !ok {
		return nil
	}
	p.log.Warn("a database server was left behind, it is stopped", "pid", pid)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop database server %d that was left behind: %w", pid, err)
		}
		for end := time.Now().Add(stopLimit); time.Now().Before(end); {
			if now, ok := p.orphan(); !ok || now != pid {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("stop database server %d that was left behind: %w", pid, ctx.Err())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return fmt.Errorf("stop database server %d that was left behind: it does not end", pid)
}

// orphan finds a running server on our files: the process of the pid file, if it is that program with that folder.
func (p *Private) orphan() (int, bool) {
	b, err := os.ReadFile(p.pidFile())
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, false
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return 0, false
	}
	args := strings.Split(string(cmdline), "\x00")
	if !strings.HasSuffix(args[0], "mariadbd") {
		return 0, false
	}
	for _, a := range args {
		if a == "--datadir="+p.data {
			return pid, true
		}
	}
	return 0, false
}

// environment is what the child gets: this process's own, without the service manager's socket. The child would tell it that the service
// is ready, or is stopping.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "NOTIFY_SOCKET=") })
}

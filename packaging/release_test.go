package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// made is one release, made twice from the same programs, and the package unpacked.
type made struct {
	release
	out, root string
}

// TestRelease makes a release, looks at it as lintian does, and runs a server from the unpacked package.
func TestRelease(t *testing.T) {
	m := makeTwice(t)
	t.Run("digests", m.digests)
	t.Run("fields", m.fields)
	t.Run("form", m.form)
	t.Run("dpkg takes it", m.unpacked)
	t.Run("unit", m.unit)
	t.Run("server", m.server)
}

func makeTwice(t *testing.T) *made {
	m := &made{}
	if err := m.identify(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.bin = filepath.Join(t.TempDir(), "bin")
	if err := m.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	var outs [2]string
	for i := range outs {
		outs[i] = t.TempDir()
		if err := m.pack(t.Context(), t.TempDir(), outs[i]); err != nil {
			t.Fatal(err)
		}
	}
	first, second := read(t, filepath.Join(outs[0], "SHA256SUMS")), read(t, filepath.Join(outs[1], "SHA256SUMS"))
	if first != second {
		t.Fatalf("the same programs gave two releases:\n%s\n%s", first, second)
	}
	m.out, m.root = outs[0], filepath.Join(t.TempDir(), "root")
	m.mustRun(t, "dpkg-deb", "--extract", m.deb(t), m.root)
	return m
}

func (m *made) deb(t *testing.T) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(m.out, "*.deb"))
	if err != nil || len(list) != 1 {
		t.Fatalf("packages: %v %v", list, err)
	}
	return list[0]
}

func (m *made) mustRun(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := m.run(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func (m *made) digests(t *testing.T) {
	cmd := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	cmd.Dir = m.out
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Count(out, []byte(": OK")) != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	list, err := filepath.Glob(filepath.Join(m.out, "*.tar.gz"))
	if err != nil || len(list) != 1 {
		t.Fatalf("tarballs: %v %v", list, err)
	}
	for _, want := range []string{"/bin/cloudengine", "/bin/noded", "/systemd/cloudengine.service", "/man/man1/cloudengine-serve.1.gz", "/completion/cloudengine.bash", "/README.md"} {
		if text := m.mustRun(t, "tar", "-tzf", list[0]); !strings.Contains(text, want+"\n") {
			t.Errorf("the tarball lacks %s", want)
		}
	}
}

func (m *made) fields(t *testing.T) {
	for field, want := range map[string]string{"Package": "cloudengine", "Version": m.version, "Depends": "mariadb-server-core", "Architecture": m.arch} {
		if got := m.mustRun(t, "dpkg-deb", "--field", m.deb(t), field); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	info := t.TempDir()
	m.mustRun(t, "dpkg-deb", "--control", m.deb(t), info)
	if got := read(t, filepath.Join(info, "conffiles")); got != "/etc/cloudengine/config.yaml\n" {
		t.Errorf("conffiles: %q", got)
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		m.mustRun(t, "sh", "-n", filepath.Join(info, script))
	}
	cmd := exec.Command("md5sum", "--check", "--strict", "--quiet", filepath.Join(info, "md5sums"))
	cmd.Dir = m.root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("md5sums: %v\n%s", err, out)
	}
}

// form checks owners, modes, the manual and the places of files.
func (m *made) form(t *testing.T) {
	for line := range strings.Lines(m.mustRun(t, "dpkg-deb", "--contents", m.deb(t))) {
		words := strings.Fields(line)
		mode, owner, name := words[0], words[1], words[5]
		program := strings.HasPrefix(name, "./usr/bin/") && name != "./usr/bin/" || name == "./usr/lib/cloudengine/noded"
		if want := map[bool]string{true: "-rwxr-xr-x", false: "-rw-r--r--"}[program]; owner != "root/root" || mode[0] == '-' && mode != want || mode[0] == 'd' && mode != "drwxr-xr-x" {
			t.Errorf("mode or owner: %s", line)
		}
	}
	commands := 0
	err := filepath.WalkDir(filepath.Join(m.root, "usr/share/man"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		commands++
		if page := m.mustRun(t, "gzip", "-dc", path); !strings.Contains(page, ".TH \"CLOUDENGINE") || !strings.Contains(page, ".SH ") {
			t.Errorf("%s is no manual page", path)
		}
		return nil
	})
	if err != nil || commands < 30 {
		t.Errorf("%d manual pages: %v", commands, err)
	}
	for _, name := range []string{"copyright", "changelog.gz", "modules.txt", "bus.md"} {
		if info, err := os.Stat(filepath.Join(m.root, "usr/share/doc/cloudengine", name)); err != nil || info.Size() < 100 {
			t.Errorf("%s: %v", name, err)
		}
	}
	m.mustRun(t, "bash", "-n", filepath.Join(m.root, "usr/share/bash-completion/completions/cloudengine"))
}

// unpacked has dpkg itself unpack the package into an empty system, and makes user and directory as the postinst does.
func (m *made) unpacked(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	m.mustRun(t, "dpkg", "--root="+root, "--force-not-root", "--log="+filepath.Join(root, "log"), "--unpack", m.deb(t))
	if got := read(t, filepath.Join(root, "var/lib/dpkg/status")); !strings.Contains(got, "Status: install ok unpacked") {
		t.Errorf("status: %s", got)
	}
	m.mustRun(t, "systemd-sysusers", "--root="+root, filepath.Join(root, "usr/lib/sysusers.d/cloudengine.conf"))
	if got := read(t, filepath.Join(root, "etc/passwd")); !strings.HasPrefix(got, "cloudengine:") {
		t.Errorf("passwd: %s", got)
	}
	m.mustRun(t, "systemd-tmpfiles", "--root="+root, "--create", filepath.Join(root, "usr/lib/tmpfiles.d/cloudengine.conf"))
	if info, err := os.Stat(filepath.Join(root, "var/lib/cloudengine")); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("data directory: %v %v", info, err)
	}
}

func (m *made) unit(t *testing.T) {
	text := read(t, filepath.Join(m.root, "lib/systemd/system/cloudengine.service"))
	text = strings.ReplaceAll(text, "ExecStart=/usr/bin/", "ExecStart="+m.root+"/usr/bin/")
	unit := filepath.Join(t.TempDir(), "cloudengine.service")
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "cloudengine.service:") {
		t.Errorf("systemd-analyze verify (package systemd): %v\n%s", err, out)
	}
}

// server sets a server up from the unpacked package and asks it something.
func (m *made) server(t *testing.T) {
	dir := t.TempDir()
	program, data, config := filepath.Join(m.root, "usr/bin/cloudengine"), filepath.Join(dir, "data"), filepath.Join(dir, "config.yaml")
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "HOME="+dir, "CLOUDENGINE_CONFIG="+config)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("init", "--data", data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if got := strings.TrimSpace(run("version")); got != m.version {
		t.Errorf("version %q, want %q", got, m.version)
	}
	run("check")
	run("check", "--config", filepath.Join(m.root, "etc/cloudengine/config.yaml"), "--data", data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
	cmd := exec.Command(program, "serve", "--config", config)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &words, &words
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	url, err := endpoint(t.Context(), filepath.Join(data, "endpoints.json"), ended)
	if err == nil {
		if got := run("user", "list", "--server", url); !strings.Contains(got, "admin") {
			t.Errorf("users: %s", got)
		}
		_ = cmd.Process.Signal(syscall.SIGTERM) // it is running, or Wait tells
		err = <-ended
	}
	if err != nil {
		t.Fatalf("serve: %v\n%s", err, words.String())
	}
}

// endpoint waits until a server says where it is.
func endpoint(ctx context.Context, file string, ended <-chan error) (string, error) {
	limit, tick := time.After(60*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		var where struct{ Bus string }
		if raw, err := os.ReadFile(file); err == nil && json.Unmarshal(raw, &where) == nil {
			return where.Bus, nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case err := <-ended:
			return "", fmt.Errorf("it ended: %w", err)
		case <-limit:
			return "", fmt.Errorf("not ready in time")
		case <-tick.C:
		}
	}
}

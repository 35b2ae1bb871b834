package mysql_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloudengine/projections/mysql"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

func awaitGone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d does not end", pid)
		}
	}
}

// The first start makes the files, the second finds the rows, in a folder whose name is too long for a socket.
func TestPrivateServerKeepsItsRows(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long-", 30))
	began := time.Now()
	d, err := mysql.Open(t.Context(), mysql.Config{Dir: dir, Pool: 64, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("first start took %s", time.Since(began))
	apply(t, d.DB, history(21, 100), 500)
	want := dump(t, d.DB)
	if _, err := mysql.StartPrivate(t.Context(), dir, 64, quiet()); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("two owners of one folder: %v", err)
	}
	pid := d.Private().PID()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Fatal("the server outlives Close")
	}
	began = time.Now()
	if d, err = mysql.Open(t.Context(), mysql.Config{Dir: dir, Pool: 64, Log: quiet()}); err != nil {
		t.Fatal(err)
	}
	t.Logf("second start took %s", time.Since(began))
	defer d.Close()
	if got := dump(t, d.DB); got != want {
		t.Fatal(diff(want, got))
	}
}

// A bootstrap that was killed does not look finished.
func TestUnfinishedBootstrap(t *testing.T) {
	dir := t.TempDir()
	p, err := mysql.StartPrivate(t.Context(), dir, 64, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Glob(filepath.Join(dir, "mariadb-*.lock"))
	if err != nil || len(data) != 1 {
		t.Fatal(data, err)
	}
	name := strings.TrimSuffix(data[0], ".lock")
	if err := errors.Join(os.Rename(name, name+".tmp"), os.RemoveAll(filepath.Join(name+".tmp", "mysql"))); err != nil {
		t.Fatal(err)
	}
	if p, err = mysql.StartPrivate(t.Context(), dir, 64, quiet()); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestMissingServer(t *testing.T) {
	if _, err := os.Stat("/usr/sbin/mariadbd"); err != nil {
		t.Fatal(err)
	}
	fake := t.TempDir()
	if err := os.WriteFile(filepath.Join(fake, "mariadbd"), []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", fake)
	if _, err := mysql.StartPrivate(t.Context(), t.TempDir(), 64, quiet()); !errors.Is(err, mysql.ErrNoServer) || !strings.Contains(err.Error(), "apt-get install") {
		t.Fatalf("no server: %v", err)
	}
}

// TestHelperOwner is not a test: it is the process that owns a server in the tests below.
func TestHelperOwner(t *testing.T) {
	dir := os.Getenv("CE_TEST_OWNER")
	if dir == "" {
		return
	}
	p, err := mysql.StartPrivate(t.Context(), dir, 64, quiet())
	if err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println("pid", p.PID())
	select {} // until it is killed
}

func owner(t *testing.T, dir string) (*exec.Cmd, int) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], "-test.run=^TestHelperOwner$")
	cmd.Env = append(os.Environ(), "CE_TEST_OWNER="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if s, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
			pid, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			return cmd, pid
		}
		if strings.HasPrefix(lines.Text(), "error") {
			t.Fatal(lines.Text())
		}
	}
	t.Fatal("the owner said nothing")
	return nil, 0
}

// When the owner is killed, its server ends; the next owner waits for that and goes on.
func TestOwnerIsKilled(t *testing.T) {
	dir := t.TempDir()
	cmd, pid := owner(t, dir)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p, err := mysql.StartPrivate(t.Context(), dir, 64, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the next owner had its server after %s", time.Since(began))
	if p.PID() == pid {
		t.Fatal("the server of the killed owner was taken over")
	}
	awaitGone(t, pid)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// A server that outlived its owner all the same is stopped by the next one.
func TestOrphanIsStopped(t *testing.T) {
	dir := t.TempDir()
	cmd, pid := owner(t, dir)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil { // it cannot hear that its owner died
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !alive(pid) {
		t.Fatal("there is no orphan to stop")
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p, err := mysql.StartPrivate(t.Context(), dir, 64, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	awaitGone(t, pid)
}

// By a DSN: a database of our own is made in a server that is there.
func TestDSN(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "ce_other"} {
		dsn := me.Username + "@unix(" + server.Socket() + ")/" + name
		d, err := mysql.Open(t.Context(), mysql.Config{DSN: dsn, Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		var got string
		err = d.DB.QueryRowContext(t.Context(), "SELECT DATABASE()").Scan(&got)
		if want := map[string]string{"": mysql.DefaultDatabase, "ce_other": "ce_other"}[name]; err != nil || got != want {
			t.Errorf("database %q, want %q; %v", got, want, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := mysql.Open(t.Context(), mysql.Config{DSN: "secret-password@nowhere", Log: quiet()}); err == nil || strings.Contains(err.Error(), "secret-password") {
		t.Errorf("a DSN that cannot be read: %v", err)
	}
}

// TestServiceManagerIsNotTheServers: mariadbd would tell systemd that this service is ready, or stopping.
func TestServiceManagerIsNotTheServers(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "notify"))
	p, err := mysql.StartPrivate(t.Context(), t.TempDir(), 64, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "environ"))
	if err != nil || len(env) == 0 || strings.Contains(string(env), "NOTIFY_SOCKET=") {
		t.Fatalf("the server's environment: %q, %v", env, err)
	}
}

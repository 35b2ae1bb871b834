package scenarios

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"cloudengine/commands/api/client"
	"cloudengine/e2e/rack"
	"cloudengine/events"
)

// The rack that all tests share.
var (
	repo   string // root of the repository
	dir    string // state of this run
	shared *rack.Rack
	bus    *client.Client
)

// Where the rack is reached, and its namespace: this run's own, so that nothing another run has left behind is in its way.
var (
	listen, web string
	namespace   = fmt.Sprintf("cetest-%d", os.Getpid())
)

// upIn lets someone who works on a scenario use one rack for many runs. It must have been raised with --dom0-args ce.shell.
var upIn = flag.String("up", "", "use the rack that is up, with its state in `directory`/rack and its log in directory/data, and leave it up")

func TestMain(m *testing.M) {
	if code, is := rack.RunHelper(os.Args); is {
		os.Exit(code)
	}
	flag.Parse()
	code, err := raise(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "scenarios:", err)
		code = 1
	}
	os.Exit(code)
}

// raise brings the rack up with the users' own command, runs the tests, and stops it.
func raise(m *testing.M) (code int, err error) {
	if err := rack.Check(); err != nil {
		return 1, err
	}
	if repo, err = filepath.Abs("../.."); err != nil {
		return 1, err
	}
	if *upIn != "" {
		return useRack(m)
	}
	if listen, web, err = freePorts(); err != nil {
		return 1, err
	}
	if dir, err = os.MkdirTemp("", "ce"); err != nil {
		return 1, err
	}
	defer func() {
		down := command(context.Background(), "rack", "down")
		down.Stdout, down.Stderr = os.Stderr, os.Stderr
		err = errors.Join(err, down.Run())
		if code == 0 && err == nil {
			err = os.RemoveAll(dir)
		} else {
			fmt.Fprintln(os.Stderr, "scenarios: logs are left in", dir)
		}
	}()
	began := time.Now()
	up := rackUp(context.Background())
	up.Stdout, up.Stderr = os.Stderr, os.Stderr
	if err := up.Run(); err != nil {
		return 1, fmt.Errorf("raise the rack: %w", err)
	}
	fmt.Fprintf(os.Stderr, "scenarios: the rack is up after %.0f s\n", time.Since(began).Seconds())
	if shared, err = rack.Open(filepath.Join(dir, "rack")); err != nil {
		return 1, err
	}
	return runAll(m)
}

// freePorts finds two loopback addresses that nobody listens at.
func freePorts() (a, b string, err error) {
	for _, to := range []*string{&a, &b} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // after both are found, or they could be one
		*to = l.Addr().String()
	}
	return a, b, nil
}

// useRack runs the tests on a rack that someone else has raised.
func useRack(m *testing.M) (code int, err error) {
	if dir, err = filepath.Abs(*upIn); err != nil {
		return 1, err
	}
	if shared, err = rack.Open(filepath.Join(dir, "rack")); err != nil {
		return 1, err
	}
	cfg := shared.Config()
	listen, web, namespace = cfg.Forwards[0].Listen, cfg.Forwards[1].Listen, cfg.Namespace
	return runAll(m)
}

// rackUp is the command that raises the rack, and that starts again what of it has ended. Its machines have a shell on their console.
func rackUp(ctx context.Context) *exec.Cmd {
	return command(ctx, "rack", "up", "--detach", "--image", filepath.Join(repo, "bin/image"), "--guest", filepath.Join(repo, "bin/guest"),
		"--listen", listen, "--http", web, "--namespace", namespace, "--storage-nodes", "2", "--proxies", "2", "--networks", "--dom0-args", "ce.shell")
}

func runAll(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if bus, err = client.Connect(ctx, "nats://"+listen, filepath.Join(dir, "data", "admin.nk")); err != nil {
		return 1, err
	}
	defer bus.Close()
	return m.Run(), nil
}

// built finds what was built: in bin, or for a rack that is up and has its own, beside it.
func built(name string) string {
	if own := filepath.Join(dir, name); *upIn != "" {
		if _, err := os.Stat(own); err == nil {
			return own
		}
	}
	return filepath.Join(repo, "bin", name)
}

// command is the program that users have, on this run's rack.
func command(ctx context.Context, args ...string) *exec.Cmd {
	if args[0] == "rack" {
		args = append(args, "--rack-dir", filepath.Join(dir, "rack"), "--data", filepath.Join(dir, "data"))
	} else {
		args = append([]string{"--server", "nats://" + listen, "--nkey", filepath.Join(dir, "data", "admin.nk")}, args...)
	}
	cmd := exec.CommandContext(ctx, built("cloudengine"), args...)
	cmd.Dir = dir
	return cmd
}

// cli runs the command line and gives what it printed and its exit code.
func cli(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Minute) // also for those who clean up
	defer cancel()
	cmd := command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run cloudengine %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs a command line that must succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, code := cli(t, args...)
	if code != 0 {
		t.Fatalf("cloudengine %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// refusedWith runs a command line that must end with an exit code, and a message that holds a word.
func refusedWith(t *testing.T, code int, word string, args ...string) {
	t.Helper()
	out, errs, got := cli(t, args...)
	if got != code || !strings.Contains(errs, word) {
		t.Fatalf("cloudengine %s: exit code %d, want %d and %q in\n%s%s", strings.Join(args, " "), got, code, word, out, errs)
	}
}

// row reads one object by the bus.
func row(t *testing.T, kind events.Kind, name string) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a, err := bus.Read(ctx, kind, "get", events.ReadRequest{ID: name})
	if err != nil {
		t.Fatalf("read %s %s: %v", kind, name, err)
	}
	var r map[string]any
	if len(a.Items) != 1 || json.Unmarshal(a.Items[0], &r) != nil {
		t.Fatalf("read %s %s: %d items", kind, name, len(a.Items))
	}
	return r
}

func text(r map[string]any, column string) string {
	if r[column] == nil {
		return ""
	}
	return fmt.Sprint(r[column])
}

// eventually waits until a condition holds, and fails with what it last said.
func eventually(t *testing.T, limit time.Duration, what string, holds func() (bool, string)) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, said := holds()
		if ok {
			t.Logf("%s: after %.1f s", what, time.Since(began).Seconds())
			return
		}
		if time.Since(began) > limit {
			t.Fatalf("%s: not within %s; last: %s", what, limit, said)
		}
		<-tick.C
	}
}

func vmState(t *testing.T, name, want string) func() (bool, string) {
	return func() (bool, string) {
		r := row(t, events.KindVM, name)
		return text(r, "state") == want, fmt.Sprintf("%s on %s: %s", text(r, "state"), text(r, "host_name"), text(r, "message"))
	}
}

// inspect asks a host live.
func inspect(t *testing.T, host string) []events.DomainReport {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a, err := bus.Inspect(ctx, events.MachineID(host))
	if err != nil {
		t.Fatalf("inspect %s: %v", host, err)
	}
	return a.Domains
}

// facts follows FEED from a position and gives the types of the events of one object until one of a type came.
func facts(t *testing.T, f client.Feed, until string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var types []string
	enough := errors.New("enough")
	err := bus.Follow(ctx, f, func(_ uint64, m events.FeedMessage) error {
		types = append(types, m.Event.Type)
		if m.Event.Type == until {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("follow %s %s until %s: %v; came: %v", f.Kind, f.ID, until, err, types)
	}
	return types
}

// database opens the read models as a dashboard would.
func database(t *testing.T) *sql.DB {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "data", "mysql.dsn"))
	if err != nil {
		t.Fatalf("read where the database is: %v", err)
	}
	c, err := mysql.ParseDSN(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatalf("read DSN: %v", err)
	}
	conn, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(conn)
	t.Cleanup(func() { db.Close() })
	return db
}

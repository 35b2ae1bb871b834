package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/commands/api/client"
	"cloudengine/events"
)

// TestControlPlaneKilled: SIGKILL of the control plane and its database while VMs run. Started again by the users' own command, it finds all as it was: the
// VMs noticed nothing, and no machine was taken for dead.
func TestControlPlaneKilled(t *testing.T) {
	host := text(row(t, events.KindVM, "web1"), "host_name")
	logOnFailure(t, host)
	before, machines := one(t, host, "web1"), row(t, events.KindHost, host)
	last := lastFact(t)
	databases, err := filepath.Glob(filepath.Join(dir, "data", "mariadb", "*", "db.pid"))
	if err != nil || len(databases) != 1 {
		t.Fatalf("find the database's process: %v, %v", databases, err)
	}
	killed(t, pidIn(t, filepath.Join(dir, "rack", "serve.pid")), pidIn(t, databases[0]))
	// The control plane is away for longer than it takes to call a machine silent, and a domain is destroyed meanwhile.
	away := time.Now()
	sh(t, host, xl+" destroy "+strconv.Itoa(before.DomID))
	made := 0
	eventually(t, 2*time.Minute, "made again without a control plane", func() (bool, string) {
		made = domIDByHand(t, host, before.UUID)
		return made > before.DomID && time.Since(away) > 40*time.Second, strconv.Itoa(made)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	up := rackUp(ctx)
	if out, err := up.CombinedOutput(); err != nil {
		t.Fatalf("start it again: %v\n%s", err, out)
	}
	now := one(t, host, "web1")
	if now.DomID != made || now.Epoch != before.Epoch || now.State != events.DomainRunning {
		t.Fatalf("web1 was %+v, was made again as %d, and is %+v", before, made, now)
	}
	if h := row(t, events.KindHost, host); text(h, "boot") != text(machines, "boot") {
		t.Fatalf("the host has booted: %v, before %v", h, machines)
	}
	agree(t, "web1")
	for _, f := range factsSince(t, last) {
		switch f {
		case events.MachineSilent{}.EventType(), events.MachineEnrolled{}.EventType(), events.MachinePowerWanted{}.EventType(),
			events.VMBecameUnknown{}.EventType(), events.VMGrantEnded{}.EventType(), events.VMRunGranted{}.EventType():
			t.Errorf("after the control plane's own death the log says %s", f)
		}
	}
	verified(t)
}

// pidIn reads the process id in a file.
func pidIn(t *testing.T, file string) int {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// killed kills processes at once and waits for their end. One that has ended with the one before it is killed enough.
func killed(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatalf("kill process %d: %v", pid, err)
		}
	}
	for _, pid := range pids {
		eventually(t, 10*time.Second, fmt.Sprintf("process %d is killed", pid), func() (bool, string) {
			line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
			return err != nil || len(line) == 0, "it still runs"
		})
	}
}

// lastFact gives the position of the newest event in FEED.
func lastFact(t *testing.T) (last uint64) {
	t.Helper()
	followFor(t, client.Feed{}, func(seq uint64, _ events.FeedMessage) { last = seq })
	return last
}

// factsSince gives the types of all events after a position.
func factsSince(t *testing.T, after uint64) (types []string) {
	t.Helper()
	followFor(t, client.Feed{After: after}, func(_ uint64, m events.FeedMessage) { types = append(types, m.Event.Type) })
	return types
}

// followFor reads FEED until nothing new has come for two seconds.
func followFor(t *testing.T, f client.Feed, handle func(uint64, events.FeedMessage)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	quiet := time.AfterFunc(10*time.Second, cancel)
	defer quiet.Stop()
	err := bus.Follow(ctx, f, func(seq uint64, m events.FeedMessage) error {
		quiet.Reset(2 * time.Second)
		handle(seq, m)
		return nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("follow FEED: %v", err)
	}
}

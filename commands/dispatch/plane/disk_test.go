package plane_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/commands"
	"cloudengine/commands/dispatch/plane"
	"cloudengine/events"
)

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	must(t, os.Mkdir(dir, 0o700))
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a small disk: %v (run the tests as root)", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes a file until only left bytes are free; less than nothing cannot be.
func fill(t *testing.T, dir string, left int64) string {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for chunk := make([]byte, 256<<10); ; {
		var st unix.Statfs_t
		must(t, unix.Statfs(dir, &st))
		free := int64(st.Bavail)*st.Bsize - left
		if free <= 0 {
			return path
		}
		if _, err := f.Write(chunk[:min(free, int64(len(chunk)))]); errors.Is(err, unix.ENOSPC) {
			return path
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// attempt is an intent of admin, or a word of our own components.
func attempt(t *testing.T, p *plane.Plane, c commands.Command, args any) (events.Answer, error) {
	t.Helper()
	raw, err := json.Marshal(args)
	must(t, err)
	c.Intent, c.Args = newID(), raw
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return p.Dispatch.Submit(ctx, c, false)
}

// What is left of an almost full disk is kept for what machines report.
func TestAlmostFullDisk(t *testing.T) {
	dir := smallDisk(t, "64m")
	key, _ := newKey(t)
	p := start(t, dir, key)
	defer p.Stop()
	machine := events.MachineAdded{Name: "m1", MACs: []string{"52:54:00:00:00:01"}, Roles: []string{events.RoleHost}}
	added := submit(t, p, newID(), "add", events.KindMachine, commands.AddMachine(machine))
	create := commands.Command{Actor: "admin", Kind: events.KindAccount, Verb: "create"}
	said := func(name string) events.Outcome {
		a, err := attempt(t, p, create, commands.CreateAccount{Name: name})
		must(t, err)
		return a.Outcome
	}
	if o := said("before"); o.Status != events.Accepted {
		t.Fatalf("on an empty disk: %+v", o)
	}
	filler := fill(t, dir, 3<<20)
	waitFor(t, "users to be refused", func() bool { return said("during").Code == events.CodeUnavailable })
	served := commands.BootServed{Machine: events.MachineID(added.ID), TokenSHA256: "ab", MAC: "52:54:00:00:00:01", Image: "x"}
	a, err := attempt(t, p, commands.Command{Actor: commands.ActorNetboot, Kind: events.KindMachine, Verb: "report_boot_served"}, served)
	if err != nil || a.Outcome.Code == events.CodeUnavailable {
		t.Fatalf("a report on an almost full disk: %+v, %v", a, err)
	}
	must(t, os.Remove(filler))
	waitFor(t, "users to be heard again", func() bool { return said("after").Code != events.CodeUnavailable })
}

// On a full disk nothing is acknowledged, and when there is room again everything that was acknowledged is there.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t, "64m")
	key, _ := newKey(t)
	p := start(t, dir, key)
	create := commands.Command{Actor: "admin", Kind: events.KindAccount, Verb: "create"}
	var last uint64
	ask := func(name string) error {
		a, err := attempt(t, p, create, commands.CreateAccount{Name: name})
		if err == nil && a.Number > 0 {
			last = max(last, a.Number)
		}
		return err
	}
	must(t, ask("before"))
	filler := fill(t, dir, 0)
	for i := range 50 {
		if err := ask("full" + string(rune('a'+i%26)) + string(rune('a'+i/26))); err != nil {
			t.Logf("after %d: %v; health: %v", i, err, p.Health())
			break
		}
	}
	if p.MustRestart() != nil {
		t.Fatal("it wants to be started again while the disk is full")
	}
	waitFor(t, "it to notice", func() bool { return p.Full() })
	must(t, os.Remove(filler))
	waitFor(t, "it to say that it must be started again", func() bool { return p.MustRestart() != nil })
	p.Stop()
	p = start(t, dir, "")
	defer p.Stop()
	if p.Dispatch.Applied() < last {
		t.Fatalf("acknowledged up to %d, and the log ends at %d", last, p.Dispatch.Applied())
	}
	must(t, ask("again"))
	must(t, p.Health())
}

//go:build soak

package scenarios

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"cloudengine/e2e/rack"
	"cloudengine/events"
)

// storageAgentsKilled kills the agents of storage nodes and proxies at random moments while an array is moved and volumes are made, grown and deleted
// on it. Everything comes to its end, the VM beside it loses nothing, and log and machines agree.
func storageAgentsKilled(t *testing.T) {
	const name, rounds = "killed", 2
	for _, m := range append(ofRole(rack.RoleProxy), ofRole(rack.RoleStorageNode)...) {
		eventually(t, 5*time.Minute, m+" is up", func() (bool, string) {
			state := text(row(t, events.KindMachine, m), "state")
			return state == "up", state
		})
	}
	before := writing(t, 1)
	for range rounds {
		for _, intent := range [][]string{
			{"volume", "create", name, "--account", "demo", "--pool", sanPool, "--size", "16MiB"},
			{"array", "failover", sanArray},
			{"volume", "grow", name, "--size", "32MiB"},
			{"array", "failover", sanArray},
			{"volume", "delete", name},
		} {
			killed := killAgents(t)
			must(t, append(intent, "--wait", "--timeout", "8m")...)
			t.Logf("%s: agents were killed %d times", strings.Join(intent[:2], " "), killed())
		}
	}
	arrayWhole(t, "")
	stalled(t, "agents of the storage chain killed", before, 20)
	verified(t)
}

// killAgents begins to kill the agents of storage machines, three times at most. What it gives ends that, and says how often it was done.
func killAgents(t *testing.T) (stop func() int) {
	machines := append(ofRole(rack.RoleProxy), ofRole(rack.RoleStorageNode)...)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	var failed error
	kills := 0
	done.Go(func() {
		for kills < 3 && failed == nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(rand.Int64N(int64(3 * time.Second)))): // the random moment
			}
			out, err := shared.Shell(context.WithoutCancel(ctx), machines[rand.IntN(len(machines))],
				`for p in /proc/[0-9]*; do read c < $p/comm && case $c in noded|mdadm|lvm) /bbin/kill -9 ${p#/proc/} && echo killed $c;; esac; done`)
			if err != nil && !errors.Is(err, rack.ErrStatus) {
				failed = err
			}
			kills += strings.Count(out, "killed noded")
		}
	})
	return func() int {
		cancel()
		done.Wait()
		if failed != nil {
			t.Fatal(failed)
		}
		return kills
	}
}

// secondWriterTried: nobody gets at the legs of an array that another proxy owns, whatever is done on it by hand; and intents that would give it to
// two are refused or come to one owner.
func secondWriterTried(t *testing.T) {
	owner, before := arrayWhole(t, ""), writing(t, 1)
	for _, p := range ofRole(rack.RoleProxy) {
		out := sh(t, p, "ls /sys/block")
		if has := strings.Contains(out, "sda"); has != (p == owner) {
			t.Errorf("%s has legs: %t; the owner is %s:\n%s", p, has, owner, out)
		}
		if p == owner {
			continue
		}
		sh(t, p, `MDADM_NO_UDEV=1 mdadm --config=none --assemble --scan || true`)
		sh(t, p, `for p in /proc/[0-9]*; do read c < $p/comm && case $c in noded) /bbin/kill -9 ${p#/proc/};; esac; done`)
		if out := sh(t, p, "cat /proc/mdstat || true"); strings.Contains(out, "active raid10") {
			t.Errorf("%s runs md beside the owner:\n%s", p, out)
		}
	}
	if _, errs, code := cli(t, "array", "create", "thief", "--pool", sanPool, "--sets", "5"); code == 0 {
		t.Errorf("an array was made of disks that are legs of another: %s", errs)
	}
	if _, errs, code := cli(t, "array", "failover", sanArray, "--to", owner); code != 0 || !strings.Contains(errs, "nothing to do") {
		t.Errorf("when the array should go to its owner: exit code %d: %s", code, errs)
	}
	must(t, "array", "failover", sanArray)
	_, _, _ = cli(t, "array", "failover", sanArray) // while that is under way: refused, or after it
	arrayWhole(t, "")
	stalled(t, "a second writer tried", before, 20)
	verified(t)
}

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"cloudengine/e2e/rack"
	"cloudengine/events"
)

const xl = "/usr/lib/xen-4.17/bin/xl"

// sh runs a command as a person at the console of a host would, as root in its control domain.
func sh(t *testing.T, host, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := shared.Shell(ctx, host, command)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// logOnFailure adds the end of the agent's log on a host to a failing test: it is in the host's memory and nowhere else.
func logOnFailure(t *testing.T, host string) {
	t.Helper()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		out, err := shared.Shell(ctx, host, "tail -n 60 /run/cloudengine/noded.log; "+xl+" list -v")
		t.Logf("the end of noded's log on %s, and its domains (%v):\n%s", host, err, out)
	})
}

// one waits until a host has exactly one domain of a VM, which is stamped as the log says and in the state that the log says, or none if
// the log has no grant for it. It gives the domain. The agent may be dead meanwhile.
func one(t *testing.T, host, name string) (d events.DomainReport) {
	t.Helper()
	eventually(t, 2*time.Minute, name+" is on "+host+" as the log says", func() (bool, string) {
		vm := row(t, events.KindVM, name)
		have, err := domainsOf(t, host, text(vm, "id"))
		said := fmt.Sprintf("%s under epoch %q: %+v, %v", text(vm, "state"), text(vm, "epoch"), have, err)
		if err != nil || len(have) > 1 {
			return false, said
		}
		if len(have) == 0 {
			return text(vm, "host") == "", said
		}
		d = have[0]
		return text(vm, "host_name") == host && d.Stamped && d.Epoch.String() == text(vm, "epoch") && d.State == text(vm, "domain_state") &&
			fmt.Sprint(d.DomID) == text(vm, "domid"), said
	})
	return d
}

// domainsOf lists the domains that bear a VM's stamp or its UUID.
func domainsOf(t *testing.T, host, vm string) (have []events.DomainReport, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, err := bus.Inspect(ctx, events.MachineID(host))
	for _, d := range a.Domains {
		if string(d.VM) == vm || d.UUID == vm {
			have = append(have, d)
		}
	}
	return have, err
}

// verified has the server check the whole log.
func verified(t *testing.T) {
	t.Helper()
	t.Log(strings.TrimSpace(must(t, "verify")))
}

// guest makes a VM of the smallest size, with more words on its kernel's command line.
func guest(t *testing.T, name, kind string, words ...string) {
	t.Helper()
	must(t, "vm", "create", name, "--account", "demo", "--template", "guest", "--type", kind, "--ram", "128MiB", "--vcpus", "1",
		"--cmdline", strings.Join(append([]string{"console=hvc0"}, words...), " "))
}

// TestAgentKilledAgainAndAgain: SIGKILL of the agent at random moments while a VM lives its life. After each step there is exactly one
// domain or none, as the log says; never were there two; and the other VM of the host noticed nothing.
func TestAgentKilledAgainAndAgain(t *testing.T) {
	host := text(row(t, events.KindVM, "web1"), "host_name")
	logOnFailure(t, host)
	bystander := one(t, host, "web1")
	guest(t, "victim", events.TypePV)
	id := text(row(t, events.KindVM, "victim"), "id")
	began, kills := time.Now(), 0
	for _, step := range [][]string{
		{"start", "--host", host, "--wait", "--timeout", "8m"}, {"reboot", "--wait", "--timeout", "8m"}, {"stop", "--wait", "--timeout", "8m"},
		{"start", "--host", host, "--wait", "--timeout", "8m"}, {"shutdown", "--wait", "--timeout", "8m"},
	} {
		before := row(t, events.KindVM, "victim")
		k := startKilling(t, host, id, 4)
		must(t, append([]string{"vm", step[0], "victim"}, step[1:]...)...)
		n := k.stop()
		kills += n
		after := one(t, host, "victim")
		t.Logf("%s: %d kills, %.0f s since the beginning; %s", step[0], n, time.Since(began).Seconds(), after.State)
		switch {
		case step[0] == "reboot" && (after.Epoch.String() != text(before, "epoch") || fmt.Sprint(after.DomID) == text(before, "domid")):
			t.Fatalf("reboot: before %s, domain %s; after %+v", text(before, "epoch"), text(before, "domid"), after)
		case (step[0] == "start" || step[0] == "reboot") && after.State != events.DomainRunning:
			t.Fatalf("%s: %+v", step[0], after)
		case (step[0] == "stop" || step[0] == "shutdown") && after.UUID != "":
			t.Fatalf("%s: there still is %+v", step[0], after)
		}
	}
	must(t, "vm", "delete", "victim")
	if kills < 8 {
		t.Fatalf("the agent was killed only %d times", kills)
	}
	eventually(t, time.Minute, "the host is as before", func() (bool, string) {
		all, err := domainsOf(t, host, id)
		return err == nil && len(all) == 0, fmt.Sprint(all, err)
	})
	if now := one(t, host, "web1"); now.DomID != bystander.DomID || now.Epoch != bystander.Epoch {
		t.Fatalf("web1 was %+v and is %+v", bystander, now)
	}
	verified(t)
}

// killing kills the agent of a host at random moments.
type killing struct {
	t      *testing.T
	cancel context.CancelFunc
	done   sync.WaitGroup
	kills  int
	failed error
}

// startKilling begins. It gives up after that many kills: a start that is cut off begins anew, and must have a chance to end.
func startKilling(t *testing.T, host, vm string, most int) *killing {
	ctx, cancel := context.WithCancel(t.Context())
	k := &killing{t: t, cancel: cancel}
	k.done.Add(1)
	go func() {
		defer k.done.Done()
		for k.kills < most && k.failed == nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(rand.Int64N(int64(6 * time.Second)))): // the random moment
			}
			k.kill(host, vm)
		}
	}()
	return k
}

// kill ends every noded, also one that is only starting, and then looks with the host's own tool.
func (k *killing) kill(host, vm string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := shared.Shell(ctx, host, `for p in /proc/[0-9]*; do read c < $p/comm && [ "$c" = noded ] && kill -9 ${p#/proc/} && echo killed; done; `+xl+" list -v")
	if err != nil && !errors.Is(err, rack.ErrStatus) {
		k.failed = err
		return
	}
	k.kills += strings.Count(out, "killed")
	alive := regexp.MustCompile(`(?m)^.* [r-][b-][p-][s-][-rscwS?]- .* `+regexp.QuoteMeta(vm)+` .*$`).FindAllString(out, -1)
	if len(alive) > 1 {
		k.failed = fmt.Errorf("after a kill there are two domains of the VM: %q", out)
	}
}

// stop ends it, and says how often the agent was killed.
func (k *killing) stop() int {
	k.t.Helper()
	k.cancel()
	k.done.Wait()
	if k.failed != nil {
		k.t.Fatal(k.failed)
	}
	return k.kills
}

// TestDestroyedByHand: a domain that someone destroys is made again, under the same grant.
func TestDestroyedByHand(t *testing.T) {
	host := text(row(t, events.KindVM, "web1"), "host_name")
	logOnFailure(t, host)
	before := one(t, host, "web1")
	for range 2 {
		was := one(t, host, "web1")
		sh(t, host, fmt.Sprintf("%s destroy %d", xl, was.DomID))
		eventually(t, 2*time.Minute, "made again", func() (bool, string) {
			have, err := domainsOf(t, host, was.UUID)
			return err == nil && len(have) == 1 && have[0].DomID != was.DomID && have[0].State == events.DomainRunning, fmt.Sprint(have, err)
		})
	}
	if now := one(t, host, "web1"); now.Epoch != before.Epoch || now.State != events.DomainRunning {
		t.Fatalf("before %+v, now %+v", before, now)
	}
	agree(t, "web1")
	verified(t)
}

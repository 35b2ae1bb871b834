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
	began, last := time.Now(), ""
	defer func() {
		if time.Since(began) > 5*time.Second {
			t.Logf("it took long; before that: %s", last)
		}
	}()
	eventually(t, 2*time.Minute, name+" is on "+host+" as the log says", func() (bool, string) {
		vm := row(t, events.KindVM, name)
		have, err := domainsOf(t, host, text(vm, "id"))
		said := fmt.Sprintf("%s under epoch %q: %+v, %v", text(vm, "state"), text(vm, "epoch"), have, err)
		good := err == nil && len(have) == 0 && text(vm, "host") == ""
		if err == nil && len(have) == 1 {
			d = have[0]
			good = text(vm, "host_name") == host && d.Stamped && d.Epoch.String() == text(vm, "epoch") && d.State == text(vm, "domain_state") &&
				fmt.Sprint(d.DomID) == text(vm, "domid")
		}
		if !good {
			last = said
		}
		return good, said
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

// verified waits until log, database, documents, hosts and files agree. What a test has just ended may still be told by the hosts.
func verified(t *testing.T) {
	t.Helper()
	eventually(t, 2*time.Minute, "verify finds nothing", func() (bool, string) {
		out, errs, code := cli(t, "verify")
		if code == 0 {
			t.Log(strings.TrimSpace(out))
		}
		return code == 0, out + errs
	})
}

// guest makes a VM of the smallest size, with more words on its kernel's command line.
func guest(t *testing.T, name, kind string, words ...string) {
	t.Helper()
	must(t, "vm", "create", name, "--account", "demo", "--template", "guest", "--type", kind, "--ram", "128MiB", "--vcpus", "1",
		"--cmdline", strings.Join(append([]string{"console=hvc0"}, words...), " "))
}

// TestAgentKilledAgainAndAgain: SIGKILL of the agent and of its calls of xl at random moments while a VM lives one life after the other. After each step there is
// exactly one domain or none, as the log says; never were there two; and the other VM of the host noticed nothing.
func TestAgentKilledAgainAndAgain(t *testing.T) {
	host := text(row(t, events.KindVM, "web1"), "host_name")
	logOnFailure(t, host)
	t.Cleanup(func() { // after a failure the others want a host without it
		if t.Failed() {
			_, _, _ = cli(t, "vm", "stop", "victim", "--wait", "--timeout", "2m")
			_, _, _ = cli(t, "vm", "delete", "victim")
		}
	})
	bystander := one(t, host, "web1")
	const long = 60 * time.Second
	began, kills, lives := time.Now(), 0, 0
	for ; time.Since(began) < long || kills < 5 && lives < 4; lives++ { // not every attempt meets the agent
		guest(t, "victim", []string{events.TypePV, events.TypePVH}[lives%2])
		id := text(row(t, events.KindVM, "victim"), "id")
		for _, verb := range []string{"start", "reboot", "stop", "start", []string{"shutdown", "stop"}[lives%2]} {
			most := 5 // a start that is cut off begins anew, and must have a chance to end
			if time.Since(began) > long && kills >= 5 {
				most = 0
			}
			kills += killedWhile(t, host, verb, most)
		}
		must(t, "vm", "delete", "victim")
		eventually(t, time.Minute, "nothing is left of it", func() (bool, string) {
			all, err := domainsOf(t, host, id)
			return err == nil && len(all) == 0, fmt.Sprint(all, err)
		})
	}
	t.Logf("%d kills in %d lives, %.0f s", kills, lives, time.Since(began).Seconds())
	if kills < 5 {
		t.Fatalf("the agent was killed only %d times", kills)
	}
	if now := one(t, host, "web1"); now.DomID != bystander.DomID || now.Epoch != bystander.Epoch {
		t.Fatalf("web1 was %+v and is %+v", bystander, now)
	}
	verified(t)
}

// killedWhile does one thing to the VM victim while the agent is killed, and compares what is there then with the log.
func killedWhile(t *testing.T, host, verb string, most int) (kills int) {
	t.Helper()
	before := row(t, events.KindVM, "victim")
	args := []string{"vm", verb, "victim", "--wait", "--timeout", "8m"}
	if verb == "start" {
		args = append(args, "--host", host)
	}
	k := startKilling(t, host, text(before, "id"), most)
	must(t, args...)
	kills = k.stop()
	if verb == "start" || verb == "reboot" {
		eventually(t, 2*time.Minute, "it runs", runs(t, host, text(before, "id")))
	}
	after := one(t, host, "victim")
	t.Logf("%s: the agent was killed %d times, xl %d times; then the domain is %q", verb, kills, k.tools, after.State)
	same := after.Epoch.String() == text(before, "epoch")
	switch {
	case (verb == "start" || verb == "reboot") && after.State != events.DomainRunning,
		(verb == "stop" || verb == "shutdown") && after.UUID != "",
		verb == "reboot" && (!same || fmt.Sprint(after.DomID) == text(before, "domid")):
		t.Fatalf("%s: before %v, after %+v", verb, before, after)
	}
	return kills
}

// runs waits for a domain that runs. An emulated PVH guest now and then resets itself while it boots: then the agent makes it again.
func runs(t *testing.T, host, vm string) func() (bool, string) {
	return func() (bool, string) {
		have, err := domainsOf(t, host, vm)
		return err == nil && len(have) == 1 && have[0].State == events.DomainRunning, fmt.Sprint(have, err)
	}
}

// killing kills the agent of a host at random moments.
type killing struct {
	t      *testing.T
	cancel context.CancelFunc
	done   sync.WaitGroup
	kills  int // of the agent
	tools  int // of xl
	failed error
}

// startKilling begins. It gives up after that many kills.
func startKilling(t *testing.T, host, vm string, most int) *killing {
	ctx, cancel := context.WithCancel(t.Context())
	k := &killing{t: t, cancel: cancel}
	k.done.Add(1)
	go func() {
		defer k.done.Done()
		for k.kills+k.tools < most && k.failed == nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(rand.Int64N(int64(2 * time.Second)))): // the random moment
			}
			k.kill(host, vm)
		}
	}()
	return k
}

// kill ends the agent, or the tool that works for it, or both, and then looks with the host's own tool.
func (k *killing) kill(host, vm string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	victims := []string{"noded", "noded|xl", "xl"}[rand.IntN(3)]
	out, err := shared.Shell(ctx, host, `for p in /proc/[0-9]*; do read c < $p/comm && case $c in `+victims+`) /bbin/kill -9 ${p#/proc/} && echo killed $c;; esac; done; `+xl+" list -v")
	if err != nil && !errors.Is(err, rack.ErrStatus) {
		k.failed = err
		return
	}
	k.kills += strings.Count(out, "killed noded")
	k.tools += strings.Count(out, "killed xl")
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

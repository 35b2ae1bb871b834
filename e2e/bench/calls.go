package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers/host"

	"golang.org/x/sync/errgroup"
)

// What P6-call does. The host never has more VMs than a real one would.
const (
	callVMs    = 112 // at most on the host at once; a multiple of callWide
	callRounds = 5
	callWide   = 16
	callMiB    = 64
	callGoal   = 100 * time.Millisecond
)

// calls hears of the agent's calls of its toolstack as they are made. The agent writes them, with its own time, into a pipe.
type calls struct {
	pipe *os.File
	done chan struct{}

	mu      sync.Mutex
	waiting map[string]chan time.Time
}

func listenForCalls(path string) (*calls, error) {
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("make pipe for calls: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // a writer too, so that nobody's opening waits
	if err != nil {
		return nil, fmt.Errorf("open pipe for calls: %w", err)
	}
	c := &calls{pipe: f, done: make(chan struct{}), waiting: map[string]chan time.Time{}}
	go c.read() // ends with close
	return c, nil
}

func (c *calls) read() {
	defer close(c.done)
	for lines := bufio.NewScanner(c.pipe); lines.Scan(); {
		var l struct {
			Time time.Time
			Call string
		}
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			continue
		}
		c.mu.Lock()
		if ch, ok := c.waiting[l.Call]; ok {
			delete(c.waiting, l.Call)
			ch <- l.Time
		}
		c.mu.Unlock()
	}
}

// expect gives the channel on which the time of the next such call will come.
func (c *calls) expect(call string) <-chan time.Time {
	ch := make(chan time.Time, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting[call] = ch
	return ch
}

func (c *calls) close() error {
	err := c.pipe.Close()
	<-c.done
	return err
}

// A startUp is one start of a VM: when each station on its way was passed.
type startUp struct {
	vm       string
	sent     time.Time // the intent was published
	answered time.Time // its stored outcome was here
	document time.Time // the agent had kept and logged the document (its log has milliseconds; a call may overtake it)
	called   time.Time // the agent called the toolstack
}

// measureCalls measures P6-call: the real road on this computer, from a client over the server to the agent's call.
func measureCalls(ctx context.Context, b *bench, add func(Result)) (err error) {
	n, err := startNative(ctx, b, callVMs*(callMiB+64)+4096)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	var vms []string
	for i := range callVMs {
		a, err := order(ctx, n.c, events.KindVM, "create", map[string]any{
			"account": n.account, "name": fmt.Sprintf("b%03d", i), "type": events.TypePV, "vcpus": 1, "memory_mib": callMiB, "template": n.template,
		})
		if err != nil {
			return err
		}
		vms = append(vms, string(a.ID))
	}
	for _, wide := range []int{1, callWide} {
		id := "P6-call"
		if wide > 1 {
			id = fmt.Sprintf("P6-call-%d", wide)
		}
		if !b.wants(id) && !b.wants(id+"-p50") {
			continue
		}
		b.say("%s: %d starts, %d at once", id, callRounds*callVMs, wide)
		var all []startUp
		before, err := cpuTime(n.agent.cmd.Process.Pid)
		if err != nil {
			return err
		}
		for range callRounds {
			round, err := n.round(ctx, vms, wide)
			if err != nil {
				return err
			}
			all = append(all, round...)
		}
		if err := n.addDocuments(all); err != nil {
			return err
		}
		after, err := cpuTime(n.agent.cmd.Process.Pid)
		if err != nil {
			return err
		}
		tell(id, wide, all, (after-before)/time.Duration(len(all)), add)
	}
	return nil
}

// round starts all VMs, wide at once, and then stops them.
func (n *native) round(ctx context.Context, vms []string, wide int) ([]startUp, error) {
	out := make([]startUp, len(vms))
	group, started := errgroup.WithContext(ctx)
	group.SetLimit(wide)
	for i, vm := range vms {
		group.Go(func() error {
			if started.Err() != nil {
				return started.Err()
			}
			var err error
			out[i], err = n.start(started, vm, fmt.Sprintf("b%03d", i))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	group, stopped := errgroup.WithContext(ctx)
	group.SetLimit(callWide)
	for _, vm := range vms {
		group.Go(func() error { return through(stopped, n.c, n.w, events.KindVM, "stop", map[string]any{"vm": vm}) })
	}
	return out, group.Wait()
}

// start starts one VM, and returns when it is reported running.
func (n *native) start(ctx context.Context, vm, name string) (startUp, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s := startUp{vm: vm}
	called := n.calls.expect("create " + host.DomainName(events.VMID(vm), name))
	s.sent = time.Now()
	a, err := order(ctx, n.c, events.KindVM, "start", map[string]any{"vm": vm})
	if err != nil {
		return s, err
	}
	s.answered = time.Now()
	select {
	case s.called = <-called:
	case <-ctx.Done():
		return s, fmt.Errorf("wait for the domain of VM %s to be made: %w", name, ctx.Err())
	}
	return s, n.w.operation(ctx, a.ID)
}

// addDocuments takes from the agent's log when it had each document.
func (n *native) addDocuments(all []startUp) error {
	f, err := os.Open(n.agent.log)
	if err != nil {
		return fmt.Errorf("read the agent's log: %w", err)
	}
	defer f.Close()
	came := map[string][]time.Time{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := map[string]string{}
		for _, w := range strings.Fields(lines.Text()) {
			k, v, _ := strings.Cut(w, "=")
			words[k] = v
		}
		vm, ok := strings.CutPrefix(words["object"], string(desired.KindDomain)+"/")
		at, err := time.Parse(time.RFC3339Nano, words["time"])
		if ok && err == nil && words["msg"] == "document" {
			came[vm] = append(came[vm], at)
		}
	}
	for i := range all {
		s := &all[i]
		next := slices.IndexFunc(came[s.vm], func(at time.Time) bool { return !at.Before(s.sent.Truncate(time.Millisecond)) })
		if next < 0 {
			return fmt.Errorf("the agent's log tells of no document for VM %s after its intent", s.vm)
		}
		if s.document = came[s.vm][next]; s.document.After(s.called) {
			s.document = s.called
		}
	}
	return nil
}

// tell makes the rows of one way of starting. agent is the agent's CPU time for a start and a stop.
func tell(id string, wide int, all []startUp, agent time.Duration, add func(Result)) {
	var total, decided, delivered, planned []time.Duration
	for _, s := range all {
		total = append(total, s.called.Sub(s.sent))
		decided = append(decided, s.answered.Sub(s.sent))
		delivered = append(delivered, s.document.Sub(s.sent))
		planned = append(planned, s.called.Sub(s.document))
	}
	p50, p99 := percentile(total, 50), percentile(total, 99)
	stages := fmt.Sprintf("p50/p99 ms: intent stored and answered %s; document at the agent %s; from there to the call %s",
		pair(decided), pair(delivered), pair(planned))
	how := "one after another"
	if wide > 1 {
		how = fmt.Sprintf("%d at once", wide)
	}
	verdict := "goal ≤ 100 ms met"
	if p99 > callGoal {
		verdict = "goal ≤ 100 ms MISSED"
	}
	add(Result{ID: id, Name: "intent → create called, p99, " + how, Ours: ms(p99), Unit: "ms", Runs: len(all), Note: verdict + "; " + stages})
	add(Result{ID: id + "-p50", Name: "intent → create called, p50, " + how, Ours: ms(p50), Unit: "ms", Runs: len(all),
		Note: fmt.Sprintf("fsync on; client, server, MariaDB and the agent on one computer; the host is a model that takes no time; "+
			"the agent's CPU time for a start and its stop %.1f ms", ms(agent))})
}

func pair(d []time.Duration) string {
	return fmt.Sprintf("%.1f/%.1f", ms(percentile(d, 50)), ms(percentile(d, 99)))
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"
	"cloudengine/events/broker/certs"
)

// node is one "cloudengine serve" that can be killed and started again on the same ports.
type node struct {
	name, data, bus, web string
	args                 []string
	process              *process
}

func newNode(t *testing.T, name string, args ...string) *node {
	dir := t.TempDir()
	n := &node{name: name, data: filepath.Join(dir, "data"), bus: freeAddress(t), web: freeAddress(t)}
	n.args = append([]string{"serve", "--name", name, "--data", n.data, "--listen", n.bus, "--http", n.web}, args...)
	t.Cleanup(func() {
		if n.process != nil {
			_ = n.process.cmd.Process.Signal(syscall.SIGCONT)
			_ = n.process.end(syscall.SIGTERM)
			if t.Failed() {
				t.Logf("the end of the log of %s:\n%s", name, lastLines(n.process.log, 40))
			}
		}
	})
	return n
}

// freeAddress gives an address of loopback below the range that the kernel hands out by itself.
var nextPort atomic.Int32

func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := 20000 + (int(nextPort.Add(1))+os.Getpid()*13)%12000
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

func (n *node) start(t *testing.T) {
	t.Helper()
	program, err := exec.LookPath("cloudengine")
	if err != nil {
		t.Fatal(err)
	}
	n.process, err = start(exec.Command(program, n.args...), filepath.Join(filepath.Dir(n.data), n.name+".log"))
	if err != nil {
		t.Fatal(err)
	}
}

func (n *node) kill() {
	_ = n.process.end(syscall.SIGKILL)
	_ = os.Remove(filepath.Join(n.data, endpointsFile))
}

// ready waits until the server says where it is reached.
func (n *node) ready(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		if _, err := os.Stat(filepath.Join(n.data, endpointsFile)); err == nil {
			return
		}
		select {
		case <-n.process.done:
			t.Fatalf("%s ended:\n%s", n.name, lastLines(n.process.log, 40))
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("%s is not ready:\n%s", n.name, lastLines(n.process.log, 40))
}

// load is clients that create accounts, each with names of its own and now and then one that all want.
type load struct {
	mu    sync.Mutex
	acked map[events.IntentID]events.Answer
	names map[events.IntentID]string
	fails []string
	count atomic.Int64
	wg    sync.WaitGroup
	stop  context.CancelFunc
}

func startLoad(t *testing.T, url, keyFile string, clients int) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{acked: map[events.IntentID]events.Answer{}, names: map[events.IntentID]string{}, stop: cancel}
	for i := range clients {
		c, err := client.Connect(ctx, url, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		l.wg.Go(func() {
			defer c.Close()
			for n := 0; ctx.Err() == nil; n++ {
				l.one(ctx, c, i, n)
			}
		})
	}
	return l
}

func (l *load) one(ctx context.Context, c *client.Client, i, n int) {
	name := fmt.Sprintf("a%d-%d", i, n)
	if n%10 == 0 {
		name = fmt.Sprintf("all-%d", n)
	}
	id := client.NewID()
	// The end of the load must not cut a request off: what it became would not be known.
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	a, err := c.Do(patient, events.KindAccount, "create", map[string]string{"name": name}, client.WithID(id))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || a.Number == 0 {
		l.fails = append(l.fails, fmt.Sprintf("%s: %+v %v", name, a, err))
		return
	}
	l.acked[id], l.names[id] = a, name
	l.count.Add(1)
}

// until waits until so many more intents were acknowledged.
func (l *load) until(t *testing.T, more int64) {
	t.Helper()
	want := l.count.Load() + more
	for end := time.Now().Add(2 * time.Minute); l.count.Load() < want; {
		if time.Now().After(end) {
			t.Fatalf("only %d of %d intents were acknowledged", l.count.Load(), want)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// check ends the load and compares what was acknowledged with what is there: nothing lost, nothing twice, no name twice, chain whole.
func (l *load) check(t *testing.T, url, keyFile string) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	for _, f := range l.fails {
		t.Errorf("no outcome: %s", f)
	}
	c, err := client.Connect(t.Context(), url, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	found, err := c.Verify(ctx)
	if err != nil || len(found.Broken) > 0 {
		t.Fatalf("the log: %v %q", err, found.Broken)
	}
	items, _, err := c.List(ctx, events.KindAccount, events.ReadRequest{Limit: 1000, WaitFor: found.Decisions})
	if err != nil {
		t.Fatal(err)
	}
	accounts := map[events.IntentID]string{}
	for _, raw := range items {
		var r struct {
			ID   events.IntentID
			Name string
		}
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatal(err)
		}
		accounts[r.ID] = r.Name
	}
	numbers, taken := map[uint64]bool{}, 0
	for id, a := range l.acked {
		if numbers[a.Number] {
			t.Errorf("two intents were told the number %d", a.Number)
		}
		numbers[a.Number] = true
		if made := accounts[id] == l.names[id]; made != (a.Outcome.Status == events.Accepted) {
			t.Errorf("%s was told %s, and is there: %t", l.names[id], a.Outcome.Status, made)
		}
		if a.Outcome.Code == events.CodeNameTaken {
			taken++
		}
	}
	t.Logf("%d intents acknowledged, %d of them refused for their name; %d decisions in %d blocks", len(l.acked), taken, found.Decisions, found.Blocks)
}

// TestKilledUnderLoad kills the whole program ten times while 64 clients send intents.
func TestKilledUnderLoad(t *testing.T) {
	n := newNode(t, "s1")
	n.start(t)
	n.ready(t)
	url, key := "nats://"+n.bus, filepath.Join(n.data, adminKeyFile)
	l := startLoad(t, url, key, 64)
	for range 10 {
		l.until(t, 300)
		n.kill()
		n.start(t)
	}
	n.ready(t)
	l.until(t, 300)
	l.check(t, url, key)
}

// threeArgs gives the arguments of three servers that know each other.
func threeArgs(t *testing.T) (args [3][]string) {
	t.Helper()
	secret, authority := filepath.Join(t.TempDir(), "secret"), filepath.Join(t.TempDir(), "ca")
	if err := os.WriteFile(secret, []byte("of this test"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := certs.Create(authority); err != nil {
		t.Fatal(err)
	}
	routes := []string{freeAddress(t), freeAddress(t), freeAddress(t)}
	for i, r := range routes {
		args[i] = []string{"--cluster", r, "--routes", strings.Join(routes, ","), "--cluster-secret-file", secret, "--ca-dir", authority}
	}
	return args
}

// TestThreeServers kills the server that decides, and then stops and wakes the next one, under load.
func TestThreeServers(t *testing.T) {
	var nodes []*node
	var urls []string
	for i, args := range threeArgs(t) {
		n := newNode(t, fmt.Sprintf("s%d", i+1), args...)
		n.start(t)
		nodes, urls = append(nodes, n), append(urls, "nats://"+n.bus)
	}
	url, key := strings.Join(urls, ","), ""
	for _, n := range nodes {
		n.ready(t)
		if k := filepath.Join(n.data, adminKeyFile); key == "" {
			if _, err := os.Stat(k); err == nil {
				key = k
			}
		}
	}
	l := startLoad(t, url, key, 64)
	l.until(t, 500)

	first := active(t, nodes)
	began := time.Now()
	first.kill()
	l.until(t, 200)
	t.Logf("leader killed: 200 more intents acknowledged %.1f s later", time.Since(began).Seconds())
	first.start(t)
	first.ready(t)

	second := active(t, nodes)
	began = time.Now()
	if err := second.process.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	l.until(t, 200)
	t.Logf("leader paused: 200 more intents acknowledged %.1f s later", time.Since(began).Seconds())
	if err := second.process.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	l.until(t, 500)
	l.check(t, url, key)
}

// active finds the server that decides.
func active(t *testing.T, nodes []*node) *node {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		for _, n := range nodes {
			if healthOf(n.web).Active {
				return n
			}
		}
	}
	t.Fatal("no server decides")
	return nil
}

// healthOf asks a server how it is; one that does not answer is not active.
func healthOf(address string) (h struct{ Active bool }) {
	asker := http.Client{Timeout: time.Second}
	answer, err := asker.Get("http://" + address + "/healthz")
	if err != nil {
		return h
	}
	defer answer.Body.Close()
	_ = json.NewDecoder(answer.Body).Decode(&h)
	return h
}

package plane_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

const clients = 64

// TestKilledUnderLoad kills the process that holds server and dispatcher, again and again, under load.
func TestKilledUnderLoad(t *testing.T) { killAlone(t, 10, time.Second) }

func killAlone(t *testing.T, rounds int, between time.Duration) {
	key, opt := newKey(t)
	cfg := childConfig{Dir: t.TempDir(), Listen: freeAddress(t), Name: "s1", AdminKey: key}
	s := startServer(t, cfg)
	l := newLoad(t, "nats://"+cfg.Listen, opt)
	l.prepare()
	l.run(clients)
	var worst time.Duration
	for range rounds {
		before := l.answered.Load()
		if !within(20*time.Second, func() bool { return l.answered.Load() > before+clients }) {
			t.Fatal("no answers for 20 s")
		}
		within(between, func() bool { return false })
		killed := time.Now()
		s.kill()
		at := l.answered.Load()
		s.start()
		// The whole log is read again: 20 s, and a second for each 20,000 decisions.
		if limit := 20*time.Second + time.Duration(at/20000)*time.Second; !within(limit, func() bool { return l.answered.Load() > at }) {
			t.Fatalf("no answer within %v of a kill", limit)
		}
		worst = max(worst, time.Since(killed))
	}
	l.end()
	l.verify()
	t.Logf("%d kills; service was back within %v at the worst", rounds, worst.Round(time.Millisecond))
}

// cluster is three servers in three processes.
type cluster struct {
	t       *testing.T
	servers []*server
	urls    string
}

func startCluster(t *testing.T, key string) *cluster {
	t.Helper()
	c := &cluster{t: t}
	var routes, urls []string
	for range 3 {
		routes = append(routes, freeAddress(t))
		urls = append(urls, freeAddress(t))
	}
	c.urls = "nats://" + strings.Join(urls, ",nats://")
	for i := range 3 {
		c.servers = append(c.servers, startServer(t, childConfig{
			Dir: t.TempDir(), Listen: urls[i], Name: fmt.Sprintf("s%d", i+1), AdminKey: key, Cluster: routes[i], Routes: routes,
		}))
	}
	c.wait("all three servers", 60*time.Second, func() bool {
		for _, s := range c.servers {
			if !s.isReady() {
				return false
			}
		}
		return c.leader() != nil
	})
	return c
}

func (c *cluster) wait(what string, limit time.Duration, ok func() bool) {
	c.t.Helper()
	if !within(limit, ok) {
		c.t.Fatalf("waited %v for %s", limit, what)
	}
}

func (c *cluster) leader() *server {
	for _, s := range c.servers {
		if s.isActive() {
			return s
		}
	}
	return nil
}

// TestLeaderLostUnderLoad kills the leader of three servers, and pauses another and wakes it up again, under load.
func TestLeaderLostUnderLoad(t *testing.T) { loseLeader(t, 1, 1) }

func loseLeader(t *testing.T, kills, pauses int) {
	key, opt := newKey(t)
	c := startCluster(t, key)
	l := newLoad(t, c.urls, opt)
	l.prepare()
	l.run(clients)
	for i := range kills {
		took := c.without(l, func(s *server) { s.kill() })
		t.Logf("leader killed (%d): service back after %v", i+1, took.Round(10*time.Millisecond))
		c.restart()
	}
	for i := range pauses {
		var paused *server
		took := c.without(l, func(s *server) { paused = s; must(t, s.proc.Signal(syscall.SIGSTOP)) })
		t.Logf("leader paused (%d): service back after %v", i+1, took.Round(10*time.Millisecond))
		at := l.answered.Load()
		must(t, paused.proc.Signal(syscall.SIGCONT))
		c.wait("the woken one to cease", 30*time.Second, func() bool { return !paused.isActive() })
		c.wait("answers after it woke", 30*time.Second, func() bool { return l.answered.Load() > at+clients })
	}
	l.end()
	l.verify()
}

// without takes the leader away and gives the time until a new one answers.
func (c *cluster) without(l *load, take func(*server)) time.Duration {
	c.t.Helper()
	before := l.answered.Load()
	c.wait("answers", 30*time.Second, func() bool { return l.answered.Load() > before+4*clients })
	s := c.leader()
	if s == nil {
		c.wait("a leader", 30*time.Second, func() bool { s = c.leader(); return s != nil })
	}
	lost := time.Now()
	take(s)
	c.wait("another leader", 60*time.Second, func() bool {
		for _, other := range c.servers {
			if other != s && other.isActive() {
				return true
			}
		}
		return false
	})
	at := l.answered.Load()
	c.wait("an answer of the new leader", 60*time.Second, func() bool { return l.answered.Load() > at })
	return time.Since(lost)
}

// restart starts the servers that were killed.
func (c *cluster) restart() {
	c.t.Helper()
	for _, s := range c.servers {
		select {
		case <-s.done:
			s.start()
		default:
		}
	}
	c.wait("the killed one to come back", 60*time.Second, func() bool {
		for _, s := range c.servers {
			if !s.isReady() {
				return false
			}
		}
		return true
	})
}

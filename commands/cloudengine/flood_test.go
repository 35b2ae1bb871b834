package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// How much slower another user may become while somebody floods: in times of his quiet 99th percentile, or at least floodFloor. The
// flooder runs on the same processors here, which is the larger part of it.
const (
	floodRatio = 40
	floodFloor = 10 * time.Second
	floodTime  = 2500 * time.Millisecond
)

// TestFloods measures what another user feels while one user or one machine does too much of something.
func TestFloods(t *testing.T) {
	c := newCloud(t, "--silence", "1h")
	eve, _ := c.user("eve", events.RoleOperate, "")
	c.user("bob", events.RoleOperate, "")
	bob := c.connect(c.node.data + "/bob.nk")
	host := c.machine("host1")
	boot := uuid.NewString()
	pair := newPair(t)
	if answer, err := host.enrol(host.file.Token, boot, pair); err != nil || answer.Outcome.Status != events.Accepted {
		t.Fatalf("enrol: %+v, %v", answer.Outcome, err)
	}
	asHost := func() (*nats.Conn, error) { return host.asMachine("nats://"+c.node.bus, pair) }
	asEve := func() (*nats.Conn, error) { return c.try(c.node, eve) }
	quiet := percentile(probe(t, bob, floodTime), 99)
	t.Logf("quiet: p99 %v", quiet)
	for _, f := range []struct {
		name string
		one  func(ctx context.Context) error // floods until ctx ends or it is thrown out
	}{
		{"telemetry", shout(asHost, "tel."+string(host.id)+".alive", 4096, false)},
		{"reports", shout(asHost, "rep."+string(host.id)+".state", 4096, true)},
		{"intents", shout(asEve, "do.eve.account.create", 300, true)},
		{"questions", shout(asEve, "read.eve.account.list", 2, true)},
		{"history", shout(asEve, "read.eve.log.history", 40, true)},
		{"connections", func(context.Context) error {
			nc, err := asEve()
			if err == nil {
				nc.Close()
			}
			return nil
		}},
		{"guessed tokens", func(context.Context) error {
			if nc, err := host.dial("nats://"+c.node.bus, nats.UserInfo(events.EnrolUser, string(host.id)+".guess")); err == nil {
				nc.Close()
				return fmt.Errorf("a guess was right")
			}
			return nil
		}},
		{"half-open handshakes", func(ctx context.Context) error { return halfOpen(ctx, c.node.bus) }},
		{"cut handshakes", func(context.Context) error { return cutHandshake(c.node.bus, host.file.CA) }},
	} {
		t.Run(f.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var flooders sync.WaitGroup
			for range 4 {
				flooders.Go(func() {
					for ctx.Err() == nil {
						if err := f.one(ctx); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			took := probe(t, bob, floodTime)
			cancel()
			flooders.Wait()
			p99, bound := percentile(took, 99), max(floodRatio*quiet, floodFloor)
			t.Logf("%d requests of another user: p50 %v, p99 %v, %.1f times the quiet one", len(took), percentile(took, 50), p99, float64(p99)/float64(quiet))
			if p99 > bound {
				t.Errorf("p99 %v, want at most %v", p99, bound)
			}
			if !bob.Conn().IsConnected() || bob.Conn().Statistics.Reconnects > 0 {
				t.Error("the other user was disconnected")
			}
		})
	}
	if found, err := c.admin.Verify(t.Context()); err != nil || len(found.Broken) > 0 {
		t.Errorf("the log: %q, %v", found.Broken, err)
	}
}

// probe asks and commands one after the other, and gives how long each took.
func probe(t *testing.T, c *client.Client, d time.Duration) []time.Duration {
	t.Helper()
	var out []time.Duration
	for end := time.Now().Add(d); time.Now().Before(end) || len(out) < 100; {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		began := time.Now()
		var err error
		if len(out)%2 == 0 {
			_, err = c.Do(ctx, events.KindHost, "cordon", map[string]any{"host": uuid.NewString()})
		} else {
			_, _, err = c.List(ctx, events.KindMachine, events.ReadRequest{Limit: 1})
		}
		out = append(out, time.Since(began))
		cancel()
		if err != nil {
			t.Fatalf("another user is not answered: %v", err)
		}
	}
	return out
}

func percentile(list []time.Duration, p int) time.Duration {
	s := slices.Sorted(slices.Values(list))
	return s[min(len(s)-1, len(s)*p/100)]
}

// shout publishes as fast as it goes on one connection, until it is closed; with reply, it asks for answers too.
func shout(connect func() (*nats.Conn, error), subject string, size int, reply bool) func(context.Context) error {
	return func(ctx context.Context) error {
		nc, err := connect()
		if err != nil {
			select { // kept out for a while
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
			return nil
		}
		defer nc.Close()
		inbox := nc.NewInbox()
		if _, err := nc.Subscribe(inbox, func(*nats.Msg) {}); err != nil {
			return nil
		}
		pad := strings.Repeat(" ", size)
		for i := 0; ctx.Err() == nil && nc.IsConnected(); i++ {
			body := []byte("{}" + pad)
			if strings.HasPrefix(subject, "do.") {
				body, _ = json.Marshal(map[string]any{"id": uuid.NewString(), "args": map[string]any{"name": "admin"}})
			}
			if reply {
				err = nc.PublishRequest(subject, inbox, body)
			} else {
				err = nc.Publish(subject, body)
			}
			if err != nil {
				return nil
			}
			if i%256 == 0 {
				_ = nc.FlushTimeout(time.Second)
			}
		}
		return nil
	}
}

// halfOpen opens connections and says nothing on them.
func halfOpen(ctx context.Context, address string) error {
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for range 400 {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			open = append(open, c)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
	return nil
}

// cutHandshake has the server work for a handshake and leaves.
func cutHandshake(address, ca string) error {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return nil
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := bufio.NewReaderSize(c, 16).ReadString('\n'); err != nil {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca))
	_ = tls.Client(c, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}).Handshake()
	return nil
}

package broker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"cloudengine/events"
	"cloudengine/events/broker"
)

// TestLoudOnesAreKeptOut has a user and a machine send too much: they lose their connections, come back after a while, and are never
// told that their access is over.
func TestLoudOnesAreKeptOut(t *testing.T) {
	f, _ := startTLS(t, broker.Limits{UserMsgs: 2000, MachineMsgs: 1000, Penalty: 5 * time.Second, HelloRate: 1e6})
	bob := f.user("bob", events.RoleOperate)
	id := events.MachineID(uuid.NewString())
	for name, connect := range map[string]func() (nc *nats.Conn, again nats.Option, subject string){
		"user": func() (*nats.Conn, nats.Option, string) {
			pub, key := newKey(t)
			f.reg.mu.Lock()
			f.reg.users[pub] = broker.User{Name: "eve", Role: events.RoleOperate}
			f.reg.mu.Unlock()
			return f.connect(key, nats.NoReconnect()), key, "do.eve.vm.create"
		},
		"machine": func() (*nats.Conn, nats.Option, string) {
			pub, key := newKey(t)
			f.reg.mu.Lock()
			f.reg.machines[pub] = broker.Machine{ID: id, Boot: "b"}
			f.reg.mu.Unlock()
			return f.connect(key, nats.NoReconnect()), key, "tel." + string(id) + ".alive"
		},
	} {
		t.Run(name, func(t *testing.T) {
			nc, key, subject := connect()
			for end := time.Now().Add(10 * time.Second); nc.IsConnected(); {
				for range 200 {
					_ = nc.Publish(subject, nil)
				}
				_ = nc.FlushTimeout(time.Second)
				if time.Now().After(end) {
					t.Fatal("the connection lives on")
				}
			}
			refused := 0
			for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				again, err := nats.Connect(f.srv.ClientURL(), append(f.opts, key)...)
				if err == nil {
					again.Close()
					break
				}
				refused++
				if strings.Contains(strings.ToLower(err.Error()), "authorization") || time.Now().After(end) {
					t.Fatalf("kept out with: %v", err)
				}
			}
			if refused == 0 {
				t.Error("let in again at once")
			}
		})
	}
	if !bob.IsConnected() || bob.Statistics.Reconnects > 0 {
		t.Error("another was disconnected")
	}
}

// TestStrangersAreClosed opens connections that say nothing: they are closed, and whoever says who he is still gets in.
func TestStrangersAreClosed(t *testing.T) {
	f, _ := startTLS(t, broker.Limits{Strangers: 20})
	open := 0
	for range 100 {
		c := dialRaw(t, f.srv)
		open++
		go func() {
			_, _ = c.Read(make([]byte, 1))
		}()
	}
	nc := f.user("bob", events.RoleOperate)
	deadline := time.Now().Add(3 * time.Second) // before the time for a handshake is over
	for f.srv.Connections() > 20+10 {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are open, of %d", f.srv.Connections(), open)
		}
		time.Sleep(5 * time.Millisecond) // the server needs the processor
	}
	if !nc.IsConnected() {
		t.Error("a user was closed too")
	}
}

// TestManyConnectionsOfOne has a machine connect more often than it may: the oldest connections go.
func TestManyConnectionsOfOne(t *testing.T) {
	f, _ := startTLS(t, broker.Limits{PerMachine: 3, PerUser: 5})
	for _, x := range []struct {
		most    int
		connect func() *nats.Conn
	}{
		{3, func() *nats.Conn { nc, _ := f.machine("m1", "b"); return nc }},
		{5, func() *nats.Conn { return f.user("eve", events.RoleRead) }},
	} {
		var all []*nats.Conn
		for range x.most + 4 {
			nc := x.connect()
			nc.Opts.AllowReconnect = false
			all = append(all, nc)
		}
		deadline := time.Now().Add(20 * time.Second)
		for {
			n := 0
			for _, nc := range all {
				if nc.IsConnected() {
					n++
				}
			}
			if n == x.most && all[len(all)-1].IsConnected() {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d connections live, want the last %d", n, x.most)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// TestHandshakesAreCounted stops an address that begins too many.
func TestHandshakesAreCounted(t *testing.T) {
	f, _ := startTLS(t, broker.Limits{HelloRate: 2})
	let, last, began := 0, error(nil), time.Now()
	for range 30 {
		nc, err := nats.Connect(f.srv.ClientURL(), append(f.opts, nats.Name("x"))...)
		if err == nil {
			nc.Close()
			t.Fatal("nobody is let in")
		}
		if strings.Contains(strings.ToLower(err.Error()), "authorization") {
			let++
		} else {
			last = err
		}
	}
	if most := 8 + 2*int(1+time.Since(began).Seconds()); let < 4 || let > most || let < 30 && last == nil {
		t.Errorf("%d of 30 handshakes were made, then: %v", let, last)
	}
	for end := time.Now().Add(10 * time.Second); ; { // and afterwards all is well
		pub, key := newKey(t)
		f.reg.mu.Lock()
		f.reg.users[pub] = broker.User{Name: "bob", Role: events.RoleRead}
		f.reg.mu.Unlock()
		nc, err := nats.Connect(f.srv.ClientURL(), append(f.opts, key)...)
		if err == nil {
			nc.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		<-time.After(100 * time.Millisecond)
	}
}

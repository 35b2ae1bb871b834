package broker_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/broker"
	"cloudengine/events/broker/certs"
)

func authority(t *testing.T) *certs.Authority {
	t.Helper()
	a, err := certs.Create(filepath.Join(t.TempDir(), "ca"))
	must(t, err)
	return a
}

func shown(t *testing.T, a *certs.Authority) *certs.Server {
	t.Helper()
	s, err := certs.NewServer(a, nil, nil)
	must(t, err)
	return s
}

// startTLS starts a server that speaks TLS, as in production. Clients of the fixture trust it.
func startTLS(t *testing.T, limits broker.Limits) (*fixture, *certs.Authority) {
	t.Helper()
	a := authority(t)
	srv, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), TLS: shown(t, a), Limits: limits})
	must(t, err)
	t.Cleanup(srv.Shutdown)
	cp, err := srv.Connect("test")
	must(t, err)
	js, err := jetstream.New(cp)
	must(t, err)
	r := &registry{users: map[string]broker.User{}, machines: map[string]broker.Machine{}, tokens: map[string]bool{}}
	srv.Open(r)
	return &fixture{t: t, srv: srv, reg: r, cp: cp, js: js, opts: []nats.Option{nats.Secure(&tls.Config{RootCAs: a.Pool()})}}, a
}

// TestTLSIsAskedOfEveryone has clients come without TLS, with half of it, and with trust in another cloud.
func TestTLSIsAskedOfEveryone(t *testing.T) {
	f, a := startTLS(t, broker.Limits{})
	watch := f.spy()
	must(t, f.user("alice", events.RoleOperate).Publish("do.alice.vm.create", []byte("{}")))
	pub, key := newKey(t)
	f.reg.mu.Lock()
	f.reg.users[pub] = broker.User{Name: "bob", Role: events.RoleAdmin}
	f.reg.mu.Unlock()
	for name, opts := range map[string][]nats.Option{
		"no_roots":     {key},
		"other_cloud":  {key, nats.Secure(&tls.Config{RootCAs: authority(t).Pool()})},
		"wrong_name":   {key, nats.Secure(&tls.Config{RootCAs: a.Pool(), ServerName: "other.example"})},
		"old_protocol": {key, nats.Secure(&tls.Config{RootCAs: a.Pool(), MaxVersion: tls.VersionTLS12})},
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := nats.Connect(f.srv.ClientURL(), opts...)
			if err == nil {
				nc.Close()
				t.Fatal("connected")
			}
		})
	}
	t.Run("plaintext", func(t *testing.T) { // speaks on, as if it had not seen that TLS is asked for
		c := dialRaw(t, f.srv)
		fmt.Fprintf(c, "CONNECT {\"verbose\":true,\"nkey\":%q,\"sig\":\"x\"}\r\nPUB do.bob.vm.delete 2\r\n{}\r\nPING\r\n", pub)
		if answer, err := bufio.NewReader(c).ReadString('\n'); err == nil && !strings.HasPrefix(answer, "-ERR") {
			t.Fatalf("answered %q", answer)
		}
	})
	f.settle()
	if got := watch.saw("do.bob"); len(got) > 0 {
		t.Fatalf("reached the control plane: %q", got)
	}
}

// dialRaw opens a connection and reads the server's greeting.
func dialRaw(t *testing.T, srv *broker.Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(strings.TrimPrefix(srv.ClientURL(), "tls://"), "nats://"))
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	if line, err := bufio.NewReaderSize(c, 4096).ReadString('\n'); err != nil || !strings.HasPrefix(line, "INFO ") {
		t.Fatalf("greeting %q, %v", line, err)
	}
	return c
}

// TestDowngradeIsNoticed puts a server without TLS where a client expects one with it: the client says nothing to it.
func TestDowngradeIsNoticed(t *testing.T) {
	f := start(t)
	pub, key := newKey(t)
	f.reg.mu.Lock()
	f.reg.users[pub] = broker.User{Name: "alice", Role: events.RoleAdmin}
	f.reg.mu.Unlock()
	_, err := nats.Connect(f.srv.ClientURL(), key, nats.Secure(&tls.Config{RootCAs: authority(t).Pool()}))
	if !errors.Is(err, nats.ErrSecureConnWanted) {
		t.Fatalf("connected: %v", err)
	}
}

// TestPlainIsForLoopback does not open the bus to others without TLS unless told so.
func TestPlainIsForLoopback(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0", ":0"} {
		if _, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Listen: address}); !errors.Is(err, broker.ErrPlain) {
			t.Errorf("%s: %v", address, err)
		}
	}
	_, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Cluster: &broker.Cluster{Listen: "0.0.0.0:0", Secret: "x"}})
	if !errors.Is(err, broker.ErrPlain) {
		t.Errorf("routes: %v", err)
	}
}

// TestStrangersAreNoServers calls the port of the other servers: with no certificate, with one of another cloud, with one made for a
// client, and with a right certificate and a wrong secret. None gets to say a word as a server.
func TestStrangersAreNoServers(t *testing.T) {
	a := authority(t)
	routes := startOneOfThree(t, a)
	good := shown(t, a).Peers()
	good.ServerName = "127.0.0.1"
	other := shown(t, authority(t)).Peers()
	other.ServerName, other.RootCAs = "127.0.0.1", a.Pool()
	for name, x := range map[string]struct {
		conf   *tls.Config
		secret string
		taken  bool
	}{
		"no_certificate": {&tls.Config{RootCAs: a.Pool(), ServerName: "127.0.0.1"}, secret, false},
		"other_cloud":    {other, secret, false},
		"wrong_secret":   {good, "guess", false},
		"a_server":       {good, secret, true}, // or the others would prove nothing
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", routes)
			must(t, err)
			defer c.Close()
			must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
			s := tls.Client(c, x.conf)
			if err := s.Handshake(); err != nil && !x.taken {
				return // in TLS 1.3 the server may tell later
			}
			fmt.Fprintf(s, "CONNECT {\"user\":\"route\",\"pass\":%q,\"name\":\"x\",\"cluster\":\"cloudengine\"}\r\n", x.secret)
			fmt.Fprintf(s, "INFO {\"server_id\":\"x\",\"server_name\":\"x\",\"cluster\":\"cloudengine\",\"proto\":1,\"headers\":true}\r\nRMSG CP events 1\r\nx\r\nPING\r\n")
			taken, lines := false, bufio.NewReader(s)
			for !taken {
				line, err := lines.ReadString('\n')
				if err != nil {
					break
				}
				taken = strings.HasPrefix(line, "PONG") || strings.HasPrefix(line, "RS+")
			}
			if taken != x.taken {
				t.Fatalf("taken for a server: %t", taken)
			}
		})
	}
}

const secret = "of this test"

// startOneOfThree starts a server of a cluster whose others are not there, until the test ends, and gives where it expects them. That
// it does not start proves that no stranger was taken for one of them.
func startOneOfThree(t *testing.T, a *certs.Authority) (routes string) {
	t.Helper()
	routes = freeAddress(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		srv, err := broker.Start(ctx, broker.Options{Dir: t.TempDir(), TLS: shown(t, a), Cluster: &broker.Cluster{
			Listen: routes, Routes: []string{routes, freeAddress(t)}, Secret: secret,
		}})
		if err == nil {
			srv.Shutdown()
		}
		ended <- err
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err == nil {
			t.Error("the server has found a cluster")
		}
	})
	for end := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", routes)
		if err == nil {
			_ = c.Close()
			return routes
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// TestCertificateIsNoKey has someone with a certificate of the authority come as a client: it says nothing about who he is.
func TestCertificateIsNoKey(t *testing.T) {
	f, a := startTLS(t, broker.Limits{})
	conf := shown(t, a).Peers()
	for name, opt := range map[string]nats.Option{"nobody": nats.Name("x"), "control": nats.UserInfo("control", ""), "enrol": nats.UserInfo(events.EnrolUser, uuid.NewString()+".x")} {
		nc, err := nats.Connect(f.srv.ClientURL(), opt, nats.Secure(conf))
		if err == nil {
			nc.Close()
			t.Errorf("%s is let in", name)
		}
	}
}

package broker_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"cloudengine/events/broker"
)

// wire connects a user without a library, so that anything can be said.
func (f *fixture) wire(t *testing.T, name, role string) *tls.Conn {
	t.Helper()
	f.t.Helper()
	pair, err := nkeys.CreateUser()
	must(t, err)
	pub, err := pair.PublicKey()
	must(t, err)
	f.reg.mu.Lock()
	f.reg.users[pub] = broker.User{Name: name, Role: role}
	f.reg.mu.Unlock()
	c, err := net.Dial("tcp", strings.TrimPrefix(f.srv.ClientURL(), "tls://"))
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	line, err := bufio.NewReaderSize(c, 1).ReadString('\n')
	must(t, err)
	var info struct{ Nonce string }
	must(t, json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info))
	sig, err := pair.Sign([]byte(info.Nonce))
	must(t, err)
	var o nats.Options
	must(t, f.opts[0](&o))
	conf := o.TLSConfig.Clone()
	conf.ServerName = "127.0.0.1"
	s := tls.Client(c, conf)
	_, err = fmt.Fprintf(s, "CONNECT {\"nkey\":%q,\"sig\":%q,\"headers\":true,\"verbose\":false,\"protocol\":1}\r\nPING\r\n", pub, base64.RawURLEncoding.EncodeToString(sig))
	must(t, err)
	if line, err := bufio.NewReaderSize(s, 16).ReadString('\n'); err != nil || line != "PONG\r\n" {
		t.Fatalf("answer to CONNECT: %q, %v", line, err)
	}
	return s
}

// deaf dials connections that stop reading when they are shut.
type deaf struct {
	mu   sync.Mutex
	gate chan struct{}
}

func (d *deaf) Dial(network, address string) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, 5*time.Second)
	return &deafConn{c, d}, err
}

func (d *deaf) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate = make(chan struct{})
}

type deafConn struct {
	net.Conn
	d *deaf
}

func (c *deafConn) Read(b []byte) (int, error) {
	c.d.mu.Lock()
	gate := c.d.gate
	c.d.mu.Unlock()
	if gate != nil {
		<-gate // for ever
	}
	return c.Conn.Read(b)
}

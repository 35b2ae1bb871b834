package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"cloudengine/events"
	"cloudengine/events/broker/certs"
)

// Options say how a server is started. Only Dir must be given.
type Options struct {
	Dir           string        // where the streams are kept
	Listen        string        // host:port for clients; default 127.0.0.1 and a free port; port 0 means a free port
	Name          string        // unique in the cluster; default s1
	Cluster       *Cluster      // nil: one server alone
	Own           []string      // durable consumers on FEED that the control plane will make: users are kept from them from the start
	TLS           *certs.Server // what clients and the other servers are shown; nil: nothing is encrypted, which is taken on loopback only
	UnsafePlain   bool          // take clients and servers from other machines without TLS: who is on the way reads and changes everything
	Limits        Limits        // of one client and of one address
	UnsafeNoFsync bool          // acknowledge before the disk has it: loses acknowledged decisions when the power fails
	Logger        *slog.Logger  // nil: nothing is logged
}

// Cluster says how this server finds the two others.
type Cluster struct {
	Name     string        // the same on all; default "cloudengine"
	Listen   string        // host:port for routes
	Routes   []string      // host:port of the others; this server's own may be among them
	Secret   string        // shared by all; needed when Listen is not loopback
	Replicas int           // of each stream; default 3
	Lease    time.Duration // how long Start waits for the cluster to have a leader; default 60 s
}

// User is a person or a program on the bus.
type User struct {
	Name    string // the actor in subjects
	Role    string // events.RoleRead …
	Account events.AccountID
}

// Machine is an enrolled machine on the bus.
type Machine struct {
	ID   events.MachineID
	Boot string
}

// Registry knows who may be on the bus. It is asked at each connect, from many goroutines at once, and must not block.
type Registry interface {
	UserByKey(key string) (User, bool)
	MachineByKey(key string) (Machine, bool)
	// TokenServed says whether a boot with this token (SHA-256, hex) was served to the machine and is not used up by another boot.
	TokenServed(m events.MachineID, sha256 string) bool
}

// ErrNoFsync says that EVENTS would be acknowledged before it is on disk.
var ErrNoFsync = errors.New("fsync is off: acknowledged decisions would be lost when the power fails")

const maxPayload = 2 << 20 // bytes of one message: a block of decisions and its headers

func (o *Options) setDefaults() error {
	if o.Dir == "" {
		return errors.New("start bus: no data directory given")
	}
	if o.Name == "" {
		o.Name = "s1"
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := o.checkPlain(o.Listen); err != nil {
		return err
	}
	if o.Cluster == nil {
		return nil
	}
	c := *o.Cluster
	if c.Name == "" {
		c.Name = "cloudengine"
	}
	if c.Replicas == 0 {
		c.Replicas = 3
	}
	if c.Lease == 0 {
		c.Lease = time.Minute
	}
	host, _, err := splitAddress(c.Listen)
	if err != nil {
		return fmt.Errorf("start bus: read cluster address: %w", err)
	}
	if ip := net.ParseIP(host); c.Secret == "" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("start bus: cluster address %s is not loopback: a shared secret is needed, or anyone could join", c.Listen)
	}
	o.Cluster = &c
	return o.checkPlain(c.Listen)
}

// ErrPlain says that the bus would be open to everyone on the way.
var ErrPlain = errors.New("without TLS, who is on the way between two machines reads and changes everything")

func (o *Options) checkPlain(address string) error {
	host, _, err := splitAddress(address)
	if err != nil {
		return fmt.Errorf("start bus: read address: %w", err)
	}
	if ip := net.ParseIP(host); o.TLS == nil && !o.UnsafePlain && (ip == nil || !ip.IsLoopback()) && host != "localhost" {
		return fmt.Errorf("start bus: listen on %s: %w", address, ErrPlain)
	}
	return nil
}

func (o *Options) replicas() int {
	if o.Cluster == nil {
		return 1
	}
	return o.Cluster.Replicas
}

// splitAddress gives host and port; port 0 becomes -1, which nats-server reads as "any free one".
func splitAddress(s string) (string, int, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", 0, fmt.Errorf("read port of %q: %w", s, err)
	}
	if n == 0 {
		n = -1
	}
	return host, n, nil
}

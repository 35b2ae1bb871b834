// Package broker is the embedded nats-server of the control plane: JetStream with fsync, the bus accounts and their permissions,
// the streams, and the in-process connections of the control plane itself. Production and tests start it the same way.
//
// It promises that only the control plane's own connections can publish to a stream, that a client can speak only in its own
// name, and that an access that is taken back ends at once. It does not know who may connect: a Registry tells it. It writes
// nothing to the streams and decides nothing.
package broker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

// Server is a running bus server. It is safe for concurrent use.
type Server struct {
	opts Options
	bus  *server.Server
	auth *authenticator
	conn *nats.Conn
	js   jetstream.JetStream

	feeds    *feedUsers
	machines chan enrolled // machines whose consumer is to be made
	stop     context.CancelFunc
	workers  sync.WaitGroup
}

// Start starts the server and declares the streams. Clients are admitted only after Open; until then they are disconnected
// without an answer and try again. In a cluster it waits for the others. Shutdown must be called when it returns no error.
func Start(ctx context.Context, o Options) (*Server, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	auth := &authenticator{control: hex.EncodeToString(secret), patient: o.Cluster != nil, guard: newGuard(o.Limits), live: map[uint64]client{}, own: map[string]bool{}}
	for _, name := range o.Own {
		auth.own[name] = true
	}
	bus, err := startBus(o, auth)
	if err != nil {
		return nil, fmt.Errorf("start bus: %w", err)
	}
	s := &Server{opts: o, bus: bus, auth: auth, feeds: newFeedUsers(), machines: make(chan enrolled, 1024)}
	auth.onMachine = s.machineConnected
	if err := s.prepare(ctx); err != nil {
		s.Shutdown()
		return nil, fmt.Errorf("start bus: %w", err)
	}
	return s, nil
}

func startBus(o Options, auth *authenticator) (*server.Server, error) {
	so, err := serverOptions(o, auth)
	if err != nil {
		return nil, err
	}
	so.CustomClientAuthentication = auth
	bus, err := server.NewServer(so)
	if err != nil {
		return nil, err
	}
	bus.SetLoggerV2(newNatsLogger(o.Logger.With("part", "nats-server")), false, false, false)
	auth.mu.Lock()
	auth.bus, auth.accounts = bus, map[string]*server.Account{}
	auth.mu.Unlock()
	bus.Start()
	for _, name := range []string{events.BusControl, events.BusUsers, events.BusMachines} {
		acc, err := bus.LookupAccount(name)
		if err != nil {
			bus.Shutdown()
			return nil, fmt.Errorf("look up bus account %s: %w", name, err)
		}
		auth.mu.Lock()
		auth.accounts[name] = acc
		auth.mu.Unlock()
	}
	if !bus.ReadyForConnections(20 * time.Second) {
		bus.Shutdown()
		return nil, fmt.Errorf("listen on %s: not ready within 20 s: is the address in use?", o.Listen)
	}
	return bus, nil
}

// maxSubs bounds the subscriptions of one connection; each takes memory here and in every server.
const maxSubs = 1024

// tlsTimeout bounds a handshake: long enough for a machine that is busy with its boot, short for one that only holds a connection.
const tlsTimeout = 5 * time.Second

func serverOptions(o Options, auth *authenticator) (*server.Options, error) {
	host, port, err := splitAddress(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("read listen address: %w", err)
	}
	so := &server.Options{}
	if err := so.ProcessConfigString(accounts); err != nil {
		return nil, fmt.Errorf("read bus accounts: %w", err)
	}
	so.ServerName, so.Host, so.Port = o.Name, host, port
	so.JetStream, so.StoreDir, so.SyncAlways = true, o.Dir, !o.UnsafeNoFsync
	so.NoSigs, so.NoLog, so.AlwaysEnableNonce = true, true, true
	so.MaxPayload, so.MaxPending = maxPayload, 64<<20
	so.MaxControlLine, so.AuthTimeout, so.MaxSubs = 4096, 3, maxSubs
	if o.TLS != nil {
		so.TLSConfig, so.TLSTimeout = o.TLS.Clients(auth.guard.admit), tlsTimeout.Seconds()
	}
	if c := o.Cluster; c != nil {
		if err := clusterOptions(so, c); err != nil {
			return nil, err
		}
		if o.TLS != nil {
			so.Cluster.TLSConfig, so.Cluster.TLSTimeout = o.TLS.Peers(), tlsTimeout.Seconds()
		}
	}
	return so, nil
}

func clusterOptions(so *server.Options, c *Cluster) error {
	host, port, err := splitAddress(c.Listen)
	if err != nil {
		return fmt.Errorf("read cluster address: %w", err)
	}
	so.Cluster.Name, so.Cluster.Host, so.Cluster.Port = c.Name, host, port
	so.Cluster.NoAdvertise = true
	if c.Secret != "" {
		so.Cluster.Username, so.Cluster.Password = "route", c.Secret
	}
	for _, r := range c.Routes {
		u := &url.URL{Scheme: "nats", Host: r}
		if c.Secret != "" {
			u.User = url.UserPassword("route", c.Secret)
		}
		if r != net.JoinHostPort(host, strconv.Itoa(port)) {
			so.Routes = append(so.Routes, u)
		}
	}
	return nil
}

// prepare connects, checks that fsync is on, declares the streams and starts the services of the bus itself.
func (s *Server) prepare(ctx context.Context) error {
	cfg := s.bus.JetStreamConfig()
	if cfg == nil {
		return errors.New("JetStream did not start: see the log for the reason")
	}
	if !cfg.SyncAlways && !s.opts.UnsafeNoFsync {
		return ErrNoFsync
	}
	var err error
	if s.conn, err = s.Connect("broker"); err != nil {
		return err
	}
	if s.js, err = jetstream.New(s.conn); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	wait := 20 * time.Second
	if s.opts.Cluster != nil {
		wait = s.opts.Cluster.Lease
	}
	dctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := ensureStreams(dctx, s.js, s.opts.replicas()); err != nil {
		return err
	}
	wctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	if err := s.serveFeed(wctx); err != nil {
		return err
	}
	if err := s.protectConsumers(dctx, wctx); err != nil {
		return err
	}
	s.workers.Go(func() { s.makeConsumers(wctx) })
	s.workers.Go(func() { s.watch(wctx) })
	return nil
}

// Open lets clients in, as the registry knows them. Call it when the registry is as complete as the log.
func (s *Server) Open(r Registry) {
	s.auth.mu.Lock()
	defer s.auth.mu.Unlock()
	s.auth.registry = r
}

// Connect makes a connection of the control plane itself: in-process, in the bus account CP, with all rights. The caller closes it.
func (s *Server) Connect(name string, opts ...nats.Option) (*nats.Conn, error) {
	base := []nats.Option{nats.Name(name), nats.InProcessServer(s.bus), nats.UserInfo(controlUser, s.auth.control),
		nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond)}
	nc, err := nats.Connect("", append(base, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect %s to the bus in-process: %w", name, err)
	}
	return nc, nil
}

// ClientURL is where clients connect.
func (s *Server) ClientURL() string { return s.bus.ClientURL() }

// ClusterAddress is where the other servers connect; empty without a cluster.
func (s *Server) ClusterAddress() string {
	if a := s.bus.ClusterAddr(); a != nil {
		return a.String()
	}
	return ""
}

// Name is the server's name in the cluster.
func (s *Server) Name() string { return s.opts.Name }

// IsLeader says whether this server leads a stream of CP. A server alone leads all. It is a hint: only an append proves it.
func (s *Server) IsLeader(stream string) bool {
	acc := s.auth.account(events.BusControl)
	return acc != nil && s.bus.Running() && acc.JetStreamIsStreamLeader(stream)
}

// StepDown asks this server to give up the leadership of a stream.
func (s *Server) StepDown(stream string) error {
	if err := s.bus.JetStreamStepdownStream(events.BusControl, stream); err != nil {
		return fmt.Errorf("give up leadership of %s: %w", stream, err)
	}
	return nil
}

// Kick disconnects the live clients that were let in with a key, and gives their number.
func (s *Server) Kick(key string) int {
	return s.auth.kick(func(c client) bool { return c.key == key })
}

// KickActor disconnects the live clients of an actor (a user's name, "machine:<id>" or "enrol:<id>") that came with another key
// than keep, and gives their number.
func (s *Server) KickActor(actor, keep string) int {
	return s.auth.kick(func(c client) bool { return c.actor == actor && c.key != keep })
}

// KickUnknown disconnects the live clients whose key the registry does not know any more, and gives their number.
func (s *Server) KickUnknown() int {
	s.auth.mu.Lock()
	r := s.auth.registry
	s.auth.mu.Unlock()
	if r == nil {
		return 0
	}
	return s.auth.kick(func(c client) bool {
		if strings.HasPrefix(c.actor, "enrol:") {
			return false
		}
		_, user := r.UserByKey(c.key)
		_, machine := r.MachineByKey(c.key)
		return !user && !machine
	})
}

// Health says what is wrong with the server; nil if nothing is.
func (s *Server) Health() error {
	if !s.bus.Running() {
		return errors.New("the bus server is not running")
	}
	if h := s.bus.Healthz(&server.HealthzOptions{}); h.StatusCode != 200 {
		return fmt.Errorf("the bus server is not healthy: %s", h.Error)
	}
	return nil
}

// Shutdown stops the server and waits for it. Connections made by Connect are closed by it.
func (s *Server) Shutdown() {
	if s.stop != nil {
		s.stop()
	}
	s.workers.Wait()
	if s.conn != nil {
		s.conn.Close()
	}
	s.bus.Shutdown()
	s.bus.WaitForShutdown()
}

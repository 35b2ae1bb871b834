package benchlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"golang.org/x/sync/errgroup"

	"cloudengine/commands/api"
	"cloudengine/commands/dispatch"
	"cloudengine/commands/dispatch/plane"
	"cloudengine/events"
	"cloudengine/events/broker"
)

// sides are the two that are compared, both running.
type sides struct {
	ours, raw endpoint
	fenced    endpoint // raw behind our bus accounts; one server only
	rawJS     jetstream.JetStream
	oursJS    jetstream.JetStream
	block     []byte // of one decision
	stops     []func()
	note      string
}

// noLimits lets all clients be one user, who sends as much as goes.
var noLimits = broker.Limits{UserMsgs: 1e9, PerUser: 1 << 20}

// endpoint is where a side's clients connect.
type endpoint struct {
	url     string
	options []nats.Option
}

func (s *sides) stop() {
	for i := len(s.stops) - 1; i >= 0; i-- {
		s.stops[i]()
	}
}

func startSides(ctx context.Context, dir string, servers int) (*sides, error) {
	s := &sides{note: "clients and server share this machine's CPUs: what a request costs there bounds both sides"}
	if err := s.startOurs(ctx, filepath.Join(dir, "ours"), servers); err != nil {
		s.stop()
		return nil, fmt.Errorf("start our side: %w", err)
	}
	answer, err := s.sample(ctx)
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("take a sample of a decision: %w", err)
	}
	if err := s.startRaw(ctx, filepath.Join(dir, "raw"), servers, answer); err != nil {
		s.stop()
		return nil, fmt.Errorf("start raw side: %w", err)
	}
	if servers == 1 {
		if err := s.startFenced(ctx, filepath.Join(dir, "fenced"), answer); err != nil {
			s.stop()
			return nil, fmt.Errorf("start raw side behind bus accounts: %w", err)
		}
	}
	return s, nil
}

func (s *sides) startOurs(ctx context.Context, dir string, servers int) error {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	key, err := kp.PublicKey()
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	routes, err := freeAddresses(servers)
	if err != nil {
		return err
	}
	planes := make([]*plane.Plane, servers)
	g, gctx := errgroup.WithContext(ctx)
	for i := range servers {
		o := plane.Options{
			Bus:      broker.Options{Dir: filepath.Join(dir, fmt.Sprint(i)), Name: fmt.Sprintf("s%d", i), Limits: noLimits},
			Dispatch: dispatch.Options{AdminKey: key, Poll: time.Hour}, // the others fold on machines of their own, not on this one's CPUs
		}
		if servers > 1 {
			o.Bus.Cluster = &broker.Cluster{Listen: routes[i], Routes: routes}
		}
		g.Go(func() error {
			p, err := plane.Start(gctx, o, serveAPI)
			planes[i] = p
			return err
		})
	}
	err = g.Wait()
	for _, p := range planes {
		if p != nil {
			s.stops = append(s.stops, p.Stop)
		}
	}
	if err != nil {
		return err
	}
	s.ours.options = []nats.Option{nats.Nkey(key, kp.Sign), nats.CustomInboxPrefix(events.InboxPrefix("admin"))}
	return until(ctx, "a dispatcher that decides", func() bool {
		for _, p := range planes {
			if p.Dispatch.Active() && p.Dispatch.Applied() >= 2 {
				s.ours.url, s.oursJS = p.Bus.ClientURL(), p.JS
				return true
			}
		}
		return false
	})
}

// serveAPI answers intents while the dispatcher is active, with the program's own endpoint.
func serveAPI(p *plane.Plane) error {
	service := api.New(api.Config{Bus: p.Conn, Decider: p.Dispatch, Log: slog.New(slog.DiscardHandler), ActorRate: 1e9})
	p.Dispatch.OnActive(func(active bool) {
		if !active {
			service.Close()
			return
		}
		if err := service.Open(); err != nil {
			panic(err) // the connection is in-process
		}
	})
	return nil
}

// sample has one intent decided, and keeps the block and the answer: the raw side writes and answers as many bytes.
func (s *sides) sample(ctx context.Context) ([]byte, error) {
	nc, err := s.ours.connect()
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	subject, body := newIntents(0).next()
	m, err := nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return nil, err
	}
	if !accepted(m.Data) {
		return nil, fmt.Errorf("answer %s", m.Data)
	}
	s.block = decisionOf(body)
	return m.Data, nil
}

func (e endpoint) connect() (*nats.Conn, error) {
	return nats.Connect(e.url, append([]nats.Option{nats.Timeout(10 * time.Second)}, e.options...)...)
}

// startRaw starts plain servers, and the service that answers when the bytes are stored.
func (s *sides) startRaw(ctx context.Context, dir string, servers int, answer []byte) error {
	routes, err := freeAddresses(servers)
	if err != nil {
		return err
	}
	var buses []*server.Server
	for i := range servers {
		o := &server.Options{
			ServerName: fmt.Sprintf("r%d", i), Host: "127.0.0.1", Port: -1, JetStream: true, SyncAlways: true,
			StoreDir: filepath.Join(dir, fmt.Sprint(i)), NoSigs: true, NoLog: true, MaxPayload: 2 << 20,
		}
		if servers > 1 {
			host, port, _ := strings.Cut(routes[i], ":")
			o.Cluster = server.ClusterOpts{Name: "raw", Host: host, Port: atoi(port)}
			o.Routes = server.RoutesFromStr("nats://" + strings.Join(routes, ",nats://"))
		}
		bus, err := server.NewServer(o)
		if err != nil {
			return err
		}
		bus.Start()
		s.stops = append(s.stops, func() { bus.Shutdown(); bus.WaitForShutdown() })
		buses = append(buses, bus)
	}
	for _, b := range buses {
		if !b.ReadyForConnections(20 * time.Second) {
			return errors.New("a plain server is not ready within 20 s")
		}
	}
	return s.serveRaw(ctx, buses, answer)
}

func (s *sides) serveRaw(ctx context.Context, buses []*server.Server, answer []byte) error {
	nc, err := nats.Connect("", nats.InProcessServer(buses[0]))
	if err != nil {
		return err
	}
	s.stops = append(s.stops, nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	cfg := jetstream.StreamConfig{Name: "RAW", Subjects: []string{"raw"}, Storage: jetstream.FileStorage, Replicas: len(buses),
		Discard: jetstream.DiscardNew, Duplicates: 100 * time.Millisecond}
	err = until(ctx, "the raw stream", func() bool {
		cctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := js.CreateOrUpdateStream(cctx, cfg)
		return err == nil
	})
	if err != nil {
		return err
	}
	leader := buses[0]
	err = until(ctx, "the leader of the raw stream", func() bool {
		for _, b := range buses {
			if len(buses) == 1 || b.JetStreamIsStreamLeader("$G", "RAW") {
				leader = b
				return true
			}
		}
		return false
	})
	if err != nil {
		return err
	}
	s.raw.url = leader.ClientURL()
	svc, err := nats.Connect("", nats.InProcessServer(leader))
	if err != nil {
		return err
	}
	if s.rawJS, err = jetstream.New(svc); err != nil {
		return err
	}
	return s.serveRawLoop(ctx, svc, s.rawJS, answer)
}

// serveRawLoop answers on a connection, until the sides are stopped. It closes the connection then.
func (s *sides) serveRawLoop(ctx context.Context, svc *nats.Conn, js jetstream.JetStream, answer []byte) error {
	done := make(chan struct{})
	rctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	requests := make(chan *nats.Msg, 16384)
	if _, err := svc.ChanSubscribe("do.>", requests); err != nil {
		cancel()
		return err
	}
	go func() { defer close(done); rawLoop(rctx, js, requests, s.block, answer) }()
	s.stops = append(s.stops, func() { cancel(); <-done; svc.Close() })
	return svc.Flush()
}

// onlyAdmin lets one user in.
type onlyAdmin string

func (k onlyAdmin) UserByKey(key string) (broker.User, bool) {
	return broker.User{Name: "admin", Role: events.RoleAdmin}, key == string(k)
}
func (onlyAdmin) MachineByKey(string) (broker.Machine, bool) { return broker.Machine{}, false }
func (onlyAdmin) TokenServed(events.MachineID, string) bool  { return false }

// startFenced starts the raw service behind the bus accounts that our side has: what they cost is no matter of ours being slow.
func (s *sides) startFenced(ctx context.Context, dir string, answer []byte) error {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	key, err := kp.PublicKey()
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	bus, err := broker.Start(ctx, broker.Options{Dir: dir, Limits: noLimits})
	if err != nil {
		return err
	}
	s.stops = append(s.stops, bus.Shutdown)
	bus.Open(onlyAdmin(key))
	s.fenced = endpoint{bus.ClientURL(), []nats.Option{nats.Nkey(key, kp.Sign), nats.CustomInboxPrefix(events.InboxPrefix("admin"))}}
	svc, err := bus.Connect("raw")
	if err != nil {
		return err
	}
	js, err := jetstream.New(svc)
	if err != nil {
		return err
	}
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "RAW", Subjects: []string{"raw"}, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardNew, Duplicates: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	return s.serveRawLoop(ctx, svc, js, answer)
}

// rawLoop stores as many bytes as decisions have for what waits, one block in flight, and answers.
func rawLoop(ctx context.Context, js jetstream.JetStream, requests <-chan *nats.Msg, decision, answer []byte) {
	batch := make([]*nats.Msg, 0, 512)
	body := make([]byte, 0, 512*len(decision))
	for {
		batch, body = batch[:0], body[:0]
		select {
		case m := <-requests:
			batch = append(batch, m)
		case <-ctx.Done():
			return
		}
		for len(batch) < cap(batch) && len(requests) > 0 {
			batch = append(batch, <-requests)
		}
		for range batch {
			body = append(body, decision...)
		}
		if _, err := js.Publish(ctx, "raw", body); err != nil {
			continue // the clients run into their time-out and say so
		}
		for _, m := range batch {
			_ = m.Respond(answer) // on an open connection
		}
	}
}

func until(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// freeAddresses gives loopback addresses that nobody listens on now.
func freeAddresses(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = l.Close() }()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

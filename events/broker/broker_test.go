package broker_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"cloudengine/events"
	"cloudengine/events/broker"
)

// registry is a fixed list of who may connect.
type registry struct {
	mu       sync.Mutex
	users    map[string]broker.User
	machines map[string]broker.Machine
	tokens   map[string]bool
}

func (r *registry) UserByKey(key string) (broker.User, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u, ok := r.users[key]
	return u, ok
}

func (r *registry) MachineByKey(key string) (broker.Machine, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.machines[key]
	return m, ok
}

func (r *registry) TokenServed(m events.MachineID, digest string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tokens[string(m)+digest]
}

type fixture struct {
	t   *testing.T
	srv *broker.Server
	reg *registry
	cp  *nats.Conn
	js  jetstream.JetStream

	opts []nats.Option // of its clients
}

func start(t *testing.T) *fixture {
	t.Helper()
	srv, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Own: []string{"power"}})
	must(t, err)
	t.Cleanup(srv.Shutdown)
	cp, err := srv.Connect("test")
	must(t, err)
	js, err := jetstream.New(cp)
	must(t, err)
	r := &registry{users: map[string]broker.User{}, machines: map[string]broker.Machine{}, tokens: map[string]bool{}}
	srv.Open(r)
	return &fixture{t: t, srv: srv, reg: r, cp: cp, js: js}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func newKey(t *testing.T) (string, nats.Option) {
	t.Helper()
	kp, err := nkeys.CreateUser()
	must(t, err)
	pub, err := kp.PublicKey()
	must(t, err)
	return pub, nats.Nkey(pub, kp.Sign)
}

func (f *fixture) connect(opts ...nats.Option) *nats.Conn {
	f.t.Helper()
	opts = append(slices.Clone(f.opts), append(opts, nats.Timeout(20*time.Second))...)
	nc, err := nats.Connect(f.srv.ClientURL(), append(opts, nats.PermissionErrOnSubscribe(true), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	must(f.t, err)
	f.t.Cleanup(nc.Close)
	return nc
}

func (f *fixture) user(name, role string) *nats.Conn {
	pub, opt := newKey(f.t)
	f.reg.mu.Lock()
	f.reg.users[pub] = broker.User{Name: name, Role: role}
	f.reg.mu.Unlock()
	return f.connect(opt, nats.CustomInboxPrefix(events.InboxPrefix(name)))
}

func (f *fixture) machine(id events.MachineID, boot string) (*nats.Conn, string) {
	pub, opt := newKey(f.t)
	f.reg.mu.Lock()
	f.reg.machines[pub] = broker.Machine{ID: id, Boot: boot}
	f.reg.mu.Unlock()
	return f.connect(opt, nats.CustomInboxPrefix(events.InboxPrefix(string(id)))), pub
}

// consumer waits until the machine's consumer is there.
func (f *fixture) consumer(nc *nats.Conn, id events.MachineID, boot string) jetstream.Consumer {
	f.t.Helper()
	js, err := jetstream.NewWithAPIPrefix(nc, events.MachineAPIPrefix)
	must(f.t, err)
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	for {
		c, err := js.Consumer(ctx, events.StreamDesired, events.DesiredConsumer(id, boot))
		if err == nil {
			return c
		}
		if !errors.Is(err, jetstream.ErrConsumerNotFound) {
			f.t.Fatal(err)
		}
	}
}

func (f *fixture) publish(subject, body string) {
	f.t.Helper()
	_, err := f.js.Publish(f.t.Context(), subject, []byte(body))
	must(f.t, err)
}

func TestRequestReachesService(t *testing.T) {
	f := start(t)
	_, err := f.cp.Subscribe("do.*.*.*", func(m *nats.Msg) { _ = m.Respond([]byte("done " + m.Subject)) })
	must(t, err)
	nc := f.user("alice", events.RoleOperate)
	m, err := nc.Request("do.alice.vm.create", []byte("{}"), 20*time.Second)
	must(t, err)
	if got := string(m.Data); got != "done do.alice.vm.create" {
		t.Fatalf("answer %q", got)
	}
}

func TestMachineReadsItsDocuments(t *testing.T) {
	f := start(t)
	id, boot := events.MachineID(uuid.NewString()), uuid.NewString()
	f.publish(events.DesiredSubject(id, "domain", "a"), "old")
	f.publish(events.DesiredSubject(id, "domain", "a"), "new")
	f.publish(events.DesiredSubject("other", "domain", "a"), "not yours")
	nc, _ := f.machine(id, boot)
	c := f.consumer(nc, id, boot)
	next := func(c jetstream.Consumer, want string) {
		t.Helper()
		m, err := c.Next(jetstream.FetchMaxWait(20 * time.Second))
		must(t, err)
		must(t, m.DoubleAck(t.Context()))
		if string(m.Data()) != want {
			t.Fatalf("got %q, want %q", m.Data(), want)
		}
	}
	next(c, "new")
	f.publish(events.DesiredSubject(id, "domain", "b"), "second")
	next(c, "second")

	// The agent starts again within the same boot, with a new key: it gets all documents again.
	nc.Close()
	nc, _ = f.machine(id, boot)
	deadline := time.Now().Add(10 * time.Second)
	for {
		c = f.consumer(nc, id, boot)
		if c.CachedInfo().NumPending == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("consumer was not made anew: %+v", c.CachedInfo())
		}
	}
	next(c, "new")
	next(c, "second")
}

func TestControlPlaneAsksMachine(t *testing.T) {
	f := start(t)
	id := events.MachineID(uuid.NewString())
	nc, _ := f.machine(id, uuid.NewString())
	_, err := nc.Subscribe(events.MachineRequestSubject(id, "console"), func(m *nats.Msg) { _ = m.Respond([]byte("boot ok")) })
	must(t, err)
	must(t, nc.Flush())
	m, err := f.cp.Request(events.MachineRequestSubject(id, "console"), nil, 20*time.Second)
	must(t, err)
	if string(m.Data) != "boot ok" {
		t.Fatalf("answer %q", m.Data)
	}
}

func TestMachineEnrolsWithToken(t *testing.T) {
	f := start(t)
	id := events.MachineID(uuid.NewString())
	f.reg.tokens[string(id)+digest("one-time")] = true
	_, err := f.cp.Subscribe("rep.*.*", func(m *nats.Msg) { _ = m.Respond([]byte(m.Subject)) })
	must(t, err)
	nc := f.connect(nats.UserInfo(events.EnrolUser, string(id)+".one-time"), nats.CustomInboxPrefix(events.EnrolInboxPrefix(id)))
	m, err := nc.Request(events.ReportSubject(id, events.ReportEnrol), nil, 20*time.Second)
	must(t, err)
	if string(m.Data) != events.ReportSubject(id, events.ReportEnrol) {
		t.Fatalf("answer %q", m.Data)
	}
	if _, err := nats.Connect(f.srv.ClientURL(), nats.UserInfo(events.EnrolUser, string(id)+".guessed")); !errors.Is(err, nats.ErrAuthorization) {
		t.Fatalf("guessed token: %v", err)
	}
}

func TestUserFollowsFeed(t *testing.T) {
	f := start(t)
	f.publish("feed.vm.1.vm_created_v1", "one")
	f.publish("feed.host.1.host_ready_v1", "not asked for")
	f.publish("feed.vm.2.vm_created_v1", "two")
	nc := f.user("alice", events.RoleRead)
	js, err := jetstream.NewWithAPIPrefix(nc, events.FeedAPIPrefix)
	must(t, err)
	for name, filters := range map[string][]string{"one_filter": {"feed.vm.>"}, "two_filters": {"feed.vm.1.>", "feed.vm.2.>"}} {
		t.Run(name, func(t *testing.T) {
			c, err := js.OrderedConsumer(t.Context(), events.StreamFeed, jetstream.OrderedConsumerConfig{FilterSubjects: filters})
			must(t, err)
			it, err := c.Messages()
			must(t, err)
			defer it.Stop()
			for _, want := range []string{"one", "two"} {
				m, err := it.Next(jetstream.NextMaxWait(20 * time.Second))
				must(t, err)
				if string(m.Data()) != want {
					t.Fatalf("got %q, want %q", m.Data(), want)
				}
			}
		})
	}
	// It resumes behind what it has seen.
	c, err := js.OrderedConsumer(t.Context(), events.StreamFeed, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: 3})
	must(t, err)
	m, err := c.Next(jetstream.FetchMaxWait(20 * time.Second))
	must(t, err)
	if string(m.Data()) != "two" {
		t.Fatalf("resumed with %q", m.Data())
	}
}

func TestKickEndsLiveConnections(t *testing.T) {
	f := start(t)
	id := events.MachineID(uuid.NewString())
	closed := make(chan struct{}, 2)
	pub, opt := newKey(t)
	f.reg.machines[pub] = broker.Machine{ID: id, Boot: uuid.NewString()}
	f.connect(opt, nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { closed <- struct{}{} }))
	if n := f.srv.KickActor("machine:"+string(id), pub); n != 0 {
		t.Fatalf("kicked %d that were to stay", n)
	}
	if n := f.srv.KickActor("machine:"+string(id), "other"); n != 1 {
		t.Fatalf("kicked %d", n)
	}
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("the connection lives on")
	}
	if n := f.srv.Kick(pub); n != 0 {
		t.Fatalf("kicked %d again", n)
	}
}

func TestNotReadyIsNotRefused(t *testing.T) {
	srv, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Own: []string{"power"}})
	must(t, err)
	t.Cleanup(srv.Shutdown)
	pub, opt := newKey(t)
	nc, err := nats.Connect(srv.ClientURL(), opt, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	must(t, err)
	defer nc.Close()
	srv.Open(&registry{users: map[string]broker.User{pub: {Name: "alice", Role: events.RoleRead}}})
	deadline := time.Now().Add(10 * time.Second)
	for nc.Status() != nats.CONNECTED {
		if time.Now().After(deadline) || nc.IsClosed() {
			t.Fatalf("status %v, last error %v", nc.Status(), nc.LastError())
		}
	}
}

func TestRestartKeepsStreams(t *testing.T) {
	dir := t.TempDir()
	for want := uint64(1); want <= 2; want++ {
		srv, err := broker.Start(t.Context(), broker.Options{Dir: dir})
		must(t, err)
		nc, err := srv.Connect("test")
		must(t, err)
		js, err := jetstream.New(nc)
		must(t, err)
		ack, err := js.Publish(t.Context(), events.SubjectEvents, []byte("block"))
		must(t, err)
		if ack.Sequence != want || !srv.IsLeader(events.StreamEvents) {
			t.Fatalf("sequence %d, leader %v", ack.Sequence, srv.IsLeader(events.StreamEvents))
		}
		must(t, srv.Health())
		srv.Shutdown()
	}
}

func TestClusterNeedsSecretOffLoopback(t *testing.T) {
	_, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Cluster: &broker.Cluster{Listen: "0.0.0.0:0"}})
	if err == nil {
		t.Fatal("started")
	}
}

package broker_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/broker"
)

// headers are those by which a message tells a stream what to do.
var headers = map[string]string{
	"Nats-Msg-Id": "x", "Nats-Expected-Stream": "EVENTS", "Nats-Expected-Last-Sequence": "0", "Nats-Expected-Last-Subject-Sequence": "0",
	"Nats-Expected-Last-Subject-Sequence-Subject": "events", "Nats-Expected-Last-Msg-Id": "wrong", "Nats-Rollup": "all", "Nats-TTL": "1s",
	"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1", "Nats-Batch-Commit": "1", "Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "events",
	"Nats-Schedule-Next": "purge", "Nats-Marker-Reason": "Purge", "Nats-Incr": "1", "Nats-Stream-Source": "EVENTS 1", "Nats-Required-Api-Level": "0",
	"Nats-Request-Info": `{"acc":"CP","user":"control"}`, "Nats-Pin-Id": "x", "Nats-Reply": "events",
}

// spy records everything that reaches the account of the control plane.
type spy struct {
	mu       sync.Mutex
	subjects []string
}

func (f *fixture) spy() *spy {
	f.t.Helper()
	s := &spy{}
	_, err := f.cp.Subscribe(">", func(m *nats.Msg) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.subjects = append(s.subjects, m.Subject)
	})
	must(f.t, err)
	must(f.t, f.cp.Flush())
	return s
}

func (s *spy) saw(prefixes ...string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, subject := range s.subjects {
		for _, p := range prefixes {
			if strings.HasPrefix(subject, p) {
				out = append(out, subject)
			}
		}
	}
	return out
}

// settle waits until what clients have published before is through.
func (f *fixture) settle(conns ...*nats.Conn) {
	f.t.Helper()
	for range 3 {
		for _, nc := range append(conns, f.cp) {
			must(f.t, nc.Flush())
		}
	}
}

func (f *fixture) state(stream string) jetstream.StreamState {
	f.t.Helper()
	s, err := f.js.Stream(f.t.Context(), stream)
	must(f.t, err)
	return s.CachedInfo().State
}

type hostile struct {
	name string
	nc   *nats.Conn
	own  []string // subjects that it may publish to
}

// hostiles are a user of every role, a machine, and a machine that is not enrolled; all with something of another's to reach for.
func (f *fixture) hostiles(machine, other events.MachineID, boot string) []hostile {
	f.reg.tokens[string(machine)+digest("t")] = true
	mc, _ := f.machine(machine, boot)
	f.consumer(mc, machine, boot)
	oc, _ := f.machine(other, boot)
	f.consumer(oc, other, boot)
	enrol := f.connect(nats.UserInfo(events.EnrolUser, string(machine)+".t"), nats.CustomInboxPrefix(events.EnrolInboxPrefix(machine)))
	name := events.DesiredConsumer(machine, boot)
	return []hostile{
		{"admin", f.user("root", events.RoleAdmin), []string{"do.root.vm.create", "read.root.vm.list", "feedapi.STREAM.INFO.FEED", "put.root.blob"}},
		{"reader", f.user("rita", events.RoleRead), []string{"read.rita.vm.list"}},
		{"machine", mc, []string{"rep." + string(machine) + ".state", "tel." + string(machine) + ".x", "machineapi.CONSUMER.INFO.DESIRED." + name, "machineapi.CONSUMER.MSG.NEXT.DESIRED." + name}},
		{"enrolling", enrol, []string{"rep." + string(machine) + ".enrol"}},
	}
}

// TestHostileClients has users and machines publish to every subject of a stream and of the JetStream API, with every header that a
// stream obeys, and to what belongs to another: nothing arrives, and nothing is stored.
func TestHostileClients(t *testing.T) {
	f := start(t)
	machine, other, boot := events.MachineID(uuid.NewString()), events.MachineID(uuid.NewString()), uuid.NewString()
	f.publish(events.SubjectEvents, "block")
	f.publish("feed.vm.1.vm_created_v1", "event")
	f.publish(events.DesiredSubject(other, "domain", "a"), "document")
	all := f.hostiles(machine, other, boot)
	before := map[string]jetstream.StreamState{}
	for _, s := range []string{events.StreamEvents, events.StreamFeed, events.StreamDesired} {
		before[s] = f.state(s)
	}
	watch := f.spy()
	yours := events.DesiredConsumer(other, boot)
	targets := []string{
		"events", "feed.vm.1.vm_created_v1", events.DesiredSubject(machine, "domain", "a"), events.DesiredSubject(other, "domain", "a"),
		"$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.DELETE.FEED", "$JS.API.STREAM.UPDATE.EVENTS", "$JS.API.STREAM.MSG.GET.EVENTS",
		"$JS.API.CONSUMER.CREATE.EVENTS", "$JS.API.CONSUMER.CREATE.FEED.x", "$JS.API.CONSUMER.DELETE.DESIRED." + yours, "$JS.API.INFO",
		"$JS.ACK.DESIRED." + yours + ".1.1.1.1.1", "$SYS.REQ.SERVER.PING", "_R_.x", "machineapi.CONSUMER.MSG.NEXT.DESIRED." + yours,
		"machineapi.CONSUMER.INFO.DESIRED." + yours, "do.bob.vm.delete", "read.bob.vm.list", "put.bob.secret", "console.bob.vm",
		"rep." + string(other) + ".state", "rep." + string(other) + ".enrol", "tel." + string(other) + ".x", "ask." + string(other) + ".console",
	}
	for _, h := range all {
		for _, target := range targets {
			must(t, h.nc.Publish(target, []byte(`{"batch":1}`)))
			for k, v := range headers {
				must(t, h.nc.PublishMsg(&nats.Msg{Subject: target, Header: nats.Header{k: {v}}, Data: []byte("x")}))
			}
		}
		f.settle(h.nc)
	}
	if got := watch.saw("events", "feed.", "desired.", "$JS.A", "do.bob", "read.bob", "put.bob", "console.bob", "rep."+string(other), "tel."+string(other)); len(got) > 0 {
		t.Errorf("reached the control plane: %.10q", got)
	}
	for s, was := range before {
		if now := f.state(s); now.Msgs != was.Msgs || now.LastSeq != was.LastSeq || now.Consumers != was.Consumers {
			t.Errorf("stream %s was %+v, is %+v", s, was, now)
		}
	}
	f.publish(events.SubjectEvents, "the log still takes blocks")
}

// TestReplyInjection names streams, and others' services, as reply subjects of requests that are allowed.
func TestReplyInjection(t *testing.T) {
	f := start(t)
	machine, other, boot := events.MachineID(uuid.NewString()), events.MachineID(uuid.NewString()), uuid.NewString()
	f.publish("feed.vm.1.vm_created_v1", "event")
	f.publish(events.DesiredSubject(machine, "domain", "a"), "document")
	all := f.hostiles(machine, other, boot)
	for _, subject := range []string{"do.*.*.*", "read.*.*.*", "put.*.*", "rep.*.*"} {
		_, err := f.cp.Subscribe(subject, func(m *nats.Msg) {
			if m.Reply != "" { // as the endpoints do
				_ = m.Respond([]byte("answer"))
			}
		})
		must(t, err)
	}
	var answered sync.Map // what arrives at another's service with a reply subject, which is what an endpoint would work on
	_, err := f.cp.Subscribe(">", func(m *nats.Msg) {
		for _, p := range []string{"do.bob", "rep." + string(other)} {
			if strings.HasPrefix(m.Subject, p) && m.Reply != "" && !strings.HasPrefix(m.Reply, "$JS.ACK") {
				answered.Store(m.Subject, m.Reply)
			}
		}
	})
	must(t, err)
	log, feed, desired := f.state(events.StreamEvents), f.state(events.StreamFeed), f.state(events.StreamDesired)
	for _, h := range all {
		for _, own := range h.own {
			for _, reply := range []string{"events", "feed.vm.1.x", events.DesiredSubject(other, "domain", "a"), "do.bob.vm.delete",
				"rep." + string(other) + ".state", "$JS.API.STREAM.PURGE.FEED"} {
				must(t, h.nc.PublishMsg(&nats.Msg{Subject: own, Reply: reply, Data: []byte(`{"batch":1,"no_wait":true}`),
					Header: nats.Header{"Nats-Expected-Last-Msg-Id": {"wrong"}}}))
			}
		}
		f.settle(h.nc)
	}
	for s, was := range map[string]jetstream.StreamState{events.StreamEvents: log, events.StreamFeed: feed, events.StreamDesired: desired} {
		if now := f.state(s); now.Msgs != was.Msgs || now.LastSeq != was.LastSeq {
			t.Errorf("stream %s was %+v, is %+v", s, was, now)
		}
	}
	answered.Range(func(k, v any) bool { t.Errorf("%s reached a service with reply %s", k, v); return true })
}

// TestListeningIsRefused has clients listen to what is not theirs.
func TestListeningIsRefused(t *testing.T) {
	f := start(t)
	machine, other, boot := events.MachineID(uuid.NewString()), events.MachineID(uuid.NewString()), uuid.NewString()
	for _, h := range f.hostiles(machine, other, boot) {
		for _, subject := range []string{">", "_INBOX.>", "_INBOX_bob.>", "*.>", "do.>", "rep.>", "feed.>", "events", "desired.>", "$JS.>", "_R_.>",
			events.InboxPrefix(string(other)) + ".>", "ask." + string(other) + ".>", "ask.*.console", "machineapi.>", "$SYS.>"} {
			sub, err := h.nc.SubscribeSync(subject)
			must(t, err)
			must(t, h.nc.Flush())
			_, err = sub.NextMsg(time.Second)
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), "permissions violation") {
				t.Errorf("%s listens to %s: %v", h.name, subject, err)
			}
		}
	}
}

// TestFeedAPIGivesOrderedConsumersOnly asks the users' API for consumers that could do harm.
func TestFeedAPIGivesOrderedConsumersOnly(t *testing.T) {
	f := start(t)
	f.publish("feed.vm.1.vm_created_v1", "event")
	_, err := f.js.CreateConsumer(t.Context(), events.StreamFeed, jetstream.ConsumerConfig{Durable: "power", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	nc := f.user("rita", events.RoleRead)
	for name, cfg := range map[string]string{
		"deliver_subject": `{"deliver_subject":"events","ack_policy":"none"}`,
		"durable":         `{"durable_name":"mine","ack_policy":"none"}`,
		"acknowledged":    `{"ack_policy":"explicit"}`,
		"other_stream":    `{"ack_policy":"none","filter_subject":"desired.>"}`,
		"bad_filter":      `{"ack_policy":"none","filter_subjects":["feed.>","events"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			m, err := nc.Request("feedapi.CONSUMER.CREATE.FEED.x_1", []byte(`{"stream_name":"EVENTS","config":`+cfg+`}`), 20*time.Second)
			must(t, err)
			var a struct{ Error *jetstream.APIError }
			must(t, json.Unmarshal(m.Data, &a))
			if a.Error == nil {
				t.Fatalf("answer %s", m.Data)
			}
		})
	}
	for _, subject := range []string{"feedapi.CONSUMER.DELETE.FEED.power", "feedapi.CONSUMER.INFO.FEED.power"} {
		m, err := nc.Request(subject, nil, 20*time.Second)
		must(t, err)
		if !strings.Contains(string(m.Data), "consumer not found") {
			t.Fatalf("%s: %s", subject, m.Data)
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for { // the connection is renewed when the control plane makes a consumer of its own
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := nc.RequestWithContext(ctx, "feedapi.CONSUMER.MSG.NEXT.FEED.power", []byte("1"))
		cancel()
		if err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a user pulls from the power worker's consumer")
		}
	}
	c, err := f.js.Consumer(t.Context(), events.StreamFeed, "power")
	must(t, err)
	if got := c.CachedInfo(); got.NumPending+uint64(got.NumAckPending) != 1 {
		t.Fatalf("consumer %+v", got)
	}
}

func TestForgedIdentity(t *testing.T) {
	f := start(t)
	pub, _ := newKey(t)
	_, other := newKey(t)
	for name, opt := range map[string]nats.Option{
		"nobody":         nats.Name("x"),
		"control":        nats.UserInfo("control", ""),
		"guess":          nats.UserInfo("control", "00000000"),
		"unknown_key":    other,
		"no_signature":   nats.Nkey(pub, func([]byte) ([]byte, error) { return nil, nil }),
		"bad_signature":  nats.Nkey(pub, func([]byte) ([]byte, error) { return make([]byte, 64), nil }),
		"enrol_no_token": nats.UserInfo(events.EnrolUser, uuid.NewString()+"."),
		"enrol_wild":     nats.UserInfo(events.EnrolUser, "*.x"),
		"token":          nats.Token("x"),
	} {
		t.Run(name, func(t *testing.T) {
			f.reg.mu.Lock()
			f.reg.users[pub] = broker.User{Name: "alice", Role: events.RoleAdmin}
			f.reg.mu.Unlock()
			nc, err := nats.Connect(f.srv.ClientURL(), opt)
			if err == nil {
				nc.Close()
				t.Fatal("let in")
			}
		})
	}
}

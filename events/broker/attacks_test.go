package broker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/broker"
)

// TestOtherDoorsToTheStreams tries the API of the streams under every prefix that a client may write to, and some that it may not.
func TestOtherDoorsToTheStreams(t *testing.T) {
	f, _ := startTLS(t, broker.Limits{})
	machine, other, boot := events.MachineID(uuid.NewString()), events.MachineID(uuid.NewString()), uuid.NewString()
	f.publish(events.SubjectEvents, "block")
	f.publish("feed.vm.1.vm_created_v1", "event")
	f.publish(events.DesiredSubject(other, "domain", "a"), "secret document")
	all := f.hostiles(machine, other, boot)
	f.spy()
	before := f.all()
	for _, h := range all {
		for _, prefix := range []string{"feedapi.", "machineapi.", "$JS.API.", "$JS.hub.API.", "$JS.x.API."} {
			for _, api := range []string{
				"STREAM.MSG.GET.EVENTS", "STREAM.MSG.GET.FEED", "STREAM.MSG.DELETE.FEED", "STREAM.PURGE.FEED", "STREAM.DELETE.DESIRED", "STREAM.UPDATE.EVENTS",
				"STREAM.SNAPSHOT.EVENTS", "STREAM.RESTORE.EVENTS", "STREAM.LEADER.STEPDOWN.EVENTS", "STREAM.PEER.REMOVE.EVENTS", "STREAM.INFO.EVENTS", "DIRECT.GET.EVENTS",
				"DIRECT.GET.DESIRED." + events.DesiredSubject(other, "domain", "a"), "CONSUMER.MSG.NEXT.EVENTS.x", "CONSUMER.DURABLE.CREATE.EVENTS.x", "CONSUMER.CREATE.EVENTS.x",
				"CONSUMER.CREATE.DESIRED.x", "CONSUMER.RESET.FEED.power", "CONSUMER.PAUSE.FEED.power", "CONSUMER.UNPIN.FEED.power", "META.LEADER.STEPDOWN", "ACCOUNT.PURGE.CP",
			} {
				m, err := request(h.nc, prefix+api, `{"seq":1,"subject":"x","last_by_subj":"events"}`)
				if err == nil && strings.Contains(string(m.Data), "secret") {
					t.Errorf("%s reads by %s%s: %s", h.name, prefix, api, m.Data)
				}
			}
		}
	}
	f.same(before)
}

// request is short: who may not ask gets no answer.
func request(nc *nats.Conn, subject, body string) (*nats.Msg, error) {
	return nc.Request(subject, []byte(body), 10*time.Millisecond)
}

func (f *fixture) all() map[string]jetstream.StreamState {
	out := map[string]jetstream.StreamState{}
	for _, s := range []string{events.StreamEvents, events.StreamFeed, events.StreamDesired} {
		out[s] = f.state(s)
	}
	return out
}

// same wants that nothing was added, taken, or made to be read.
func (f *fixture) same(before map[string]jetstream.StreamState) {
	f.t.Helper()
	for s, was := range before {
		if now := f.state(s); now.Msgs != was.Msgs || now.FirstSeq != was.FirstSeq || now.LastSeq != was.LastSeq || now.Consumers != was.Consumers {
			f.t.Errorf("stream %s was %+v, is %+v", s, was, now)
		}
	}
}

// TestSniffing listens in groups, at inboxes of others, and at the doors of services, while others talk.
func TestSniffing(t *testing.T) {
	f, _ := startTLS(t, broker.Limits{})
	machine, other, boot := events.MachineID(uuid.NewString()), events.MachineID(uuid.NewString()), uuid.NewString()
	_, err := f.cp.Subscribe("do.*.*.*", func(m *nats.Msg) { _ = m.Respond([]byte("for bob alone")) })
	must(t, err)
	var heard []*nats.Subscription
	all := f.hostiles(machine, other, boot)
	for _, h := range all {
		for _, subject := range []string{"do.>", "do.bob.vm.*", "_INBOX_bob.>", "_INBOX_bob.*.*", "_INBOX.>", ">", "*", "*.*.*.*", "ask.>", "ask.*.*", "_R_.>", "$JS.ACK.>", "$SYS.>",
			"rep.*.*", "tel.>", events.InboxPrefix(string(other)) + ".>", events.EnrolInboxPrefix(other) + ".>"} {
			sub, err := h.nc.SubscribeSync(subject)
			must(t, err)
			group, err := h.nc.QueueSubscribeSync(subject, "services") // a member of the services' own group
			must(t, err)
			heard = append(heard, sub, group)
		}
		must(t, h.nc.Flush())
	}
	bob := f.user("bob", events.RoleAdmin)
	for range 20 {
		m, err := bob.Request("do.bob.vm.create", []byte("a secret"), 20*time.Second)
		must(t, err)
		if string(m.Data) != "for bob alone" {
			t.Fatalf("another answered: %s", m.Data)
		}
	}
	f.settle(bob, all[0].nc, all[1].nc, all[2].nc)
	for _, sub := range heard {
		if n, _, err := sub.Pending(); err == nil && n > 0 {
			t.Errorf("%s heard %d messages", sub.Subject, n)
		}
	}
}

// TestSystemAccount asks the server about itself and others.
func TestSystemAccount(t *testing.T) {
	f, _ := startTLS(t, broker.Limits{})
	machine, other, boot := events.MachineID(uuid.NewString()), events.MachineID(uuid.NewString()), uuid.NewString()
	for _, h := range f.hostiles(machine, other, boot) {
		for _, subject := range []string{"$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.CP.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.ACCOUNT.USERS.SUBSZ",
			"$SYS.REQ.SERVER.PING.KICK", "$SYS.REQ.SERVER.RELOAD", "$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.USER.INFO", "$SYS.REQ.DEBUG.SUBSCRIBERS"} {
			if m, err := request(h.nc, subject, `{"cid":1}`); err == nil {
				t.Errorf("%s is told by %s: %.200s", h.name, subject, m.Data)
			}
		}
	}
}

// TestLargeThings sends what is larger than anything may be: it ends that connection and nothing else.
func TestLargeThings(t *testing.T) {
	f, _ := startTLS(t, broker.Limits{})
	_, err := f.cp.Subscribe("do.*.*.*", func(m *nats.Msg) { _ = m.Respond(nil) })
	must(t, err)
	bob, before := f.user("bob", events.RoleOperate), f.all()
	for name, send := range map[string]string{
		"body":            fmt.Sprintf("PUB do.eve.vm.create %d\r\n", 3<<20),
		"negative_body":   "PUB do.eve.vm.create -1\r\nx\r\n",
		"huge_number":     "PUB do.eve.vm.create 99999999999999999999\r\nx\r\n",
		"headers":         "HPUB do.eve.vm.create 100 10\r\n" + strings.Repeat("x", 200) + "\r\n",
		"header_is_short": "HPUB do.eve.vm.create 2 1\r\nx\r\n",
		"control_line":    "PUB " + strings.Repeat("do.", 5000) + "x 1\r\nx\r\n",
		"subject":         "SUB " + strings.Repeat("a.", 3000) + " 1\r\n",
		"rubbish":         strings.Repeat("\x00\xff rubbish ", 2000),
		"as_a_server":     "RMSG CP events 1\r\nx\r\nRS+ CP events\r\nA+ CP\r\nLMSG events 1\r\nx\r\n",
		"subscriptions":   subscriptions(3000) + "RUBBISH\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := f.wire(t, "eve", events.RoleOperate)
			if _, err := io.WriteString(c, send); err != nil {
				t.Logf("ended while it was sent: %v", err)
			}
			_, err := io.WriteString(c, "PING\r\n")
			said, rest := io.ReadAll(c)
			if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(rest, os.ErrDeadlineExceeded) || strings.Contains(string(said), "PONG") {
				t.Errorf("the connection lives on: %.300q", said)
			}
			if name == "subscriptions" && strings.Count(strings.ToLower(string(said)), "maximum subscriptions exceeded") < 1900 {
				t.Errorf("more than 1,100 subscriptions were taken: %.300q", said)
			}
			if _, err := bob.Request("do.bob.vm.create", []byte("{}"), 20*time.Second); err != nil {
				t.Errorf("another is not served: %v", err)
			}
		})
	}
	f.same(before)
}

func subscriptions(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "SUB _INBOX_eve.%d %d\r\n", i, i+10)
	}
	return b.String()
}

// TestNamesWithWildcards has the log know users and machines with names that no name may be: they must not get in.
func TestNamesWithWildcards(t *testing.T) {
	f, _ := startTLS(t, broker.Limits{})
	for _, name := range []string{"*", ">", "a.b", "bob.>", "", " ", "a b", "bob\r\nSUB > 1", strings.Repeat("a", 65), "machine:x", "Ä"} {
		pub, key := newKey(t)
		mpub, mkey := newKey(t)
		f.reg.mu.Lock()
		f.reg.users[pub] = broker.User{Name: name, Role: events.RoleAdmin}
		f.reg.machines[mpub] = broker.Machine{ID: events.MachineID(name), Boot: "b"}
		f.reg.tokens[name+digest("t")] = true
		f.reg.mu.Unlock()
		for what, opt := range map[string]nats.Option{"user": key, "machine": mkey, "token": nats.UserInfo(events.EnrolUser, name+".t")} {
			nc, err := nats.Connect(f.srv.ClientURL(), append(f.opts, opt)...)
			if err == nil {
				nc.Close()
				t.Errorf("%s %q is let in", what, name)
			}
		}
	}
}

// TestConsumersOnFeedAreCounted has a user make consumers without end; another still gets one.
func TestConsumersOnFeedAreCounted(t *testing.T) {
	f, _ := startTLS(t, broker.Limits{})
	f.publish("feed.vm.1.vm_created_v1", "event")
	eve, bob := f.user("eve", events.RoleRead), f.user("bob", events.RoleRead)
	create := func(nc *nats.Conn, forged bool) (name string, refused *jetstream.APIError) {
		t.Helper()
		msg := nats.NewMsg("feedapi.CONSUMER.CREATE.FEED.x_1")
		msg.Data = []byte(`{"config":{"ack_policy":"none"}}`)
		if forged { // pretend to be another each time
			msg.Header.Set("Nats-Request-Info", fmt.Sprintf(`{"acc":"USERS","user":%q}`, uuid.NewString()))
		}
		m, err := nc.RequestMsg(msg, 20*time.Second)
		must(t, err)
		var a struct {
			Name  string
			Error *jetstream.APIError
		}
		must(t, json.Unmarshal(m.Data, &a))
		return a.Name, a.Error
	}
	var first string
	made := 0
	for range 300 {
		name, refused := create(eve, true)
		if refused == nil {
			made++
			first = name
		}
	}
	if made == 0 || made > 128 {
		t.Errorf("%d consumers were made", made)
	}
	if _, refused := create(bob, false); refused != nil {
		t.Errorf("another gets none: %v", refused)
	}
	_, err := eve.Request("feedapi.CONSUMER.DELETE.FEED."+first, nil, 20*time.Second)
	must(t, err)
	for end := time.Now().Add(10 * time.Second); ; {
		if _, refused := create(eve, false); refused == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("one was deleted, and none can be made")
		}
	}
}

// TestAnswersAreBounded has a machine answer one question of the control plane for ever, and another's question at all.
func TestAnswersAreBounded(t *testing.T) {
	f, _ := startTLS(t, broker.Limits{MachineMsgs: 1e6}) // else it may be closed as a loud one
	id, other := events.MachineID(uuid.NewString()), events.MachineID(uuid.NewString())
	nc, _ := f.machine(id, uuid.NewString())
	asked := make(chan string, 1)
	_, err := nc.Subscribe(events.MachineRequestSubject(id, "console"), func(m *nats.Msg) { asked <- m.Reply })
	must(t, err)
	must(t, nc.Flush())
	inbox, err := f.cp.SubscribeSync("_INBOX.answers")
	must(t, err)
	must(t, f.cp.PublishRequest(events.MachineRequestSubject(id, "console"), "_INBOX.answers", nil))
	reply := <-asked
	for range 6000 {
		must(t, nc.Publish(reply, []byte("more")))
	}
	f.settle(nc)
	if n, _, err := inbox.Pending(); err != nil || n == 0 || n > 4096 {
		t.Errorf("%d answers to one question, %v", n, err)
	}
	thief, _ := f.machine(other, uuid.NewString())
	must(t, thief.Publish(reply, []byte("stolen")))
	f.settle(thief)
	for {
		m, err := inbox.NextMsg(50 * time.Millisecond)
		if err != nil {
			break
		}
		if string(m.Data) == "stolen" {
			t.Fatal("another machine has answered")
		}
	}
}

// TestSlowReader has a user ask for all of FEED at once, again and again, and read nothing: others are served, and the log takes blocks.
func TestSlowReader(t *testing.T) {
	f, _ := startTLS(t, broker.Limits{})
	body := strings.Repeat("x", 64<<10)
	for i := range 200 {
		f.publish(fmt.Sprintf("feed.vm.%d.vm_created_v1", i), body)
	}
	pub, key := newKey(t)
	f.reg.mu.Lock()
	f.reg.users[pub] = broker.User{Name: "eve", Role: events.RoleRead}
	f.reg.mu.Unlock()
	eve := f.connect(key, nats.CustomInboxPrefix(events.InboxPrefix("eve")), nats.SetCustomDialer(&deaf{}))
	bob := f.user("bob", events.RoleRead)
	_, err := f.cp.Subscribe("read.*.*.*", func(m *nats.Msg) { _ = m.Respond(nil) })
	must(t, err)
	js, err := jetstream.NewWithAPIPrefix(eve, events.FeedAPIPrefix)
	must(t, err)
	for range 8 {
		c, err := js.OrderedConsumer(t.Context(), events.StreamFeed, jetstream.OrderedConsumerConfig{})
		must(t, err)
		_, err = c.Messages(jetstream.PullMaxMessages(100_000))
		must(t, err)
	}
	eve.Opts.CustomDialer.(*deaf).shut()
	for range 50 {
		if _, err := bob.Request("read.bob.vm.list", nil, 20*time.Second); err != nil {
			t.Fatalf("another is not served: %v", err)
		}
		f.publish(events.SubjectEvents, "the log takes blocks")
	}
}

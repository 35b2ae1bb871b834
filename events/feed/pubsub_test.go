package feed

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const restartWord = "restart-broker"

// TestMain is also the program that watermill's suite runs to restart the broker: it asks the test process to do it.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == restartWord {
		c, err := net.Dial("tcp", os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_, err = io.Copy(io.Discard, c) // ends when it has been done
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// restartable is a broker with a stream that captures all topics of the suite.
type restartable struct {
	t    *testing.T
	mu   sync.Mutex
	srv  *server.Server
	dir  string
	port int
	ask  net.Listener
}

func mustRestartable(t *testing.T) *restartable {
	t.Helper()
	b := &restartable{t: t, dir: t.TempDir(), port: -1}
	b.start()
	js := b.connect()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SUITE", Subjects: []string{"topic.>"}}); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.ask, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := b.ask.Accept()
			if err != nil {
				return
			}
			b.stop()
			b.start()
			c.Close()
		}
	})
	t.Cleanup(func() { b.ask.Close(); wg.Wait(); b.stop() })
	return b
}

func (b *restartable) start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.srv = mustServer(b.t, b.dir, b.port)
	b.port = b.srv.Addr().(*net.TCPAddr).Port
}

func (b *restartable) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
}

func (b *restartable) connect() jetstream.JetStream {
	b.t.Helper()
	nc, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", b.port), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.t.Fatal(err)
	}
	return js
}

func suite(t *testing.T, b *restartable, inFlight int, ordered bool) {
	js := b.connect()
	pubSub := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		return NewPublisher(js), NewSubscriber(js, SubscriberConfig{
			Stream:    "SUITE",
			Name:      func(topic string) string { return group + "_" + strings.NewReplacer(".", "_").Replace(topic) },
			InFlight:  inFlight,
			AckWait:   3 * time.Second,
			NackDelay: func(uint64) time.Duration { return time.Millisecond },
		})
	}
	features := tests.Features{
		ConsumerGroups:                      true,
		GuaranteedOrder:                     ordered,
		GuaranteedOrderWithSingleSubscriber: ordered,
		Persistent:                          true,
		RestartServiceCommand:               []string{os.Args[0], restartWord, b.ask.Addr().String()},
		GenerateTopicFunc:                   func(c tests.TestContext) string { return "topic." + c.TestID.String() },
	}
	tests.TestPubSub(t, features,
		func(t *testing.T) (message.Publisher, message.Subscriber) { return pubSub(t, "suite") }, pubSub)
	// Who comes with a name of its own reads from the start.
	features.NewSubscriberReceivesOldMessages = true
	t.Run("own_names", func(t *testing.T) {
		tests.TestNewSubscriberReceivesOldMessages(t, tests.TestContext{TestID: tests.NewTestID(), Features: features},
			func(t *testing.T) (message.Publisher, message.Subscriber) { return pubSub(t, watermill.NewShortUUID()) })
	})
}

// Watermill's own suite, order kept.
func TestSuiteOrdered(t *testing.T) { suite(t, mustRestartable(t), 1, true) }

// Watermill's own suite, many messages at once.
func TestSuiteParallel(t *testing.T) { suite(t, mustRestartable(t), 16, false) }

// What a subscription leaves unsettled goes to the next one at once, and the delivery is counted.
func TestUnsettledIsGivenBack(t *testing.T) {
	js := mustJetStream(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	pub := NewPublisher(js)
	in := message.NewMessage("id-1", []byte("hello"))
	in.Metadata.Set("Nats-Expected-Last-Sequence", "77") // an order to the server: not carried on
	in.Metadata.Set("k", "v")
	if err := pub.Publish("s.a", in); err != nil {
		t.Fatal(err)
	}
	for want := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		sub := NewSubscriber(js, SubscriberConfig{Stream: "S", Name: func(string) string { return "one" }})
		ch, err := sub.Subscribe(ctx, "s.a,s.b")
		if err != nil {
			t.Fatal(err)
		}
		m, ok := <-ch
		if !ok {
			t.Fatalf("delivery %d did not come within 10 s", want+1)
		}
		if m.UUID != "id-1" || string(m.Payload) != "hello" || m.Metadata.Get("k") != "v" || m.Metadata.Get(MetaSequence) != "1" ||
			m.Metadata.Get(MetaDelivered) != fmt.Sprint(want+1) || m.Metadata.Get(MetaSubject) != "s.a" {
			t.Fatalf("delivery %d: got %+v", want+1, m)
		}
		if err := sub.Close(); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}

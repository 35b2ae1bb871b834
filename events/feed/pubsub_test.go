package feed

import (
	"context"
	"errors"
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
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const breakWord = "break-connection"

// TestMain is also the program that watermill's suite runs to disturb the connection: it asks the test process to do it.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == breakWord {
		os.Exit(askForBreak(os.Args[2]))
	}
	os.Exit(m.Run())
}

func askForBreak(address string) int {
	c, err := net.Dial("tcp", address)
	if err == nil {
		_, err = io.Copy(io.Discard, c) // ends when it has been done
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// mustBreaker listens for processes that ask for a break of the connection, and gives its address.
func mustBreaker(t *testing.T, nc *nats.Conn) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if err := nc.ForceReconnect(); err != nil {
				t.Errorf("break the connection: %v", err)
			}
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func suite(t *testing.T, inFlight int, ordered bool) {
	nc, js := mustBus(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SUITE", Subjects: []string{"topic.>"}}); err != nil {
		t.Fatal(err)
	}
	pubSub := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		return NewPublisher(js), NewSubscriber(js, SubscriberConfig{
			Stream:    "SUITE",
			Name:      func(topic string) string { return group + "_" + strings.ReplaceAll(topic, ".", "_") },
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
		RestartServiceCommand:               []string{os.Args[0], breakWord, mustBreaker(t, nc)},
		GenerateTopicFunc:                   func(c tests.TestContext) string { return "topic." + c.TestID.String() },
	}
	t.Run("suite", func(t *testing.T) {
		tests.TestPubSub(t, features,
			func(t *testing.T) (message.Publisher, message.Subscriber) { return pubSub(t, "suite") }, pubSub)
	})
	// Who comes with a name of its own reads from the start.
	features.NewSubscriberReceivesOldMessages = true
	t.Run("own_names", func(t *testing.T) {
		tests.TestNewSubscriberReceivesOldMessages(t, tests.TestContext{TestID: tests.NewTestID(), Features: features},
			func(t *testing.T) (message.Publisher, message.Subscriber) { return pubSub(t, watermill.NewShortUUID()) })
	})
}

// Watermill's own suite, order kept.
func TestSuiteOrdered(t *testing.T) { suite(t, 1, true) }

// Watermill's own suite, many messages at once.
func TestSuiteParallel(t *testing.T) { suite(t, 16, false) }

// What a subscription leaves unsettled goes to the next one at once, and the delivery is counted.
func TestUnsettledIsGivenBack(t *testing.T) {
	_, js := mustBus(t)
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
	if err := pub.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pub.Publish("s.a", in); !errors.Is(err, ErrClosed) {
		t.Fatalf("publish after close: %v", err)
	}
}

// A consumer that is removed under a subscription is made again: the stream may have been made anew.
func TestRemovedConsumerIsMadeAgain(t *testing.T) {
	_, js := mustBus(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	sub := NewSubscriber(js, SubscriberConfig{Stream: "S", Name: func(string) string { return "one" }})
	defer sub.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ch, err := sub.Subscribe(ctx, "s.>")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := NewPublisher(js).Publish("s.a", message.NewMessage(fmt.Sprint(i), nil)); err != nil {
			t.Fatal(err)
		}
		for { // after the removal, what was read comes again
			m, ok := <-ch
			if !ok {
				t.Fatalf("message %d did not come", i)
			}
			m.Ack()
			if m.UUID == fmt.Sprint(i) {
				break
			}
		}
		if err := js.DeleteConsumer(ctx, "S", "one"); err != nil {
			t.Fatal(err)
		}
	}
}

package feed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/nats-io/nats.go/jetstream"
)

func suite(t *testing.T, inFlight int, ordered bool) {
	_, js := mustBus(t)
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
		ForceShort:                          ordered, // one message after the other takes its time on a busy machine
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

// Watermill's own suite, order kept. Its TestReconnect wants a broker that a command restarts, and has a data race of its own;
// TestReconnects stands for it.
func TestSuiteOrdered(t *testing.T) { suite(t, 1, true) }

// Watermill's own suite, many messages at once.
func TestSuiteParallel(t *testing.T) { suite(t, 16, false) }

// Nothing is lost when the connection breaks while many publish and one reads.
func TestReconnects(t *testing.T) {
	nc, js := mustBus(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	sub := NewSubscriber(js, SubscriberConfig{Stream: "S", Name: func(string) string { return "one" }, InFlight: 4, AckWait: 3 * time.Second})
	defer sub.Close()
	ch, err := sub.Subscribe(ctx, "s.>")
	if err != nil {
		t.Fatal(err)
	}
	const publishers, each = 20, 100
	var published atomic.Int64
	var all sync.WaitGroup
	for i := range publishers {
		all.Go(func() {
			pub := NewPublisher(js)
			for j := range each {
				m := message.NewMessage(fmt.Sprintf("%d.%d", i, j), nil)
				for pub.Publish("s.a", m) != nil && ctx.Err() == nil { // the same again, until it is there
				}
				if published.Add(1)%(publishers*each/4) == 0 {
					if err := nc.ForceReconnect(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	seen := map[string]bool{}
	for len(seen) < publishers*each {
		m, ok := <-ch
		if !ok {
			t.Fatalf("%d of %d messages within 60 s", len(seen), publishers*each)
		}
		seen[m.UUID] = true
		m.Ack()
	}
	all.Wait()
}

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
	last := 0
	for i := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		sub := NewSubscriber(js, SubscriberConfig{Stream: "S", Name: func(string) string { return "one" }})
		ch, err := sub.Subscribe(ctx, "s.a,s.b")
		if err != nil {
			t.Fatal(err)
		}
		m, ok := <-ch
		if !ok {
			t.Fatalf("delivery %d did not come within 10 s", i+1)
		}
		if m.UUID != "id-1" || string(m.Payload) != "hello" || m.Metadata.Get("k") != "v" || m.Metadata.Get(MetaSequence) != "1" ||
			m.Metadata.Get(MetaSubject) != "s.a" {
			t.Fatalf("delivery %d: got %+v", i+1, m)
		}
		n, err := strconv.Atoi(m.Metadata.Get(MetaDelivered)) // one may have been given back on its way
		if err != nil || n <= last {
			t.Fatalf("delivery %d is counted as %d after %d: %v", i+1, n, last, err)
		}
		last = n
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

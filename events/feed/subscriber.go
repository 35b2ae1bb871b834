package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// SubscriberConfig says how a Subscriber reads. Stream and Name are required.
type SubscriberConfig struct {
	Stream string
	// Name gives the durable consumer's name for a topic. Names are permanent: a new one reads the stream from its start.
	Name func(topic string) string
	// InFlight is how many messages may be unsettled at once, over all subscribers with the same consumer. 1 (the default) keeps the order.
	InFlight int
	// AckWait is how long a subscriber may be dead before its message is given to another; a live handler may take longer. Default 30 s.
	AckWait time.Duration
	// NackDelay is how long a message rests after its delivered-th delivery was refused. Default: 100 ms, doubled up to 1 min.
	NackDelay func(delivered uint64) time.Duration
	Log       *slog.Logger
}

type consumers interface {
	CreateOrUpdateConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error)
}

// Subscriber is a watermill subscriber over durable pull consumers. A topic is a filter on subjects, or several with commas between.
// A message that is not settled when its subscription ends is given to the next subscriber. Safe for concurrent use.
type Subscriber struct {
	js     consumers
	cfg    SubscriberConfig
	mu     sync.Mutex
	closed bool
	done   chan struct{}
	lanes  sync.WaitGroup
}

// NewSubscriber makes a subscriber. The connection stays the caller's.
func NewSubscriber(js consumers, cfg SubscriberConfig) *Subscriber {
	if cfg.InFlight < 1 {
		cfg.InFlight = 1
	}
	if cfg.AckWait <= 0 {
		cfg.AckWait = 30 * time.Second
	}
	if cfg.NackDelay == nil {
		cfg.NackDelay = doubling
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Subscriber{js: js, cfg: cfg, done: make(chan struct{})}
}

func doubling(delivered uint64) time.Duration {
	return min(100*time.Millisecond<<min(delivered, 10), time.Minute)
}

// SubscribeInitialize makes the durable consumer, so that it is there before its first reader.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	_, err := s.consumer(ctx, topic)
	return err
}

// Subscribe gives the messages of a topic until ctx ends or the subscriber is closed; then the channel is closed. Each must be acked or
// nacked. The context of a message ends when it is settled.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	cons, err := s.consumer(ctx, topic)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("subscribe to %s: %w", topic, ErrClosed)
	}
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan *message.Message)
	var mine sync.WaitGroup
	for range s.cfg.InFlight {
		mine.Go(func() { s.lane(ctx, topic, cons, out) })
	}
	s.lanes.Go(func() {
		ended := make(chan struct{})
		go func() { mine.Wait(); close(ended) }()
		select {
		case <-s.done:
		case <-ended:
		}
		cancel()
		<-ended
		close(out)
	})
	return out, nil
}

// Close ends all subscriptions and waits until their channels are closed.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	s.mu.Unlock()
	s.lanes.Wait()
	return nil
}

func (s *Subscriber) consumer(ctx context.Context, topic string) (jetstream.Consumer, error) {
	name := s.cfg.Name(topic)
	c, err := s.js.CreateOrUpdateConsumer(ctx, s.cfg.Stream, jetstream.ConsumerConfig{
		Durable:        name,
		FilterSubjects: strings.Split(topic, ","),
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        s.cfg.AckWait,
		MaxAckPending:  s.cfg.InFlight,
		MaxDeliver:     -1,
	})
	if err != nil {
		return nil, fmt.Errorf("make consumer %s on %s: %w", name, s.cfg.Stream, err)
	}
	return c, nil
}

// lane handles one message after the other. What ends its reading, it begins again.
func (s *Subscriber) lane(ctx context.Context, topic string, cons jetstream.Consumer, out chan<- *message.Message) {
	const first, last = 50 * time.Millisecond, 5 * time.Second
	for pause := first; ctx.Err() == nil; pause = min(2*pause, last) {
		began := time.Now()
		err := s.read(ctx, cons, out)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, nats.ErrConnectionClosed) {
			s.cfg.Log.Warn("reading ends: the connection was closed", "topic", topic)
			return
		}
		if time.Since(began) > 2*last {
			pause = first
		}
		s.cfg.Log.Debug("read again", "topic", topic, "after", pause, "error", err)
		if !rest(ctx, pause) {
			return
		}
		if c, err := s.consumer(ctx, topic); err == nil { // it may be gone: streams are made anew
			cons = c
		}
	}
}

// read hands out messages until ctx ends or reading fails. One message is asked for at a time, when there is someone to take it: what
// waited in a buffer would be given to another meanwhile.
func (s *Subscriber) read(ctx context.Context, cons jetstream.Consumer, out chan<- *message.Message) error {
	it, err := cons.Messages(jetstream.PullMaxMessages(1), jetstream.PullExpiry(20*time.Second), jetstream.PullHeartbeat(2*time.Second))
	if err != nil {
		return err
	}
	defer s.drain(it)
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		s.deliver(ctx, m, out)
	}
}

// drain ends an iterator and gives back what was on its way, which would else rest until AckWait is over.
func (s *Subscriber) drain(it jetstream.MessagesContext) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	it.Drain()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return
		}
		if err != nil {
			it.Stop()
			return
		}
		s.settled(m, "give back", m.Nak())
	}
}

func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

// Delivery is one event as a handler gets it.
type Delivery struct {
	events.FeedMessage
	Sequence    uint64 // of the message on FEED
	Attempt     uint64 // counts deliveries from 1; a retry within one delivery does not count
	Correlation string // what the client gave with the intent, or the intent's id
}

// Handler handles one event. The context ends when the Router stops. nil: done. An error that is Permanent parks the message at once;
// any other is retried, and parked when the retries are used up. A handler may see an event more than once, and old events again.
type Handler func(ctx context.Context, d Delivery) error

// Registration says what a handler gets.
type Registration struct {
	Name     string // permanent: it names the durable consumer and the subject of parked messages
	Subjects string // filter on FEED, or several with commas between: feed.vm.*.vm_created_v1
	InFlight int    // events handled at once; 1 (the default) keeps their order
	AckWait  time.Duration
	Retries  int           // within one delivery; default 5
	Pause    time.Duration // before the first retry, doubled for each; default 200 ms, at most 30 s
	Handle   Handler
}

// permanent marks an error that no retry can mend.
type permanent struct{ error }

// Unwrap gives the error itself.
func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error: the message is parked at once.
func Permanent(err error) error { return permanent{err} }

// Router runs handlers on FEED. Construct it with NewRouter, add handlers, then Run it once.
type Router struct {
	js     jetstream.JetStream
	router *message.Router
	log    *slog.Logger
}

// NewRouter makes a router. The connection stays the caller's.
func NewRouter(js jetstream.JetStream, log *slog.Logger) (*Router, error) {
	r, err := message.NewRouter(message.RouterConfig{CloseTimeout: 20 * time.Second}, watermill.NewSlogLogger(log))
	if err != nil {
		return nil, fmt.Errorf("make router: %w", err)
	}
	r.AddMiddleware(middleware.CorrelationID)
	return &Router{js, r, log}, nil
}

// Handle adds a handler. Before Run only.
func (r *Router) Handle(reg Registration) error {
	if !events.IsToken(reg.Name) || reg.Handle == nil {
		return fmt.Errorf("add handler %q: want a name of a-z, 0-9, - and _, and a function", reg.Name)
	}
	if reg.Retries == 0 {
		reg.Retries = 5
	}
	if reg.Pause == 0 {
		reg.Pause = 200 * time.Millisecond
	}
	sub := NewSubscriber(r.js, SubscriberConfig{
		Stream: events.StreamFeed, Name: func(string) string { return reg.Name },
		InFlight: reg.InFlight, AckWait: reg.AckWait, Log: r.log.With("handler", reg.Name),
	})
	park, err := middleware.PoisonQueueWithFilter(NewPublisher(r.js), parkedPrefix+reg.Name, func(err error) bool {
		if errors.Is(err, context.Canceled) { // we stop: it comes again
			return false
		}
		r.log.Error("message parked", "handler", reg.Name, "error", err)
		return true
	})
	if err != nil {
		return fmt.Errorf("add handler %q: %w", reg.Name, err)
	}
	retry := middleware.Retry{
		MaxRetries: reg.Retries, InitialInterval: reg.Pause, MaxInterval: 30 * time.Second, Multiplier: 2,
		ShouldRetry: func(p middleware.RetryParams) bool { return !errors.As(p.Err, &permanent{}) },
		Logger:      watermill.NewSlogLogger(r.log),
	}
	h := r.router.AddConsumerHandler(reg.Name, reg.Subjects, sub, func(m *message.Message) error {
		d, err := toDelivery(m)
		if err != nil {
			return Permanent(err)
		}
		return reg.Handle(m.Context(), d)
	})
	h.AddMiddleware(park, retry.Middleware, middleware.Recoverer) // from the outside in
	return nil
}

// Run handles events until ctx ends, and waits for the handlers that are at work, 20 s at most.
func (r *Router) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := r.router.Run(ctx); err != nil {
		return fmt.Errorf("run handlers on FEED: %w", err)
	}
	return nil
}

// Running is closed when all handlers read.
func (r *Router) Running() <-chan struct{} { return r.router.Running() }

func toDelivery(m *message.Message) (Delivery, error) {
	d := Delivery{Correlation: middleware.MessageCorrelationID(m)}
	if err := json.Unmarshal(m.Payload, &d.FeedMessage); err != nil {
		return Delivery{}, fmt.Errorf("read message of FEED: %w", err)
	}
	if d.Number == 0 || d.Event.Type == "" {
		return Delivery{}, errors.New("read message of FEED: number and event must not be empty")
	}
	d.Sequence, _ = strconv.ParseUint(m.Metadata.Get(MetaSequence), 10, 64) // ours: a number, or absent for 0
	d.Attempt, _ = strconv.ParseUint(m.Metadata.Get(MetaDelivered), 10, 64)
	return d, nil
}

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cloudengine/events"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Feed says which events are followed. The zero value is all that FEED holds (30 days).
type Feed struct {
	Kind  events.Kind // empty: all
	ID    string      // of the object; empty: all
	After uint64      // go on after the event with this sequence in the FEED stream, which Follow tells with each event
	New   bool        // only what comes from now on
	Since time.Time   // only what was put on FEED from then on
}

// subject gives the filter of the consumer.
func (f Feed) subject() string {
	kind, id := string(f.Kind), f.ID
	if kind == "" {
		kind = "*"
	}
	if id == "" {
		id = "*"
	}
	return "feed." + kind + "." + id + ".*"
}

func (f Feed) config() jetstream.OrderedConsumerConfig {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{f.subject()}, DeliverPolicy: jetstream.DeliverAllPolicy}
	switch {
	case f.After > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, f.After+1
	case !f.Since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &f.Since
	case f.New:
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	}
	return cfg
}

// Follow calls handle with each event in the order of the log, and its sequence in FEED, until ctx ends (nil) or handle fails (its
// error). It survives lost connections and goes on where it was; who begins anew gives the last sequence as After, and may meet an
// event again if FEED was rebuilt meanwhile: its decision number and index tell. Users bound to an account may not read FEED.
func (c *Client) Follow(ctx context.Context, f Feed, handle func(seq uint64, m events.FeedMessage) error) error {
	js, err := jetstream.NewWithAPIPrefix(c.nc, events.FeedAPIPrefix)
	if err != nil {
		return fmt.Errorf("follow FEED: %w", err)
	}
	consumer, err := js.OrderedConsumer(ctx, events.StreamFeed, f.config())
	if err != nil {
		return fmt.Errorf("follow FEED: %w", err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("follow FEED: %w", err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for {
		msg, err := messages.Next()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, nats.ErrTimeout), errors.Is(err, jetstream.ErrNoHeartbeat):
			continue
		case err != nil:
			return fmt.Errorf("follow FEED: %w", err)
		}
		if err := deliver(msg, handle); err != nil {
			return err
		}
	}
}

func deliver(msg jetstream.Msg, handle func(uint64, events.FeedMessage) error) error {
	var m events.FeedMessage
	if err := json.Unmarshal(msg.Data(), &m); err != nil {
		return fmt.Errorf("read FEED message: %w", err)
	}
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("read FEED message: %w", err)
	}
	return handle(meta.Sequence.Stream, m)
}

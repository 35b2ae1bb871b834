package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

// Retention is how long FEED keeps a message.
const Retention = 30 * 24 * time.Hour

// StreamParked keeps the messages that a handler could not handle, as they came, on parked.<handler>.
const StreamParked = "PARKED"

const (
	subjectAll  = "feed.>"
	parkedAll   = "parked.>"
	parkedTopic = "parked."
)

// FeedStream is the configuration of FEED. On one server it is flushed in the background, for what a crash takes is derived again;
// replicated streams refuse that. replicas is 1, 3 or 5.
func FeedStream(replicas int) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:        events.StreamFeed,
		Description: "one message per event of the log; derived, rebuilt at will",
		Subjects:    []string{subjectAll},
		Storage:     jetstream.FileStorage,
		Compression: jetstream.S2Compression,
		Replicas:    replicas,
		MaxAge:      Retention,
		Duplicates:  time.Second, // the expected sequence keeps duplicates out; the window must not outlive a rebuild
		DenyDelete:  true,
	}
	if replicas == 1 {
		c.PersistMode = jetstream.AsyncPersistMode
	}
	return c
}

// ParkedStream is the configuration of the stream of parked messages. They stay until a human removes them.
func ParkedStream(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamParked,
		Description: "messages that a handler could not handle, with the reason",
		Subjects:    []string{parkedAll},
		Storage:     jetstream.FileStorage,
		Replicas:    replicas,
	}
}

// streams is what Ensure needs of JetStream.
type streams interface {
	Stream(ctx context.Context, name string) (jetstream.Stream, error)
	CreateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error)
	UpdateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error)
	DeleteStream(ctx context.Context, name string) error
}

// Ensure makes FEED and PARKED, or changes them to what they should be. FEED is made anew when its persistence has to change, as when
// one server becomes three; the Deriver then fills it again.
func Ensure(ctx context.Context, js streams, replicas int) error {
	if err := ensure(ctx, js, FeedStream(replicas)); err != nil {
		return err
	}
	return ensure(ctx, js, ParkedStream(replicas))
}

func ensure(ctx context.Context, js streams, want jetstream.StreamConfig) error {
	have, err := js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
	case err != nil:
		return fmt.Errorf("look up stream %s: %w", want.Name, err)
	case have.CachedInfo().Config.PersistMode == want.PersistMode:
		if _, err := js.UpdateStream(ctx, want); err != nil {
			return fmt.Errorf("update stream %s: %w", want.Name, err)
		}
		return nil
	default:
		if err := js.DeleteStream(ctx, want.Name); err != nil {
			return fmt.Errorf("remove stream %s to make it anew: %w", want.Name, err)
		}
	}
	if _, err := js.CreateStream(ctx, want); err != nil {
		return fmt.Errorf("make stream %s: %w", want.Name, err)
	}
	return nil
}

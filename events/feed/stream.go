package feed

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StreamParked keeps the messages that a handler could not handle, as they came, on parked.<handler>. They stay until a human
// removes them.
const StreamParked = "PARKED"

const parkedPrefix = "parked."

type makesStreams interface {
	CreateOrUpdateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error)
}

// EnsureParked declares the stream of parked messages. replicas is 1, 3 or 5. The broker declares FEED.
func EnsureParked(ctx context.Context, js makesStreams, replicas int) error {
	_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        StreamParked,
		Description: "messages that a handler could not handle, with the reason",
		Subjects:    []string{parkedPrefix + ">"},
		Storage:     jetstream.FileStorage,
		Replicas:    replicas,
		Duplicates:  2 * time.Minute,
	})
	if err != nil {
		return fmt.Errorf("declare stream %s: %w", StreamParked, err)
	}
	return nil
}

package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Copy is a table that shows the book to others.
type Copy interface {
	// Begin removes all that is in it.
	Begin(ctx context.Context) error
	Put(ctx context.Context, r Record) error
}

// Follow writes the book, as it is and as it changes, to a copy until ctx ends or something fails. Every server does so.
func Follow(ctx context.Context, js jetstream.JetStream, to Copy) error {
	if err := awaitStream(ctx, js); err != nil {
		return err
	}
	c, err := js.OrderedConsumer(ctx, StreamAlerts, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverAllPolicy, FilterSubjects: []string{subjectPrefix + "*"},
	})
	if err != nil {
		return fmt.Errorf("follow alerts: %w", err)
	}
	if err := to.Begin(ctx); err != nil {
		return err
	}
	it, err := c.Messages()
	if err != nil {
		return fmt.Errorf("follow alerts: %w", err)
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if errors.Is(err, jetstream.ErrNoHeartbeat) {
			continue
		}
		if err != nil {
			return fmt.Errorf("follow alerts: %w", err)
		}
		var r Record
		if err := json.Unmarshal(m.Data(), &r); err != nil || !strings.HasPrefix(m.Subject(), subjectPrefix) {
			return fmt.Errorf("follow alerts: %s: %w", m.Subject(), err)
		}
		if err := to.Put(ctx, r); err != nil {
			return err
		}
	}
}

// awaitStream waits until the active server has declared the stream.
func awaitStream(ctx context.Context, js jetstream.JetStream) error {
	for {
		_, err := js.Stream(ctx, StreamAlerts)
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("follow alerts: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

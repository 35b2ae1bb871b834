package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

type findsStream interface {
	Stream(ctx context.Context, name string) (jetstream.Stream, error)
}

// Last gives the newest message on a subject of FEED, which may be a filter; false if FEED holds none. It answers what FEED knows, which
// may be less than the log.
func Last(ctx context.Context, js findsStream, subject string) (events.FeedMessage, bool, error) {
	var out events.FeedMessage
	s, err := js.Stream(ctx, events.StreamFeed)
	if err != nil {
		return out, false, fmt.Errorf("look up stream %s: %w", events.StreamFeed, err)
	}
	m, err := s.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return out, false, nil
	}
	if err != nil {
		return out, false, fmt.Errorf("read the last message on %s: %w", subject, err)
	}
	if err := json.Unmarshal(m.Data, &out); err != nil {
		return out, false, fmt.Errorf("read the last message on %s: %w", subject, err)
	}
	return out, true, nil
}

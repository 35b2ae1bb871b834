package desired

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// Published reads the last document of every subject, as its bytes are in the stream now.
func Published(ctx context.Context, js jetstream.JetStream) (map[string][]byte, error) {
	s, err := readStream(ctx, js)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]byte, len(s.held))
	for subject, h := range s.held {
		out[subject] = h.payload
	}
	return out, nil
}

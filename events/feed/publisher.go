package feed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrClosed says that a Publisher or Subscriber was closed before.
var ErrClosed = errors.New("closed")

// publishTimeout bounds one publish whose message's context has no deadline.
const publishTimeout = 10 * time.Second

// headerUUID carries a watermill message's UUID.
const headerUUID = "Watermill-UUID"

type publishes interface {
	PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error)
}

// Publisher is a watermill publisher: a topic is a subject, which some stream has to capture. Messages of one call are stored in order,
// each before the next is sent. Safe for concurrent use.
type Publisher struct {
	js     publishes
	closed atomic.Bool
}

// NewPublisher makes a publisher. The connection stays the caller's.
func NewPublisher(js publishes) *Publisher { return &Publisher{js: js} }

// Publish stores the messages and returns after the last was acknowledged. On an error the ones before it are stored; the same
// messages may be published again, for their UUIDs keep duplicates out within the stream's window.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	for _, m := range messages {
		if p.closed.Load() {
			return fmt.Errorf("publish to %s: %w", topic, ErrClosed)
		}
		if err := p.publish(topic, m); err != nil {
			return err
		}
	}
	return nil
}

func (p *Publisher) publish(topic string, m *message.Message) error {
	out := nats.NewMsg(topic)
	out.Data = m.Payload
	for k, v := range m.Metadata {
		if isMetadata(k) {
			out.Header.Set(k, v)
		}
	}
	out.Header.Set(headerUUID, m.UUID)
	out.Header.Set(jetstream.MsgIDHeader, topic+"/"+m.UUID) // the window is the stream's: the same message on two topics is two messages
	ctx, cancel := context.WithTimeout(m.Context(), publishTimeout)
	defer cancel()
	if _, err := p.js.PublishMsg(ctx, out); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// Close refuses later calls. Nothing waits to be sent.
func (p *Publisher) Close() error {
	p.closed.Store(true)
	return nil
}

// isMetadata says whether a header may be carried on: the server's own ones would be orders to it.
func isMetadata(key string) bool {
	return key != "" && key != headerUUID && !strings.HasPrefix(strings.ToLower(key), "nats-") && !strings.HasPrefix(key, metaPrefix)
}

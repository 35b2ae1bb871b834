package feed

import (
	"cmp"
	"context"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"
)

// Metadata that a Subscriber adds to a message. A Publisher does not carry it on.
const (
	metaPrefix    = "Feed-"
	MetaSequence  = metaPrefix + "Sequence"  // place in the stream
	MetaDelivered = metaPrefix + "Delivered" // counts deliveries from 1
	MetaSubject   = metaPrefix + "Subject"   // where it was published
	MetaStored    = metaPrefix + "Stored"    // when the stream took it, RFC 3339
)

// deliver hands one message out and settles it with the server: acked, nacked with a delay, or given back when ctx ends. While it is
// out, the server is told that it is being worked on.
func (s *Subscriber) deliver(ctx context.Context, raw jetstream.Msg, out chan<- *message.Message) {
	msg := toMessage(raw)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	msg.SetContext(ctx)
	alive := time.NewTicker(s.cfg.AckWait / 3)
	defer alive.Stop()
	pending := out
	for {
		select {
		case pending <- msg:
			pending = nil
		case <-msg.Acked():
			s.settled(raw, "ack", raw.Ack())
			return
		case <-msg.Nacked():
			s.settled(raw, "nack", raw.NakWithDelay(s.cfg.NackDelay(delivered(raw))))
			return
		case <-alive.C:
			s.settled(raw, "keep", raw.InProgress())
		case <-ctx.Done():
			s.giveBack(raw, msg)
			return
		}
	}
}

// giveBack settles a message whose subscription ends: what the handler said counts, if it said something.
func (s *Subscriber) giveBack(raw jetstream.Msg, msg *message.Message) {
	select {
	case <-msg.Acked():
		s.settled(raw, "ack", raw.Ack())
	default:
		s.settled(raw, "give back", raw.Nak())
	}
}

// settled notes what could not be told to the server. It delivers again after AckWait then, which handlers must bear anyway.
func (s *Subscriber) settled(raw jetstream.Msg, what string, err error) {
	if err != nil {
		s.cfg.Log.Debug("settle message", "what", what, "subject", raw.Subject(), "error", err)
	}
}

func delivered(raw jetstream.Msg) uint64 {
	if md, err := raw.Metadata(); err == nil {
		return md.NumDelivered
	}
	return 1
}

// toMessage makes a watermill message. Of a header with several values the first is taken.
func toMessage(raw jetstream.Msg) *message.Message {
	h := raw.Headers()
	id := cmp.Or(h.Get(headerUUID), h.Get(jetstream.MsgIDHeader))
	if id == "" {
		id = watermill.NewUUID()
	}
	msg := message.NewMessage(id, raw.Data())
	for k := range h {
		if isMetadata(k) {
			msg.Metadata.Set(k, h.Get(k))
		}
	}
	msg.Metadata.Set(MetaSubject, raw.Subject())
	if md, err := raw.Metadata(); err == nil {
		msg.Metadata.Set(MetaSequence, strconv.FormatUint(md.Sequence.Stream, 10))
		msg.Metadata.Set(MetaDelivered, strconv.FormatUint(md.NumDelivered, 10))
		msg.Metadata.Set(MetaStored, md.Timestamp.UTC().Format(time.RFC3339Nano))
	}
	return msg
}

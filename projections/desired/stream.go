package desired

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	document "cloudengine/events/desired"
)

// stream is what the DESIRED stream holds, as far as we know: all of it was read once, and after that only we have written.
type stream struct {
	js   jetstream.JetStream
	held map[string]held // by subject
}

type held struct {
	seq        uint64
	generation events.Generation
	payload    []byte // only until it was compared
}

const (
	window  = 256             // documents on their way at once
	askTime = 5 * time.Second // for one answer of the stream
)

// readStream reads the last document of every subject.
func readStream(ctx context.Context, js jetstream.JetStream) (*stream, error) {
	s := &stream{js: js, held: map[string]held{}}
	c, err := js.OrderedConsumer(ctx, events.StreamDesired, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy})
	if err != nil {
		return nil, fmt.Errorf("read published documents: %w", err)
	}
	info, err := c.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("read published documents: %w", err)
	}
	defer func() { _ = js.DeleteConsumer(ctx, events.StreamDesired, info.Name) }() // it would end by itself, later
	for pending := info.NumPending; pending > 0; {
		batch, err := c.Fetch(int(min(pending, 500)), jetstream.FetchMaxWait(askTime))
		if err != nil {
			return nil, fmt.Errorf("read published documents: %w", err)
		}
		got := false
		for m := range batch.Messages() {
			got = true
			if pending, err = s.take(m); err != nil {
				return nil, err
			}
		}
		if err := batch.Error(); err != nil {
			return nil, fmt.Errorf("read published documents: %w", err)
		}
		if !got {
			return nil, errors.New("read published documents: the stream does not answer")
		}
	}
	return s, nil
}

func (s *stream) take(m jetstream.Msg) (pending uint64, err error) {
	meta, err := m.Metadata()
	if err != nil {
		return 0, fmt.Errorf("read published document: %w", err)
	}
	h := held{seq: meta.Sequence.Stream, payload: m.Data()}
	if d, err := document.Decode(m.Data()); err == nil { // one that cannot be read is older than all
		h.generation = d.Generation
	}
	s.held[m.Subject()] = h
	return meta.NumPending, nil
}

// differences lists the subjects that have to be published, sorted. A document that is newer in the stream than in the log stays.
func (s *stream) differences(f *Fold, log *slog.Logger) []string {
	var dirty []string
	strange := len(s.held)
	f.Each(func(subject string, d document.Document) {
		h, ok := s.held[subject]
		if ok {
			strange--
		}
		switch {
		case ok && bytes.Equal(h.payload, Encode(d)):
		case ok && d.Generation.Compare(h.generation) < 0:
			log.Error("a published document is newer than the log: it stays", "subject", subject, "published", h.generation, "log", d.Generation)
		default:
			dirty = append(dirty, subject)
		}
		if ok {
			h.payload = nil
			s.held[subject] = h
		}
	})
	if strange > 0 {
		log.Error("documents are published of which the log knows nothing: they stay", "count", strange)
	}
	sort.Strings(dirty)
	return dirty
}

// publish publishes the documents on these subjects, each on the condition that nobody has written there since, and returns when all
// are stored.
func (s *stream) publish(ctx context.Context, f *Fold, subjects []string) error {
	for len(subjects) > 0 {
		n := min(window, len(subjects))
		if err := s.publishSome(ctx, f, subjects[:n]); err != nil {
			return err
		}
		subjects = subjects[n:]
	}
	return nil
}

type sent struct {
	subject    string
	generation events.Generation
	future     jetstream.PubAckFuture
}

func (s *stream) publishSome(ctx context.Context, f *Fold, subjects []string) error {
	inFlight := make([]sent, 0, len(subjects))
	twice := map[string]bool{}
	for _, subject := range subjects {
		d, ok := f.Document(subject)
		if !ok || twice[subject] {
			continue
		}
		twice[subject] = true
		h := s.held[subject]
		if d.Generation.Compare(h.generation) < 0 {
			continue // never an older one over a newer one
		}
		m := nats.NewMsg(subject)
		m.Data = Encode(d)
		future, err := s.js.PublishMsgAsync(m, jetstream.WithExpectLastSequencePerSubject(h.seq))
		if err != nil {
			return fmt.Errorf("publish %s: %w", subject, err)
		}
		inFlight = append(inFlight, sent{subject, d.Generation, future})
	}
	limit := time.NewTimer(askTime)
	defer limit.Stop()
	for _, x := range inFlight {
		select {
		case ack := <-x.future.Ok():
			s.held[x.subject] = held{seq: ack.Sequence, generation: x.generation}
		case err := <-x.future.Err():
			return fmt.Errorf("publish %s: %w", x.subject, err)
		case <-limit.C:
			return fmt.Errorf("publish %s: no answer within %s", x.subject, askTime)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

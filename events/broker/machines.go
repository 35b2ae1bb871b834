package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

// enrolled is a machine that has connected with the key of its boot.
type enrolled struct {
	machine Machine
	key     string
}

const consumerIdle = time.Hour // a consumer that nobody reads for so long is dropped; the next connect makes it again

// machineConnected is called while the machine is being let in, so it only takes a note. A full queue drops it: the machine
// finds no consumer, and connects again.
func (s *Server) machineConnected(m Machine, key string) {
	select {
	case s.machines <- enrolled{m, key}:
	default:
		s.opts.Logger.Warn("consumer of machine not made: too many at once", "machine", m.ID)
	}
}

// makeConsumers makes the consumers of machines that connect, until ctx ends.
func (s *Server) makeConsumers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.machines:
			if err := s.RemakeConsumer(ctx, e.machine); err != nil && ctx.Err() == nil {
				s.opts.Logger.Error("consumer of machine not made", "machine", e.machine.ID, "err", err)
			}
		}
	}
}

// RemakeConsumer makes the consumer on DESIRED of one boot of a machine anew: it gives the last document of each object first. The
// server calls it at each connect of a machine: an agent that started again within its boot remembers nothing, and one that was only
// cut off knows documents that it has seen by their generation. A pull from the consumer before fails, and is to be tried again.
func (s *Server) RemakeConsumer(ctx context.Context, m Machine) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	name := events.DesiredConsumer(m.ID, m.Boot)
	if err := s.js.DeleteConsumer(ctx, events.StreamDesired, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("delete consumer %s of an earlier connection: %w", name, err)
	}
	_, err := s.js.CreateConsumer(ctx, events.StreamDesired, jetstream.ConsumerConfig{
		Name: name, Durable: name,
		FilterSubject: "desired." + string(m.ID) + ".>", DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: 30 * time.Second, MaxAckPending: 1024,
		InactiveThreshold: consumerIdle, MemoryStorage: true,
	})
	if err != nil {
		return fmt.Errorf("make consumer %s: %w", name, err)
	}
	return nil
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
)

const feedAge = 30 * 24 * time.Hour

// streams declares all streams of the control plane. None is compressed: with S2, a replica of three servers that was killed under load
// came back with "s2: corrupt input" in a sealed block of EVENTS, which freezes the stream there (nats-server 2.15.2, the soak test).
// FEED and DESIRED are derived from EVENTS and can be made again, so on one server they are written behind; a replicated stream
// refuses that mode.
func streams(replicas int) []jetstream.StreamConfig {
	base := func(name, subject string) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Subjects: []string{subject}, Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
			Replicas: replicas, Duplicates: 100 * time.Millisecond, MaxMsgSize: maxPayload,
		}
	}
	log := base(events.StreamEvents, events.SubjectEvents)
	log.Discard, log.DenyDelete, log.DenyPurge = jetstream.DiscardNew, true, true

	feed := base(events.StreamFeed, "feed.>")
	feed.MaxAge = feedAge

	desired := base(events.StreamDesired, "desired.>")
	desired.MaxMsgsPerSubject = 1

	if replicas == 1 {
		feed.PersistMode, desired.PersistMode = jetstream.AsyncPersistMode, jetstream.AsyncPersistMode
	}
	return []jetstream.StreamConfig{log, feed, desired}
}

// ensureStreams makes the streams that are not there. It waits for a leader of the cluster until ctx ends.
func ensureStreams(ctx context.Context, js jetstream.JetStream, replicas int) error {
	for _, cfg := range streams(replicas) {
		err := persist(ctx, replicas > 1, func(ctx context.Context) error { return ensureStream(ctx, js, cfg) })
		if err != nil {
			return fmt.Errorf("declare stream %s: %w", cfg.Name, err)
		}
	}
	return nil
}

// persist repeats a request to the streams until it is answered, or ctx ends: in a cluster it finds no leader at times.
func persist(ctx context.Context, cluster bool, request func(context.Context) error) error {
	for {
		rctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		err := request(rctx)
		cancel()
		if err == nil || !retryable(err) || !cluster && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last answer: %w)", ctx.Err(), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func ensureStream(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig) error {
	s, err := js.Stream(ctx, cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateStream(ctx, cfg)
		return err
	}
	if err != nil {
		return err
	}
	if have := s.CachedInfo().Config.Replicas; have != cfg.Replicas {
		return fmt.Errorf("it has %d replicas, not %d: %w", have, cfg.Replicas, errReplicas)
	}
	return nil
}

var errReplicas = errors.New("a server that ran alone cannot join a cluster with its data: start it with an empty data directory")

// retryable says whether a stream may be had a little later: the cluster has no leader yet, or too few servers.
func retryable(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode {
		case 10005, 10008, 10009, 10010, 10074, 10058: // no peers, not available, raft not ready, peers offline; made by another meanwhile
			return true
		}
		return api.Code == 503
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders)
}

package broker

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"cloudengine/events"
)

// Users read FEED with ordered consumers of a bare client: jetstream.NewWithAPIPrefix(nc, events.FeedAPIPrefix). They must not
// reach the real API, where whoever makes a consumer names the subject that it delivers to, which could be the log's. So the
// requests about consumers are taken here, made anew from what is harmless in them, and asked in our name. A consumer gets a name
// that cannot be guessed. Pulls, and the messages, go straight to the consumer and to the user.

const (
	feedIdle      = 5 * time.Minute // the longest that a user's consumer stays when nobody reads it
	feedQueue     = "feedapi"       // one of the servers answers
	feedMaxBody   = 64 << 10        // bytes of a request
	feedInFlight  = 32              // requests under way at once
	feedMaxFilter = 64              // filters of one consumer
	feedName      = "user="         // begins the names of users' consumers
)

type consumerRequest struct {
	Stream string                   `json:"stream_name"`
	Config jetstream.ConsumerConfig `json:"config"`
	Action string                   `json:"action"`
}

// serveFeed answers the users' requests about consumers until ctx ends.
func (s *Server) serveFeed(ctx context.Context) error {
	if err := s.feeds.follow(s.conn); err != nil {
		return err
	}
	limit := semaphore.NewWeighted(feedInFlight)
	answer := func(f func(context.Context, *nats.Msg)) nats.MsgHandler {
		return func(m *nats.Msg) {
			if m.Reply == "" || len(m.Data) > feedMaxBody || limit.Acquire(ctx, 1) != nil {
				return
			}
			s.workers.Go(func() {
				defer limit.Release(1)
				rctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				defer cancel()
				f(rctx, m)
			})
		}
	}
	for subject, h := range map[string]nats.MsgHandler{
		"feedapi.CONSUMER.CREATE.FEED.>": answer(s.feedCreate),
		"feedapi.CONSUMER.INFO.FEED.*":   answer(s.feedForward("CONSUMER.INFO.FEED.")),
		"feedapi.CONSUMER.DELETE.FEED.*": answer(s.feedForward("CONSUMER.DELETE.FEED.")),
		"feedapi.STREAM.INFO.FEED":       answer(func(ctx context.Context, m *nats.Msg) { s.pass(ctx, m, "STREAM.INFO.FEED", nil) }),
	} {
		if _, err := s.conn.QueueSubscribe(subject, feedQueue, h); err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
	}
	return s.conn.Flush()
}

// feedForward passes a request about one of the users' consumers on, without its body.
func (s *Server) feedForward(api string) func(context.Context, *nats.Msg) {
	return func(ctx context.Context, m *nats.Msg) {
		name := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
		if !strings.HasPrefix(name, feedName) {
			s.refuse(m, 404, 10014, "consumer not found")
			return
		}
		s.pass(ctx, m, api+name, nil)
	}
}

// feedCreate makes an ordered consumer from the harmless part of the request.
func (s *Server) feedCreate(ctx context.Context, m *nats.Msg) {
	var req consumerRequest
	if err := json.Unmarshal(m.Data, &req); err != nil {
		s.refuse(m, 400, 10025, "invalid JSON: "+err.Error())
		return
	}
	cfg, err := harmless(strings.Split(m.Subject, ".")[4], req.Config)
	if err != nil {
		s.refuse(m, 400, 10012, err.Error())
		return
	}
	body, err := json.Marshal(consumerRequest{events.StreamFeed, cfg, req.Action})
	if err != nil {
		s.refuse(m, 400, 10025, err.Error())
		return
	}
	if !s.feeds.take(asker(m), cfg.Name) {
		s.refuse(m, 400, 10026, fmt.Sprintf("one user has at most %d consumers on FEED: stop some", feedPerUser))
		return
	}
	subject := "CONSUMER.CREATE.FEED." + cfg.Name
	if cfg.FilterSubject != "" {
		subject += "." + cfg.FilterSubject
	}
	if !s.pass(ctx, m, subject, body) {
		s.feeds.release(cfg.Name)
	}
}

var errNotOrdered = errors.New("only ordered consumers are allowed here: no deliver_subject, no durable_name, ack_policy none")

// harmless copies from a request what an ordered consumer needs, and refuses what it must not have.
func harmless(name string, c jetstream.ConsumerConfig) (jetstream.ConsumerConfig, error) {
	if c.DeliverSubject != "" || c.DeliverGroup != "" || c.Durable != "" || c.AckPolicy != jetstream.AckNonePolicy {
		return jetstream.ConsumerConfig{}, errNotOrdered
	}
	filters := append([]string{}, c.FilterSubjects...)
	if c.FilterSubject != "" {
		filters = append(filters, c.FilterSubject)
	}
	if len(filters) > feedMaxFilter {
		return jetstream.ConsumerConfig{}, fmt.Errorf("%d filters: at most %d are allowed", len(filters), feedMaxFilter)
	}
	for i, f := range filters {
		if f == ">" {
			filters[i] = "feed.>"
		} else if !strings.HasPrefix(f, "feed.") || strings.ContainsAny(f, " \t\r\n") {
			return jetstream.ConsumerConfig{}, fmt.Errorf("filter %q: want feed.<kind>.<id>.<event type>", f)
		}
	}
	out := jetstream.ConsumerConfig{
		Name: feedName + rand.Text() + serial(name), DeliverPolicy: c.DeliverPolicy, OptStartSeq: c.OptStartSeq,
		OptStartTime: c.OptStartTime, AckPolicy: jetstream.AckNonePolicy, HeadersOnly: c.HeadersOnly,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: feedIdle,
	}
	if c.InactiveThreshold > 0 && c.InactiveThreshold < feedIdle {
		out.InactiveThreshold = c.InactiveThreshold
	}
	if len(filters) == 1 && len(c.FilterSubjects) == 0 {
		out.FilterSubject = filters[0]
	} else {
		out.FilterSubjects = filters
	}
	return out, nil
}

// serial gives the end "_<number>" of a name, by which nats.go tells an ordered consumer from the one before.
func serial(name string) string {
	i := strings.LastIndexByte(name, '_')
	if i < 0 || len(name)-i > 12 || strings.Trim(name[i+1:], "0123456789") != "" {
		return ""
	}
	return name[i:]
}

// pass asks the JetStream API in our name and gives its answer to the user. It says whether that was a yes.
func (s *Server) pass(ctx context.Context, m *nats.Msg, api string, body []byte) bool {
	resp, err := s.conn.RequestWithContext(ctx, "$JS.API."+api, body)
	if err != nil {
		s.refuse(m, 503, 10008, "the streams are not available: "+err.Error())
		return false
	}
	if err := m.Respond(resp.Data); err != nil {
		s.opts.Logger.Warn("answer about FEED not sent", "err", err)
	}
	return !failed(resp.Data)
}

// refuse answers as the JetStream API does.
func (s *Server) refuse(m *nats.Msg, code, errCode int, text string) {
	body, _ := json.Marshal(map[string]any{"error": map[string]any{"code": code, "err_code": errCode, "description": text}}) // strings and numbers only
	if err := m.Respond(body); err != nil {
		s.opts.Logger.Warn("answer about FEED not sent", "err", err)
	}
}

// protectConsumers keeps users from pulling from the durable consumers on FEED, those that are there and those that will be made.
func (s *Server) protectConsumers(ctx, live context.Context) error {
	const created = "$JS.EVENT.ADVISORY.CONSUMER.CREATED.FEED."
	_, err := s.conn.Subscribe(created+"*", func(m *nats.Msg) {
		name := strings.TrimPrefix(m.Subject, created)
		if strings.HasPrefix(name, feedName) || live.Err() != nil {
			return
		}
		ictx, cancel := context.WithTimeout(live, 5*time.Second)
		defer cancel()
		c, err := s.js.Consumer(ictx, events.StreamFeed, name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			return // it was not to last, and is gone
		}
		if err != nil || c.CachedInfo().Config.Durable != "" { // when in doubt, protect
			s.auth.protect(name)
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to consumers made on FEED: %w", err)
	}
	if err := persist(ctx, s.opts.Cluster != nil, s.protectPresent); err != nil {
		return fmt.Errorf("list consumers on FEED: %w", err)
	}
	return nil
}

// protectPresent protects the consumers that are there.
func (s *Server) protectPresent(ctx context.Context) error {
	stream, err := s.js.Stream(ctx, events.StreamFeed)
	if err != nil {
		return err
	}
	list := stream.ListConsumers(ctx)
	for c := range list.Info() {
		if c.Config.Durable != "" {
			s.auth.protect(c.Name)
		}
	}
	return list.Err()
}

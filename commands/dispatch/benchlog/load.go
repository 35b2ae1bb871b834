package benchlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"cloudengine/commands"
	"cloudengine/events"
)

func atoi(s string) int {
	n, _ := strconv.Atoi(s) // of an address that net gave
	return n
}

// intents makes one client's requests: all different, all acceptable.
type intents struct {
	client string
	n      int
}

func newIntents(client int) *intents {
	return &intents{client: fmt.Sprintf("%d-%s", client, uuid.NewString()[:8])}
}

func (i *intents) next() (subject string, body []byte) {
	i.n++
	args, _ := json.Marshal(commands.CreateAccount{Name: "bench-" + i.client + "-" + strconv.Itoa(i.n)})                           // strings only
	body, _ = json.Marshal(events.Request{ID: events.IntentID(uuid.Must(uuid.NewV7()).String()), Args: args, Reason: "benchmark"}) // valid JSON
	return "do.admin.account.create", body
}

// decisionOf gives bytes like those of the decision on a request.
func decisionOf(body []byte) []byte {
	var r events.Request
	_ = json.Unmarshal(body, &r) // our own
	var a commands.CreateAccount
	_ = json.Unmarshal(r.Args, &a)
	b, _ := json.Marshal(events.Decision{Intent: r.ID, Actor: "admin", Kind: events.KindAccount, Verb: "create", Args: r.Args, Reason: r.Reason,
		Outcome: events.Outcome{Status: events.Accepted},
		Events:  []events.Event{events.New(events.KindAccount, string(r.ID), 1, events.AccountCreated{Name: a.Name})}})
	return b
}

func accepted(answer []byte) bool { return bytes.Contains(answer, []byte(`"accepted"`)) }

// clients are connected and ready to ask.
type clients struct {
	conns   []*nats.Conn
	intents []*intents
}

func (e endpoint) clients(n int) (*clients, error) {
	c := &clients{}
	for i := range n {
		nc, err := e.connect()
		if err != nil {
			c.close()
			return nil, fmt.Errorf("connect client %d: %w", i, err)
		}
		c.conns, c.intents = append(c.conns, nc), append(c.intents, newIntents(i))
	}
	return c, nil
}

func (c *clients) close() {
	for _, nc := range c.conns {
		nc.Close()
	}
}

// rate has all clients ask again and again for some time, and gives the answers per second after the warm-up.
func (c *clients) rate(ctx context.Context, runTime time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, warmUp+runTime)
	defer cancel()
	var count atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for i, nc := range c.conns {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := ask(nc, c.intents[i]); err != nil {
					failed.Store(&err)
					cancel()
					return
				}
				count.Add(1)
			}
		})
	}
	select {
	case <-ctx.Done():
	case <-time.After(warmUp):
	}
	first, began := count.Load(), time.Now()
	<-ctx.Done()
	n, took := count.Load()-first, time.Since(began)
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(n) / took.Seconds(), nil
}

func ask(nc *nats.Conn, in *intents) error {
	subject, body := in.next()
	m, err := nc.Request(subject, body, 20*time.Second)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	if !accepted(m.Data) {
		return fmt.Errorf("ask: answer %s", m.Data)
	}
	return nil
}

func measureRate(ctx context.Context, s *sides, id, name string, n int) (Result, error) {
	var ours, raw, ratios, fenced []float64
	parties := []endpoint{s.raw, s.ours}
	if s.fenced.url != "" {
		parties = append(parties, s.fenced)
	}
	for range runs {
		pair := make([]float64, 3)
		for i, e := range parties {
			c, err := e.clients(n)
			if err != nil {
				return Result{}, err
			}
			pair[i], err = c.rate(ctx, runTime)
			c.close()
			if err != nil {
				return Result{}, err
			}
			if ctx.Err() != nil {
				return Result{}, ctx.Err()
			}
		}
		raw, ours, ratios = append(raw, pair[0]), append(ours, pair[1]), append(ratios, pair[1]/pair[0])
		fenced = append(fenced, pair[1]/pair[2])
	}
	note := s.note
	if s.fenced.url != "" {
		note += fmt.Sprintf("; beside a raw side behind the same bus accounts the ratio is %.2f", median(fenced))
	}
	return Result{id, name, median(ours), median(raw), median(ratios), "decisions/s", runs, note}, nil
}

// latencies has 64 clients ask at a given rate in all, and gives how long each answer took, from the time when it was sent: as a raw publish is timed.
func (c *clients) latencies(ctx context.Context, rate float64) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, warmUp+runTime)
	defer cancel()
	began, gap := time.Now(), time.Duration(float64(len(c.conns))/rate*float64(time.Second))
	results := make([][]time.Duration, len(c.conns))
	errs := make([]error, len(c.conns))
	var wg sync.WaitGroup
	for i, nc := range c.conns {
		wg.Go(func() {
			due := began.Add(gap * time.Duration(i) / time.Duration(len(c.conns)))
			for ; ctx.Err() == nil; due = due.Add(gap) {
				select {
				case <-time.After(time.Until(due)):
				case <-ctx.Done():
					return
				}
				sent := time.Now()
				if err := ask(nc, c.intents[i]); err != nil {
					errs[i] = err
					return
				}
				if sent.Sub(began) > warmUp {
					results[i] = append(results[i], time.Since(sent))
				}
				if late := time.Since(due); late > gap { // what a stall has held up is not made up for
					due = due.Add(late.Truncate(gap))
				}
			}
		})
	}
	wg.Wait()
	return slices.Concat(results...), errors.Join(errs...)
}

// publishes gives how long single publishes of one decision's bytes take on the raw side.
func (s *sides) publishes(ctx context.Context) ([]time.Duration, error) {
	var out []time.Duration
	for began := time.Now(); time.Since(began) < runTime; {
		start := time.Now()
		if _, err := s.rawJS.Publish(ctx, "raw", s.block); err != nil {
			return nil, fmt.Errorf("publish: %w", err)
		}
		out = append(out, time.Since(start))
	}
	return out, nil
}

// measureLatency loads our side with half of what 64 clients can have decided at that moment, as just measured: other work on the
// machine changes it all the time.
func measureLatency(ctx context.Context, s *sides) ([]Result, error) {
	c, err := s.ours.clients(64)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var rates []float64
	ours, raw, ratios := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for range runs {
		r, err := s.publishes(ctx)
		if err != nil {
			return nil, err
		}
		full, err := c.rate(ctx, runTime/2)
		if err != nil {
			return nil, err
		}
		rates = append(rates, full/2)
		o, err := c.latencies(ctx, full/2)
		if err != nil {
			return nil, err
		}
		for id, q := range map[string]float64{"P2-p50": 0.5, "P2-p99": 0.99} {
			a, b := quantile(o, q), quantile(r, q)
			ours[id], raw[id], ratios[id] = append(ours[id], a), append(raw[id], b), append(ratios[id], a/b)
		}
	}
	var out []Result
	for _, id := range []string{"P2-p50", "P2-p99"} {
		out = append(out, Result{id, fmt.Sprintf("intent to outcome, 64 clients at %.0f/s in all (half of what they reach), beside one raw publish", median(rates)),
			median(ours[id]), median(raw[id]), median(ratios[id]), "ms", runs,
			"less is better; ours: two hops in, the block before, its own block, two hops out"})
	}
	return out, nil
}

// quantile gives milliseconds; 0 without values.
func quantile(v []time.Duration, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return float64(v[int(q*float64(len(v)-1))]) / float64(time.Millisecond)
}

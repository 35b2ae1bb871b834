package client

import (
	"context"
	"fmt"
	"time"

	"cloudengine/commands/api/wire"
	"cloudengine/events"
)

// Watch says which events of the log are watched.
type Watch struct {
	From string      // number of the decision to begin with, or a time in RFC 3339, or "now": only what is to come
	Kind events.Kind // empty: all
	ID   string      // of the object; empty: all
}

const (
	feedMargin = 10 * time.Minute // by which the clocks of servers may differ
	watchPause = time.Second      // between questions of who may not read FEED
)

// Watch calls handle with each event from a place in the log on, however old, in order and once, until ctx ends (nil) or handle fails
// (its error): first page by page from the log itself, then from FEED. Who may not read FEED goes on asking the log, each second. To go on
// later, begin with the decision after the last one that was seen.
func (c *Client) Watch(ctx context.Context, w Watch, handle func(events.FeedMessage) error) error {
	q := wire.EventsRequest{From: w.From, Kind: w.Kind, ID: w.ID, Limit: 1000}
	last := time.Time{}
	for {
		a, err := c.Events(ctx, q)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, m := range a.Items {
			if err := handle(m); err != nil {
				return err
			}
		}
		q.From, q.Index = fmt.Sprint(a.Next), a.Index
		if t, err := time.Parse(time.RFC3339Nano, a.Time); err == nil {
			last = t
		}
		switch {
		case !a.End:
		case a.Feed:
			return c.watchFeed(ctx, w, last, a.Next, a.Index, handle)
		default:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(watchPause):
			}
		}
	}
}

// watchFeed goes on with FEED where the log was read to. What FEED got since shortly before that is looked at, and what was handled already
// is dropped by its place.
func (c *Client) watchFeed(ctx context.Context, w Watch, since time.Time, next uint64, index int, handle func(events.FeedMessage) error) error {
	f := Feed{Kind: w.Kind, ID: w.ID}
	if !since.IsZero() {
		f.Since = since.Add(-feedMargin)
	}
	return c.Follow(ctx, f, func(_ uint64, m events.FeedMessage) error {
		if m.Number < next || m.Number == next && m.Index < index {
			return nil
		}
		next, index = m.Number, m.Index+1
		return handle(m)
	})
}

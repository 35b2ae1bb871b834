package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"
)

// TestWatchWithoutGapOrDouble: while decisions come in, watching is broken off again and again and goes on by the decision's number: every
// event is seen once, in order, whether it came from the log or from FEED.
func TestWatchWithoutGapOrDouble(t *testing.T) {
	url, key := startServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, err := client.Connect(ctx, url, key)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const accounts = 300
	done := make(chan error, 1)
	go func() {
		for i := range accounts {
			a, err := c.Do(ctx, events.KindAccount, "create", map[string]any{"name": fmt.Sprintf("a%d", i)})
			if err = errors.Join(err, client.Check(a)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	var seen []string
	broken := errors.New("broken off")
	last := events.FeedMessage{}
	for round := 0; len(seen) < accounts; round++ {
		n := 0
		err := c.Watch(ctx, client.Watch{From: fmt.Sprint(last.Number + 1), Kind: events.KindAccount}, func(m events.FeedMessage) error {
			if m.Number <= last.Number {
				return fmt.Errorf("decision %d after %d", m.Number, last.Number)
			}
			last = m
			seen = append(seen, m.Event.Data.(events.AccountCreated).Name)
			if n++; n == 7+round*5 || len(seen) == accounts {
				return broken
			}
			return nil
		})
		if !errors.Is(err, broken) {
			t.Fatalf("after %d events: %v", len(seen), err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for i, name := range seen {
		if name != fmt.Sprintf("a%d", i) {
			t.Fatalf("event %d is of %s", i, name)
		}
	}
}

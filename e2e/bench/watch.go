package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"
)

// watcher follows FEED and keeps what the measurements wait for.
type watcher struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each event
	err     error
	ended   map[events.IntentID]string // operations that are over; empty: done, else why not
	ready   map[string]bool            // hosts, by machine
	enrols  map[string]time.Time       // machines: when the news of the last enrolment came
}

// watch follows the log of c, from its beginning, until ctx ends.
func watch(ctx context.Context, c *client.Client) *watcher {
	w := &watcher{
		changed: make(chan struct{}), ended: map[events.IntentID]string{}, ready: map[string]bool{}, enrols: map[string]time.Time{},
	}
	go func() { // ends with ctx
		err := c.Follow(ctx, client.Feed{}, func(_ uint64, m events.FeedMessage) error {
			w.note(m)
			return nil
		})
		if err == nil {
			err = context.Canceled
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.err = err
		close(w.changed)
		w.changed = make(chan struct{})
	}()
	return w
}

func (w *watcher) note(m events.FeedMessage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := m.Event.Aggregate.ID
	switch e := m.Event.Data.(type) {
	case events.OperationDone:
		w.ended[events.IntentID(id)] = ""
	case events.OperationFailed:
		w.ended[events.IntentID(id)] = "failed: " + e.Message
	case events.OperationTimedOut:
		w.ended[events.IntentID(id)] = "timed out"
	case events.HostReady:
		w.ready[id] = true
	case events.MachineEnrolled:
		w.ready[id] = false
		w.enrols[id] = time.Now()
	default:
		return
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// until waits for ok, which is called with w locked. It says what it waited for when ctx or FEED ends.
func (w *watcher) until(ctx context.Context, what string, ok func() (bool, error)) error {
	for {
		w.mu.Lock()
		done, err := ok()
		changed := w.changed
		if err == nil && !done {
			err = w.err
		}
		w.mu.Unlock()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-changed:
		}
	}
}

// operation waits until an operation is over, and gives an error if it did not end well.
func (w *watcher) operation(ctx context.Context, id events.IntentID) error {
	return w.until(ctx, "operation "+string(id), func() (bool, error) {
		how, ok := w.ended[id]
		if ok && how != "" {
			return false, fmt.Errorf("it %s", how)
		}
		return ok, nil
	})
}

// hostReady waits, as long as a boot may take, until a host has reported completely since its last enrolment.
func (w *watcher) hostReady(ctx context.Context, machine string) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	return w.until(ctx, "host "+machine+" to be ready", func() (bool, error) { return w.ready[machine], nil })
}

// enrolledAfter waits for an enrolment whose news came after since, and says when.
func (w *watcher) enrolledAfter(ctx context.Context, machine string, since time.Time) (at time.Time, err error) {
	err = w.until(ctx, "enrolment of machine "+machine, func() (bool, error) {
		at = w.enrols[machine]
		return at.After(since), nil
	})
	return at, err
}

// order sends an intent and fails unless it is accepted, or there was nothing to do.
func order(ctx context.Context, c *client.Client, kind events.Kind, verb string, args any, opts ...client.Option) (events.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	a, err := c.Do(ctx, kind, verb, args, append(opts, client.WithReason("benchmark"))...)
	if err == nil {
		err = client.Check(a)
	}
	if err != nil {
		return a, fmt.Errorf("%s.%s: %w", kind, verb, err)
	}
	return a, nil
}

// through sends an intent and waits until its operation is over.
func through(ctx context.Context, c *client.Client, w *watcher, kind events.Kind, verb string, args any, opts ...client.Option) error {
	a, err := order(ctx, c, kind, verb, args, opts...)
	if err != nil || a.Outcome.Status != events.Accepted {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := w.operation(ctx, a.ID); err != nil {
		return fmt.Errorf("%s.%s: %w", kind, verb, err)
	}
	return nil
}

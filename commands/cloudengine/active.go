package main

import (
	"context"
	"sync"
)

// activity says whether this server decides, and lets work run only while it does.
type activity struct {
	mu      sync.Mutex
	active  bool
	changed chan struct{} // closed and made anew at each change
}

func newActivity() *activity { return &activity{changed: make(chan struct{})} }

// set notes a change. It never blocks.
func (a *activity) set(active bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.active != active {
		a.active = active
		close(a.changed)
		a.changed = make(chan struct{})
	}
}

func (a *activity) now() (active bool, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.active, a.changed
}

// while runs work whenever this server is active, with a context that ends when it no longer is, until ctx ends or work fails. work
// has ended before it is begun again.
func (a *activity) while(ctx context.Context, work func(context.Context) error) error {
	for ctx.Err() == nil {
		active, changed := a.now()
		if !active {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		inner, cancel := context.WithCancel(ctx)
		over := make(chan struct{})
		go func() {
			defer close(over)
			select {
			case <-changed:
				cancel()
			case <-inner.Done():
			}
		}()
		err := work(inner)
		stopped := inner.Err() != nil
		cancel()
		<-over
		if err != nil && !stopped {
			return err
		}
	}
	return nil
}

package initiator

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// flights are calls that may outlast those who made them: one at a time for each key, and one at a time in each lane.
type flights struct {
	mu    sync.Mutex
	under map[string]*flight
	lanes map[string]chan struct{} // full while a run has it
	group sync.WaitGroup
}

type flight struct {
	done chan struct{}
	err  error // once done is closed
}

// do runs fn, or joins the run that is under way for the key. fn has its own limit; the caller waits as long as ctx lasts.
func (f *flights) do(ctx context.Context, lane, key string, limit time.Duration, fn func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	x := f.under[key]
	if x == nil {
		x = &flight{done: make(chan struct{})}
		if f.under == nil {
			f.under = map[string]*flight{}
		}
		f.under[key] = x
		f.group.Add(1)
		go f.run(context.WithoutCancel(ctx), f.lane(lane), key, x, limit, fn)
	}
	f.mu.Unlock()
	select {
	case <-x.done:
		return x.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrPending, ctx.Err())
	}
}

// lane finds a lane; f.mu is held.
func (f *flights) lane(name string) chan struct{} {
	if f.lanes == nil {
		f.lanes = map[string]chan struct{}{}
	}
	if f.lanes[name] == nil {
		f.lanes[name] = make(chan struct{}, 1)
	}
	return f.lanes[name]
}

func (f *flights) run(ctx context.Context, lane chan struct{}, key string, x *flight, limit time.Duration, fn func(context.Context) error) {
	defer f.group.Done()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case lane <- struct{}{}:
		x.err = fn(ctx)
		<-lane
	case <-ctx.Done():
		x.err = fmt.Errorf("%w: an earlier call is under way", ErrPending)
	}
	f.mu.Lock()
	delete(f.under, key)
	f.mu.Unlock()
	close(x.done)
}

func (f *flights) wait() { f.group.Wait() }

// until looks again and again until what it looks for is there, or ctx ends.
func until(ctx context.Context, look func() (bool, error)) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		ok, err := look()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

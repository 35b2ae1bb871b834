package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// stopTime bounds how long one part may take to stop before the others go on without it.
const stopTime = 25 * time.Second

// supervisor owns the long-lived parts of a server: it starts them in order, notices the first that ends, and stops them in the
// reverse order, one at a time, each after the parts that use it. Not safe for concurrent use.
type supervisor struct {
	log   *slog.Logger
	parts []*part
	ended chan *part
}

type part struct {
	name string
	stop func()
	done chan struct{}
	err  error // valid when done is closed
}

func newSupervisor(log *slog.Logger) *supervisor {
	return &supervisor{log: log, ended: make(chan *part, 64)}
}

// run starts a part that works until its context ends. One that returns earlier, with or without an error, ends the server.
func (s *supervisor) run(name string, work func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: name, stop: cancel, done: make(chan struct{})}
	s.parts = append(s.parts, p)
	go func() {
		err := work(ctx)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = nil // it was stopped
		}
		p.err = err
		close(p.done)
		s.ended <- p
	}()
}

// onStop adds a part that has no work of its own but must be closed in its turn.
func (s *supervisor) onStop(name string, stop func() error) {
	s.run(name, func(ctx context.Context) error {
		<-ctx.Done()
		return stop()
	})
}

// wait returns nil when ctx ends, or the error of the first part that ends by itself.
func (s *supervisor) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case p := <-s.ended:
		if p.err != nil {
			return fmt.Errorf("%s: %w", p.name, p.err)
		}
		return fmt.Errorf("%s has ended by itself", p.name)
	}
}

// stop stops all parts, the last started first, and gives what went wrong on the way.
func (s *supervisor) stop() error {
	var failed []error
	for i := len(s.parts) - 1; i >= 0; i-- {
		p := s.parts[i]
		began := time.Now()
		p.stop()
		select {
		case <-p.done:
			if p.err != nil {
				failed = append(failed, fmt.Errorf("stop %s: %w", p.name, p.err))
			}
			s.log.Debug("stopped", "part", p.name, "took", time.Since(began).Round(time.Millisecond))
		case <-time.After(stopTime):
			failed = append(failed, fmt.Errorf("stop %s: it did not end within %s", p.name, stopTime))
		}
	}
	s.parts = nil
	return errors.Join(failed...)
}

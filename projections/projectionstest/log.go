package projectionstest

import (
	"context"
	"sync"

	"cloudengine/events"
)

// Log is a log in memory that can be followed. It may be used by several goroutines.
type Log struct {
	mu    sync.Mutex
	all   []events.Recorded
	moved chan struct{}
	Chunk int // how many decisions are given at once at most; 0 = 256
}

// NewLog makes a log with decisions in it.
func NewLog(all ...events.Recorded) *Log { return &Log{all: all, moved: make(chan struct{})} }

// Append appends decisions.
func (l *Log) Append(d ...events.Recorded) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d...)
	close(l.moved)
	l.moved = make(chan struct{})
}

// Last gives the number of the last decision.
func (l *Log) Last(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.all)), nil
}

// Follow gives the decisions from a number on, and those to come.
func (l *Log) Follow(ctx context.Context, from uint64, each func([]events.Recorded) error) error {
	size := l.Chunk
	if size == 0 {
		size = 256
	}
	for {
		l.mu.Lock()
		rest, moved := l.all[min(int(from)-1, len(l.all)):], l.moved
		l.mu.Unlock()
		if len(rest) == 0 {
			select {
			case <-moved:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		rest = rest[:min(size, len(rest))]
		if err := each(rest); err != nil {
			return err
		}
		from += uint64(len(rest))
	}
}

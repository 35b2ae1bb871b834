package proxy_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/workers/md"
	"cloudengine/workers/proxy"
)

// locked is a world that the worker looks at from another goroutine.
type locked struct {
	arrays
	target

	mu *sync.Mutex
}

type lockedArrays struct{ locked }

func (l lockedArrays) Arrays(root string) ([]md.Array, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.arrays.Arrays(root)
}

func (l lockedArrays) Remove(ctx context.Context, name, dev string) error {
	return l.arrays.Remove(ctx, name, dev)
}

type lockedTarget struct{ locked }

func (l lockedTarget) Exports(ctx context.Context) ([]proxy.Export, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.target.Exports(ctx)
}

func (l lockedTarget) SetState(ctx context.Context, id events.ArrayID, state string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.target.SetState(ctx, id, state)
}

func (l lockedTarget) Set(ctx context.Context, e proxy.Export) error { return l.target.Set(ctx, e) }
func (l lockedTarget) Remove(ctx context.Context, id events.ArrayID) error {
	return l.target.Remove(ctx, id)
}

// TestMDGivesUp: the export becomes unavailable without the loop, and the loop is woken; its next look closes the front and stops md.
func TestMDGivesUp(t *testing.T) {
	e := running(t)
	l := locked{arrays{e.w}, target{e.w}, &sync.Mutex{}}
	woken := make(chan struct{}, 100)
	w := &proxy.Worker{Boot: boot, Root: t.TempDir(), Initiator: e.w, Target: lockedTarget{l}, Arrays: lockedArrays{l}, Mapper: mapper{e.w},
		Records: records{e.w}, Blocks: blocks{e.w}, Wake: func() { woken <- struct{}{} }}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, 10*time.Millisecond) }()
	<-woken
	l.mu.Lock()
	e.md(t).State = md.StateBroken
	l.mu.Unlock()
	for end := time.After(10 * time.Second); ; {
		l.mu.Lock()
		state := e.w.exports[arrayID].State
		l.mu.Unlock()
		if state == proxy.ExportUnavailable {
			break
		}
		select {
		case <-woken:
		case <-end:
			t.Fatalf("the export is %s", state)
		}
	}
	cancel()
	<-ended
	_, _ = e.pass()
	if r := e.last[arrayID]; r.State != events.ArrayBroken || len(e.w.arrays) > 0 {
		t.Fatalf("report %+v, arrays %+v", r, e.w.arrays)
	}
	e.check(t)
}

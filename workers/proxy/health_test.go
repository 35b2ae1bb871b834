package proxy_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/workers/md"
	"cloudengine/workers/proxy"
	"cloudengine/workers/reserve"
)

// stuck is a disk that answers nothing: reads of it end with the test, and questions about its reservation when who asks gives up.
type stuck struct {
	*world
	dev  string
	free chan struct{} // closed at the end of the test
}

func (s stuck) Reservation(ctx context.Context, name string) (reserve.Seen, error) {
	if name == s.dev {
		<-ctx.Done()
	}
	if err := ctx.Err(); err != nil {
		return reserve.Seen{}, err
	}
	return s.world.Reservation(ctx, name)
}

type stuckBlocks struct {
	blocks
	s stuck
}

func (b stuckBlocks) Super(name string) (md.Super, error) {
	if name == b.s.dev {
		<-b.s.free
	}
	return b.blocks.Super(name)
}

// withdrawal tells of the state that an export gets.
type withdrawal struct {
	lockedTarget
	states chan string
}

func (w withdrawal) SetState(ctx context.Context, id events.ArrayID, s string) error {
	err := w.lockedTarget.SetState(ctx, id, s)
	w.states <- s
	return err
}

// TestStuckLegHidesNothing: one leg answers nothing and another is somebody else's. The array is made unavailable by the same look, before it gives
// up on the first.
func TestStuckLegHidesNothing(t *testing.T) {
	e := running(t)
	if err := e.w.takes(e.w.disks[len(e.w.disks)-1], "p2", 9); err != nil {
		t.Fatal(err)
	}
	s := stuck{e.w, e.w.arrays[0].Members[0].Dev, make(chan struct{})}
	l := locked{arrays{e.w}, target{e.w}, &sync.Mutex{}}
	x := withdrawal{lockedTarget{l}, make(chan string, 8)}
	w := &proxy.Worker{Boot: boot, Root: t.TempDir(), Initiator: s, Target: x, Arrays: lockedArrays{l}, Mapper: mapper{e.w}, Records: records{e.w},
		Blocks: stuckBlocks{blocks{e.w}, s}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, time.Hour) }()
	defer func() {
		cancel()
		close(s.free)
		<-ended
	}()
	select {
	case state := <-x.states:
		if state != proxy.ExportUnavailable {
			t.Fatalf("the export is %s", state)
		}
	case <-time.After(2500 * time.Millisecond): // less than what a look waits for
		t.Fatal("the array is still served while a leg of it is stuck")
	}
}

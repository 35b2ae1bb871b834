// Package plane puts the parts of one control-plane server together: the bus, the log and the dispatcher, in the order in which they can
// start and stop. Production, tests and the benchmark start them the same way.
//
// It promises that clients are admitted only when the fold is as complete as the log was, and that an access that the log takes
// back ends at once. It serves nothing itself.
package plane

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/commands/dispatch"
	"cloudengine/commands/filesystem"
	"cloudengine/events"
	"cloudengine/events/broker"
	"cloudengine/events/journal"
)

// Options say how a server is put together. Leave Dispatch.Log, Leader and Full empty: they are filled in here.
type Options struct {
	Bus      broker.Options
	Dispatch dispatch.Options
	Logger   *slog.Logger // for both, unless they have their own
}

// Plane is one running server.
type Plane struct {
	Bus      *broker.Server
	Conn     *nats.Conn // in-process, in the account of the control plane
	JS       jetstream.JetStream
	Journal  *journal.Journal
	Dispatch *dispatch.Dispatcher

	stop    context.CancelFunc
	running sync.WaitGroup
	full    atomic.Bool
	sick    atomic.Pointer[error]
}

// Start starts all parts and returns when the log is folded and clients are let in, or with the error of ctx. configure, which may be
// nil, is called before the dispatcher runs: there OnActive and OnApplied are registered. Stop must be called when it returns no error.
func Start(ctx context.Context, o Options, configure func(*Plane) error) (*Plane, error) {
	if o.Bus.Logger == nil {
		o.Bus.Logger = o.Logger
	}
	if o.Dispatch.Logger == nil {
		o.Dispatch.Logger = o.Logger
	}
	p := &Plane{}
	if err := p.open(ctx, o); err != nil {
		p.Stop()
		return nil, fmt.Errorf("start control plane: %w", err)
	}
	if configure != nil {
		if err := configure(p); err != nil {
			p.Stop()
			return nil, fmt.Errorf("start control plane: %w", err)
		}
	}
	rctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	p.running.Go(func() { _ = p.Dispatch.Run(rctx) }) // its only error is that of rctx
	p.running.Go(func() { p.watchDisk(rctx, o.Bus.Dir) })
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-p.Dispatch.Ready():
			tick.Stop()
			p.Bus.Open(Registry(p.Dispatch))
			return p, nil
		case <-ctx.Done():
			tick.Stop()
			p.Stop()
			return nil, fmt.Errorf("start control plane: fold the log: %w", ctx.Err())
		case <-tick.C:
			if s := p.Dispatch.Status(); s.Stopped != nil {
				tick.Stop()
				p.Stop()
				return nil, fmt.Errorf("start control plane: %w", s.Stopped)
			}
		}
	}
}

func (p *Plane) open(ctx context.Context, o Options) error {
	var err error
	if p.Bus, err = broker.Start(ctx, o.Bus); err != nil {
		return err
	}
	if p.Conn, err = p.Bus.Connect("control-plane"); err != nil {
		return err
	}
	if p.JS, err = jetstream.New(p.Conn); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	if p.Journal, err = journal.Open(ctx, p.JS); err != nil {
		return err
	}
	d := o.Dispatch
	d.Log, d.Full = p.Journal, p.full.Load
	d.Leader = func() bool { return p.Bus.IsLeader(events.StreamEvents) }
	if p.Dispatch, err = dispatch.New(d); err != nil {
		return err
	}
	p.Dispatch.OnApplied(TakeBack(p.Bus))
	_, err = p.Conn.Subscribe("tel.*.>", func(m *nats.Msg) {
		if parts := strings.SplitN(m.Subject, ".", 3); len(parts) == 3 {
			p.Dispatch.Heard(events.MachineID(parts[1]))
		}
	})
	if err != nil {
		return fmt.Errorf("listen for telemetry: %w", err)
	}
	return nil
}

const (
	diskFull  = 0.90 // of the disk of the log; then users' intents are refused
	diskCheck = 5 * time.Second

	diskPatience = 1 // checks in which the bus may be unwell though there is room
)

// Full says whether users are refused because the disk of the log is almost full. It is looked at every few seconds.
func (p *Plane) Full() bool { return p.full.Load() }

// MustRestart says why this server has to be started again: its disk was full, there is room again, and the stream that could not be
// written takes nothing more (nats-server 2.15). What was acknowledged is stored. nil: it need not.
func (p *Plane) MustRestart() error {
	if err := p.sick.Load(); err != nil {
		return fmt.Errorf("the log cannot be written: %w: start the server again; what was acknowledged is stored", *err)
	}
	return nil
}

func (p *Plane) watchDisk(ctx context.Context, dir string) {
	tick := time.NewTicker(diskCheck)
	defer tick.Stop()
	sick, wasFull := 0, false // a server of several may also be unwell while it catches up
	for {
		if room, err := filesystem.RoomOf(dir); err == nil {
			p.full.Store(room.Share() > diskFull)
		}
		wasFull = wasFull || p.full.Load()
		if err := p.Bus.Health(); err == nil || p.full.Load() || !wasFull {
			sick = 0
		} else if sick++; sick > diskPatience {
			p.sick.Store(&err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Health says what is wrong; nil if nothing is.
func (p *Plane) Health() error {
	if err := p.Dispatch.Health(); err != nil {
		return err
	}
	return p.Bus.Health()
}

// Stop stops all parts, the dispatcher first, and waits for them.
func (p *Plane) Stop() {
	if p.stop != nil {
		p.stop()
	}
	p.running.Wait()
	if p.Conn != nil {
		p.Conn.Close()
	}
	if p.Bus != nil {
		p.Bus.Shutdown()
	}
}

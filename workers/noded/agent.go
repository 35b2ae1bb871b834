package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/boot"
	"cloudengine/workers/host"
	"cloudengine/workers/nic"
)

// agent is one machine's agent.
type agent struct {
	opt      options
	conf     boot.Config
	machine  events.MachineID
	log      *slog.Logger
	keep     *keeper
	lock     *os.File // held for as long as the agent lives
	edges    edges
	capacity *events.Capacity

	worker   *host.Worker
	wishes   *workers.Wishes
	loop     *workers.Loop[host.Observed]
	reporter *workers.Reporter
	bus      *bus
	consoles *consoles
	chain    *chain // nil: the machine is modelled, and has no storage

	asking  sync.Mutex
	askedMS int64 // CPU time that measuring took itself, in calls of xl
}

func newAgent(ctx context.Context, o options, c boot.Config, log *slog.Logger) (*agent, error) {
	if err := os.MkdirAll(o.run, 0o755); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	lock, tools, err := lockRun(ctx, o.run, leftBehindTime, log)
	if err != nil {
		return nil, err
	}
	k, err := newKeeper(o.run)
	if err != nil {
		return nil, err
	}
	if err := k.sameBoot(c.BootID); err != nil {
		return nil, err
	}
	a := &agent{opt: o, conf: c, machine: events.MachineID(c.Machine), log: log, keep: k, lock: lock}
	a.wishes = workers.NewWishes(a.machine, c.BootID)
	if err := k.load(a.wishes); err != nil {
		return nil, err
	}
	if a.edges, err = openEdges(o, c, tools, a.neededBlobs); err != nil {
		return nil, err
	}
	a.bus = newBus(a)
	a.wire()
	if o.runner == "xl" {
		a.chain = newChain(a)
	}
	return a, nil
}

// disconnected says that the control plane may have lost sight of this machine.
func (a *agent) disconnected() {
	a.reporter.Disconnected()
	if a.chain != nil {
		a.chain.report.Disconnected()
	}
}

// complete asks for complete reports.
func (a *agent) complete() {
	a.reporter.Complete()
	if a.chain != nil {
		a.chain.report.Complete()
	}
}

// calmTick is the longest time between two looks at domains while nothing happens, if xenstore tells of domains that come, shut down and go: the
// looks for complete reports are enough.
const calmTick = completeEvery + 30*time.Second

// wire joins worker, loop and reporter.
func (a *agent) wire() {
	w := &host.Worker{
		Boot: a.conf.BootID, Tools: a.edges.tools, Store: a.edges.store, Blobs: a.edges.blobs, Disks: a.edges.disks, Seeds: a.edges.seeds, Throttle: a.edges.throttle,
		TSCMode: a.opt.tsc,
		Console: boot.ConsolePath, ForgetConsole: a.edges.forget,
	}
	a.consoles = &consoles{log: a.log, read: a.consoleTail, tails: map[workers.EndKey][]byte{}, sent: map[string]bool{}}
	a.worker = w
	a.reporter = &workers.Reporter{
		Machine: a.machine, Boot: a.conf.BootID, Capacity: func() *events.Capacity { return a.capacity },
		Next: a.keep.next, Send: a.bus.report, Log: a.log,
		Drain:     func() { a.loop.Drain() },
		Answered:  func(e []events.DomainEnded) { a.consoles.answered(e); w.Answered(e); a.loop.Wake() },
		Forgotten: w.Unanswered,
	}
	calm := calmTick
	if a.edges.watch == nil {
		calm = 0
	}
	a.loop = workers.NewLoop(w, a.wishes, workers.Options{
		Log: a.log, Publish: func(s workers.Snapshot) { a.reporter.Offer(a.consoles.name(s)) }, Keep: a.keep.keep, Interval: a.opt.tick, Calm: calm,
		Report: func(r events.Ref) events.Ref {
			if r.Kind == desired.KindDomain {
				r.Kind = events.KindVM
			}
			return r
		},
	})
}

// neededBlobs names the files that documents name.
func (a *agent) neededBlobs() map[string]bool {
	needed := map[string]bool{}
	wishes, _ := host.Decode(a.wishes.All())
	for _, w := range wishes {
		if w.Want == desired.Running || w.Want == desired.Paused {
			needed[w.Kernel.SHA256], needed[w.Ramdisk.SHA256] = true, true
		}
	}
	return needed
}

// run works until ctx ends, or something without which it cannot work is gone.
func (a *agent) run(ctx context.Context) error {
	if a.conf.IsXen {
		if err := a.measure(ctx); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	if a.opt.config == "" {
		group.Go(func() error { return boot.Watch(ctx, a.log, a.conf) })
	}
	if a.conf.IsXen {
		group.Go(func() error { return a.loop.Run(ctx) })
		group.Go(func() error { return a.reporter.Run(ctx) })
		group.Go(func() error { return a.watchDomains(ctx) })
	}
	if a.chain != nil {
		group.Go(func() error { return a.chain.run(ctx) })
	}
	group.Go(func() error { return a.bus.run(ctx) })
	return group.Wait()
}

// measure reads the host's capacity. Xen's daemons may still be starting.
func (a *agent) measure(ctx context.Context) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		c, err := host.MeasureCapacity(ctx, a.edges.tools, filepath.Join(a.opt.run, "capacity.json"))
		if err == nil {
			a.capacity = &c
			a.log.Info("capacity", "allocatable_mib", c.AllocatableMiB, "pcpus", c.PCPUs, "xen", c.XenVersion, "types", c.Types)
			return nil
		}
		a.log.Error("capacity is not known yet", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// watchDomains wakes the loop whenever a domain appears, shuts down or goes. Without it the loop looks at its interval.
func (a *agent) watchDomains(ctx context.Context) error {
	if a.edges.watch == nil {
		return nil
	}
	for ctx.Err() == nil {
		if err := a.edges.watch(ctx, a.loop.Wake); err != nil && !errors.Is(err, ctx.Err()) {
			a.log.Warn("watch on domains was lost", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return ctx.Err()
}

// inventory says what the machine is made of. Below Xen, CPUs are the hypervisor's.
func (a *agent) inventory() events.Inventory {
	inv, err := nic.Inventory()
	if err != nil {
		a.log.Warn("inventory is not complete", "err", err)
	}
	if a.capacity != nil {
		inv.Capacity, inv.CPUs = a.capacity, a.capacity.PCPUs
		if info, err := a.edges.tools.Info(context.Background()); err == nil {
			inv.MemoryMiB = info.TotalMiB
		}
	}
	return inv
}

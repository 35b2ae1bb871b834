package main

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/fabric"
	"cloudengine/workers/initiator"
	"cloudengine/workers/lio"
	"cloudengine/workers/modprobe"
	"cloudengine/workers/path"
	"cloudengine/workers/proxy"
	"cloudengine/workers/storage"
	"cloudengine/workers/throttle"
	"cloudengine/workers/uevent"
)

// storageInterval is the longest time between two looks of a loop of storage while something happens or is not as it should be: not all that the
// kernel does by itself shows another way.
const storageInterval = 2 * time.Second

// storageCalm is the same while nothing does: of devices that come and go, of md and of paths that fail the kernel tells.
const storageCalm = 15 * time.Second

// hearAgain is the time between a loss of what the kernel tells and listening again.
const hearAgain = 5 * time.Second

// fabricLoop is the loop that keeps fabrics: the first one.
const fabricLoop = 0

// proxyModules are what arrays are made with. There is no modprobe that the kernel could call.
var proxyModules = []string{"dm_mod", "md_mod", "raid10"}

// chain is what the agent does for storage: a loop for each of the machine's parts in it, over the same documents, and one report.
type chain struct {
	a      *agent
	report *workers.StorageReporter
	loops  []storageLoop
	others []func(context.Context) error                         // what runs beside the loops
	looks  []func(context.Context) (events.StorageReport, error) // what each loop's worker sees now
	mapped func(context.Context) ([]events.MappedReport, error)  // devices of volumes on a host; nil: it is none

	networks func(context.Context) (*events.NetworksReport, error) // of a host; nil: it is none

	fabric *fabric.Worker

	mu    sync.Mutex
	links []fabric.Link // as of the last look
}

// storageLoop is a workers.Loop, whatever it sees.
type storageLoop interface {
	Run(ctx context.Context) error
	Wake()
	Drain()
}

// storer is a worker that reports storage.
type storer[O any] interface {
	Observe(ctx context.Context) (O, error)
	Plan(docs []desired.Document, seen O) []workers.Plan
	Apply(ctx context.Context, s workers.Step) error
	Report(docs []desired.Document, seen O, busy map[events.Ref]bool) events.StorageReport
}

// described makes a storer a worker of the loop.
type described[O any] struct{ storer[O] }

// Restless is the worker's own.
func (d described[O]) Restless(docs []desired.Document, seen O) bool {
	r, ok := d.storer.(workers.Restless[O])
	return ok && r.Restless(docs, seen)
}

// Describe says what is reported.
func (d described[O]) Describe(docs []desired.Document, seen O, busy map[events.Ref]bool) workers.Snapshot {
	r := d.Report(docs, seen, busy)
	for i := range r.Arrays { // they change with each look: they are told to who asks
		r.Arrays[i].SyncKiB, r.Arrays[i].SyncETA, r.Arrays[i].Fills = 0, 0, nil
	}
	return workers.Snapshot{Storage: r}
}

// addLoop makes a loop for a worker of storage. published is called after each look; it may be nil.
func addLoop[O any](c *chain, name string, w storer[O], published func()) {
	addLoopEvery(c, name, storageInterval, storageCalm, w, published)
}

// addLoopEvery makes a loop for a worker, which looks at least so often, and so often while nothing happens.
func addLoopEvery[O any](c *chain, name string, interval, calm time.Duration, w storer[O], published func()) {
	offer := c.report.Part(name)
	c.looks = append(c.looks, func(ctx context.Context) (events.StorageReport, error) {
		seen, err := w.Observe(ctx)
		if err != nil {
			return events.StorageReport{}, err
		}
		return w.Report(c.a.wishes.All(), seen, nil), nil
	})
	c.loops = append(c.loops, workers.NewLoop(described[O]{w}, c.a.wishes, workers.Options{
		Log: c.a.log.With("part", name), Interval: interval, Calm: calm,
		Publish: func(s workers.Snapshot) {
			offer(s)
			if published != nil {
				published()
			}
		},
	}))
}

// newChain makes the loops of a machine's roles.
func newChain(a *agent) *chain {
	stores := slices.Contains(a.conf.Roles, events.RoleStorageNode) || slices.Contains(a.conf.Roles, events.RoleProxy)
	c := &chain{a: a}
	c.report = &workers.StorageReporter{
		Machine: a.machine, Boot: a.conf.BootID, Whole: stores, Next: a.keep.next, Send: a.bus.reportStorage, Drain: c.drain, Log: a.log.With("part", "report of storage"),
	}
	c.fabric = &fabric.Worker{Boot: a.conf.Lease.MAC, Load: modprobe.Load}
	addLoop(c, "fabric", c.fabric, c.relink)
	target := sync.OnceValue(func() *lio.System { return lio.Kernel("/", a.machine, modprobe.Load) })
	logins := sync.OnceValue(func() *initiator.Initiator {
		i := &initiator.Initiator{Self: a.machine, Links: c.fabric.Links, Log: a.log.With("part", "initiator")}
		c.others = append(c.others, i.Run)
		return i
	})
	if slices.Contains(a.conf.Roles, events.RoleStorageNode) {
		addLoop(c, "exports", &storage.Worker{
			Machine: a.machine, Root: "/", Run: filepath.Join(a.opt.run, "exports"), Target: target(), Links: c.nodeLinks, Log: a.log.With("part", "exports"),
		}, nil)
	}
	if slices.Contains(a.conf.Roles, events.RoleProxy) {
		for _, m := range proxyModules {
			if err := modprobe.Load(m); err != nil {
				a.log.Error("no array can be had", "err", err)
			}
		}
		w := &proxy.Worker{
			Boot: a.conf.BootID, Initiator: storageNodes{logins()}, Target: &arrayExports{machine: a.machine, system: target(), links: c.fabric.Links},
			Name: initiatorName, Fetch: images{base: a.conf.HTTP, pause: time.Second}.Fetch, Wake: c.wake, Log: a.log.With("part", "arrays"),
		}
		addLoop(c, "arrays", w, nil)
		c.others = append(c.others, func(ctx context.Context) error { return w.Run(ctx, storageInterval) })
	}
	if a.conf.IsXen {
		w := &path.Worker{
			Initiator: logins(), Mapper: path.Kernel{}, Load: modprobe.Load, Listen: path.Listen, Log: a.log.With("part", "paths"), Changed: c.wake,
		}
		addLoop(c, "paths", w, nil)
		c.mapped = w.Mapped
		c.addNetworks()
		if slices.Contains(a.conf.Roles, events.RoleGateway) {
			c.addGateways()
		}
		c.others = append(c.others, w.Run)
		a.worker.Disks = w
		if k, err := throttle.Open(throttle.Dir); err != nil {
			a.log.Error("no domain with limits on its disks will be started", "err", err)
		} else {
			a.worker.Throttle = k
		}
	}
	return c
}

// relink wakes the other loops when an attachment has come or gone.
func (c *chain) relink() {
	now := c.fabric.Links()
	c.mu.Lock()
	changed := !slices.Equal(now, c.links)
	c.links = now
	c.mu.Unlock()
	if changed {
		c.a.log.Info("attachments to fabrics", "links", now)
		c.wake()
	}
}

// nodeLinks are the attachments as a storage node's worker wants them.
func (c *chain) nodeLinks() []storage.Link {
	var out []storage.Link
	for _, l := range c.fabric.Links() {
		out = append(out, storage.Link{Fabric: l.Fabric, Transport: l.Transport, Address: l.Address, RDMA: l.RDMA})
	}
	return out
}

func (c *chain) wake() {
	for _, l := range c.loops {
		l.Wake()
	}
}

func (c *chain) drain() {
	for _, l := range c.loops {
		l.Drain()
	}
}

// hear listens to the kernel until ctx ends. While it cannot, loops are woken, so that none is calm.
func (c *chain) hear(ctx context.Context, listen func(context.Context) error, wake func()) error {
	for ctx.Err() == nil {
		if err := listen(ctx); err != nil && ctx.Err() == nil {
			c.a.log.Warn("what the kernel tells is not heard for the moment", "err", err)
			wake()
		}
		select {
		case <-ctx.Done():
		case <-time.After(hearAgain):
		}
	}
	return ctx.Err()
}

// look looks for itself, beside the loops, and changes nothing.
func (c *chain) look(ctx context.Context) (*events.StorageReport, error) {
	all := events.StorageReport{Machine: c.a.machine, Boot: c.a.conf.BootID}
	for _, f := range c.looks {
		r, err := f(ctx)
		if err != nil {
			return nil, err
		}
		all.Disks, all.Exports = append(all.Disks, r.Disks...), append(all.Exports, r.Exports...)
		all.Arrays, all.Paths = append(all.Arrays, r.Arrays...), append(all.Paths, r.Paths...)
	}
	return &all, nil
}

// run works until ctx ends.
func (c *chain) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range c.loops {
		group.Go(func() error { return l.Run(ctx) })
	}
	for _, f := range c.others {
		group.Go(func() error { return f(ctx) })
	}
	group.Go(func() error {
		return c.hear(ctx, func(ctx context.Context) error { return uevent.Devices(ctx, uevent.Subsystems, c.wake) }, c.wake)
	})
	group.Go(func() error {
		return c.hear(ctx, func(ctx context.Context) error { return uevent.Network(ctx, c.loops[fabricLoop].Wake) }, c.loops[fabricLoop].Wake)
	})
	group.Go(func() error { return c.report.Run(ctx) })
	return group.Wait()
}

package main

import (
	"context"
	"fmt"
	"time"

	"cloudengine/e2e/chain"
	"cloudengine/e2e/rack"
	"cloudengine/events"
)

const (
	stallRuns = 3
	// calmBlocks are written before anything is done: the longest of them is what the chain takes without any failure.
	calmBlocks = 40
	// stallBlocks are written after each event, so that what stalls late is seen too.
	stallBlocks = 20
	// eventLimit bounds one event, with the way back to a whole array. On a busy computer a machine's boot takes minutes.
	eventLimit = 12 * time.Minute
)

// A blow is something that is done to the storage chain while a guest writes.
type blow struct {
	id, name string
	goal     time.Duration
	note     string
	strike   func(ctx context.Context, c *chain.Chain) (dead string, err error) // dead: a machine that has no power now; empty: none
}

func blows() []blow {
	return []blow{
		{id: "P9-switch", name: "guest's longest access, planned switch of proxies", goal: 5 * time.Second, note: "by array failover", strike: switched},
		{id: "P9-proxy", name: "guest's longest access, proxy loses power", goal: 30 * time.Second,
			note: "nobody is asked: silence, then the word of its controller that it is off, then the other proxy takes over", strike: proxyKilled},
		{id: "P9-node", name: "guest's longest access, storage node loses power", goal: 10 * time.Second,
			note: "the proxy goes on with the other copy", strike: nodeKilled},
	}
}

// measureChain measures what concerns a guest's disk, on a rack with two storage nodes and two proxies: P6-cpu-run, and P9.
func measureChain(ctx context.Context, b *bench, add func(Result)) error {
	r, err := b.raiseAs(ctx, "chain", "--storage-nodes", "2", "--proxies", "2")
	if err != nil {
		return err
	}
	c := r.chain(b)
	calm, err := write(ctx, c)
	if err != nil {
		return err
	}
	if b.wants("P6-cpu-run") {
		b.say("P6-cpu-run: %d windows of %s", cpuWindows, cpuWindow)
		all, err := r.watchRunning(ctx)
		if err != nil {
			return err
		}
		add(share("P6-cpu-run", "CPU time of noded while a guest writes, 30 s", runningGoal, all))
	}
	for _, w := range blows() {
		if !b.wants(w.id) {
			continue
		}
		b.say("%s: %d runs", w.id, stallRuns)
		stalls, err := w.strikeAll(ctx, b, c)
		if err != nil {
			return fmt.Errorf("measure %s: %w", w.id, err)
		}
		add(w.row(stalls, calm))
	}
	return nil
}

// chain is the storage chain of the rig's rack.
func (r *rig) chain(b *bench) *chain.Chain {
	run := func(ctx context.Context, args ...string) (string, error) {
		args = append([]string{"--server", "nats://" + rigBus, "--nkey", r.key()}, args...)
		return output(ctx, r.program, args...)
	}
	return &chain.Chain{Rack: r.rack, Bus: r.c, Run: run, Say: b.say, Sets: 2}
}

// write makes the chain up to a guest that writes and reads back, and gives its longest access while nothing is done to it.
func write(ctx context.Context, c *chain.Chain) (calm time.Duration, err error) {
	if err := c.Join(ctx, events.TransportSRP); err != nil {
		return 0, err
	}
	if err := c.Make(ctx); err != nil {
		return 0, err
	}
	if err := c.Attach(ctx); err != nil {
		return 0, err
	}
	if _, err := c.Run(ctx, "vm", "start", chain.VM, "--wait", "--timeout", "5m"); err != nil {
		return 0, err
	}
	first, err := c.Writing(ctx, 1)
	if err != nil {
		return 0, err
	}
	w, err := c.Writing(ctx, first.Writes+calmBlocks)
	return w.Since(first), err
}

// strikeAll strikes again and again, each time when the chain is whole, and gives the stalls.
func (w blow) strikeAll(ctx context.Context, b *bench, c *chain.Chain) (stalls []float64, err error) {
	for i := range stallRuns {
		stall, err := w.once(ctx, c)
		if err != nil {
			return nil, err
		}
		b.say("%s, run %d: the guest's longest access took %.1f s", w.id, i+1, stall.Seconds())
		stalls = append(stalls, stall.Seconds())
	}
	return stalls, nil
}

func (w blow) once(ctx context.Context, c *chain.Chain) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, eventLimit)
	defer cancel()
	if _, err := c.Whole(ctx, ""); err != nil {
		return 0, err
	}
	before, err := c.Writing(ctx, 1)
	if err != nil {
		return 0, err
	}
	dead, err := w.strike(ctx, c)
	if err != nil {
		return 0, err
	}
	_, stall, err := c.Stalled(ctx, before, stallBlocks)
	if err != nil || dead == "" {
		return stall, err
	}
	if _, err := c.Run(ctx, "machine", "power", "on", dead, "--wait", "--timeout", "5m"); err != nil {
		return 0, err
	}
	err = c.Until(ctx, eventLimit, dead+" is up", func(ctx context.Context) (bool, string, error) {
		m, err := c.Row(ctx, events.KindMachine, dead)
		return chain.Text(m, "state") == "up", chain.Text(m, "state"), err
	})
	return stall, err
}

func switched(ctx context.Context, c *chain.Chain) (string, error) {
	_, err := c.Run(ctx, "array", "failover", chain.Array, "--wait", "--timeout", "5m")
	return "", err
}

func proxyKilled(ctx context.Context, c *chain.Chain) (dead string, err error) {
	if dead, err = c.Whole(ctx, ""); err != nil {
		return "", err
	}
	if err := c.Rack.Kill(ctx, dead); err != nil {
		return "", err
	}
	return dead, c.TakenOver(ctx, dead)
}

func nodeKilled(ctx context.Context, c *chain.Chain) (dead string, err error) {
	dead = c.Of(rack.RoleStorageNode)[0]
	if err := c.Rack.Kill(ctx, dead); err != nil {
		return "", err
	}
	return dead, c.Degraded(ctx)
}

// row makes the row of one blow. There is no raw side: by hand all of it would have to be built a second time, without our agents, on machines like these.
func (w blow) row(stalls []float64, calm time.Duration) Result {
	mid, verdict := median(stalls), "met" // sorts them
	if mid > w.goal.Seconds() {
		verdict = "MISSED"
	}
	return Result{ID: w.id, Name: w.name, Ours: mid, Unit: "s", Runs: len(stalls),
		Note: fmt.Sprintf("goal ≤ %.0f s %s; %.1f to %.1f s; %.1f s without any event; %s; all writes verified; SRP over soft RDMA, emulated machines; "+
			"no raw side: the same by hand was not done in this run", w.goal.Seconds(), verdict, stalls[0], stalls[len(stalls)-1], calm.Seconds(), w.note)}
}

// Package biglog makes large logs for benchmarks, once, and keeps them in a folder: a server's streams with so many decisions, written
// without fsync.
//
// A log of the same size is the same log each time, but for the files around it. The package measures nothing.
package biglog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/broker"
	"cloudengine/events/journal"
	"cloudengine/projections/projectionstest"
)

// version rises when logs become other ones.
const version = 2

const (
	hosts   = 40
	vms     = 10_000
	perRun  = 2000 // decisions made at once
	window  = 256  // blocks on the way
	maxSize = 20   // decisions of a block: 1 to twice this
)

// Open starts a server on the log with at least that many decisions, which it makes first if the folder does not have it. The caller
// shuts the server down.
func Open(ctx context.Context, dir string, decisions int, say func(format string, args ...any)) (*broker.Server, error) {
	path := filepath.Join(dir, fmt.Sprintf("log%d-%d", version, decisions))
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		say("make a log of %d decisions in %s", decisions, path)
		if err := build(ctx, path, decisions); err != nil {
			return nil, fmt.Errorf("make log of %d decisions: %w", decisions, err)
		}
	}
	return start(ctx, path)
}

func start(ctx context.Context, path string) (*broker.Server, error) {
	return broker.Start(ctx, broker.Options{Dir: path, UnsafeNoFsync: true})
}

func build(ctx context.Context, path string, decisions int) (err error) {
	part := path + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	srv, err := start(ctx, part)
	if err != nil {
		return err
	}
	err = fill(ctx, srv, decisions)
	srv.Shutdown()
	if err != nil {
		return err
	}
	return os.Rename(part, path)
}

// fill appends blocks.
func fill(ctx context.Context, srv *broker.Server, decisions int) error {
	nc, err := srv.Connect("biglog")
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(window))
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	choose := rand.New(rand.NewPCG(uint64(decisions), version)).IntN
	world, at := projectionstest.New(choose, hosts).Ordered(), events.Position{}
	for at.Number < uint64(decisions) && ctx.Err() == nil {
		if at, err = publish(js, at, world.Traffic(perRun, vms).Take(), choose); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		return errors.New("the last blocks were not stored in time")
	case <-ctx.Done():
		return ctx.Err()
	}
	j, err := journal.Open(ctx, js)
	if err != nil {
		return err
	}
	if last, err := j.Last(ctx); err != nil || last != at.Seq {
		return fmt.Errorf("%d blocks were stored, want %d: %w", last, at.Seq, errors.Join(err, events.ErrBroken))
	}
	return nil
}

// patient waits for a place among the blocks on the way: the library gives up after 200 ms, which a busy disk takes.
var patient = jetstream.WithStallWait(time.Minute)

// publish sends decisions in blocks, and gives the position after them.
func publish(js jetstream.JetStream, at events.Position, all []events.Recorded, choose func(int) int) (events.Position, error) {
	for len(all) > 0 {
		n := min(1+choose(2*maxSize), len(all))
		b := &events.Block{Format: events.Format, Term: all[n-1].Term, First: at.Number + 1, Time: all[n-1].Time, Prev: at.Digest}
		for _, r := range all[:n] {
			b.Decisions = append(b.Decisions, r.Decision)
		}
		payload, err := b.Encode()
		if err != nil {
			return at, err
		}
		if at, err = at.Next(at.Seq+1, b, events.Digest(payload)); err != nil {
			return at, err
		}
		if _, err := js.PublishAsync(events.SubjectEvents, payload, patient); err != nil {
			return at, fmt.Errorf("publish block: %w", err)
		}
		all = all[n:]
	}
	return at, nil
}

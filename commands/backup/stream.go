package backup

import (
	"context"
	"fmt"

	"cloudengine/events/broker"
	"cloudengine/events/journal"

	"github.com/nats-io/nats.go/jetstream"
)

// withStream runs a bus on a directory of streams, for nobody else.
func withStream(ctx context.Context, o broker.Options, f func(context.Context, *journal.Journal) error) error {
	o.Listen, o.UnsafePlain = "127.0.0.1:0", true // nobody is let in before Open, which is not called
	bus, err := broker.Start(ctx, o)
	if err != nil {
		return err
	}
	defer bus.Shutdown()
	conn, err := bus.Connect("backup")
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	log, err := journal.Open(ctx, js)
	if err != nil {
		return err
	}
	return f(ctx, log)
}

// LoadStream makes a log's stream in a directory from blocks. It is not durable before the file system is synced.
func LoadStream(ctx context.Context, dir string, blocks func(add func(seq uint64, payload []byte) error) error) error {
	return withStream(ctx, broker.Options{Dir: dir, UnsafeNoFsync: true}, func(ctx context.Context, log *journal.Journal) error {
		return blocks(func(seq uint64, payload []byte) error {
			_, err := log.Append(ctx, seq-1, payload)
			return err
		})
	})
}

// ReadStream gives the blocks of the log of a server that does not run. The caller keeps the server from starting.
func ReadStream(dir string) func(ctx context.Context, f func(seq, last uint64, payload []byte) error) error {
	return func(ctx context.Context, f func(seq, last uint64, payload []byte) error) error {
		return withStream(ctx, broker.Options{Dir: dir}, func(ctx context.Context, log *journal.Journal) error {
			last, err := log.Last(ctx)
			if err != nil {
				return err
			}
			return log.Blocks(ctx, 0, func(seq uint64, payload []byte) error { return f(seq, last, payload) })
		})
	}
}

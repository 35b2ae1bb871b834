package benchreplay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/broker"
	"cloudengine/events/journal"
	"cloudengine/projections/projectionstest/biglog"
)

// window is how many blocks are on the way while a log is made.
const window = 256

// openAlone starts a server on the log of biglog with each decision in a block of its own, as a cloud writes that decides one thing at
// a time. It makes the log first if the folder does not have it.
func openAlone(ctx context.Context, dir string, decisions int, say func(string, ...any)) (*broker.Server, error) {
	path := filepath.Join(dir, fmt.Sprintf("alone1-%d", decisions))
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		say("make a log of %d decisions, each in a block of its own, in %s", decisions, path)
		if err := makeAlone(ctx, dir, path, decisions, say); err != nil {
			return nil, fmt.Errorf("make log of single decisions: %w", err)
		}
	}
	return broker.Start(ctx, broker.Options{Dir: path, UnsafeNoFsync: true})
}

func makeAlone(ctx context.Context, dir, path string, decisions int, say func(string, ...any)) error {
	part := path + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	from, err := biglog.Open(ctx, dir, decisions, say)
	if err != nil {
		return err
	}
	defer from.Shutdown()
	to, err := broker.Start(ctx, broker.Options{Dir: part, UnsafeNoFsync: true})
	if err != nil {
		return err
	}
	err = divide(ctx, from, to)
	to.Shutdown()
	if err != nil {
		return err
	}
	return os.Rename(part, path)
}

// divide copies a log, one decision to a block.
func divide(ctx context.Context, from, to *broker.Server) error {
	in, err := from.Connect("bench")
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := to.Connect("bench")
	if err != nil {
		return err
	}
	defer out.Close()
	inJS, err1 := jetstream.New(in)
	outJS, err2 := jetstream.New(out, jetstream.WithPublishAsyncMaxPending(window))
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	log, err := journal.Open(ctx, inJS)
	if err != nil {
		return err
	}
	prev := ""
	err = log.Blocks(ctx, 0, func(_ uint64, payload []byte) error {
		e, err := events.OpenEnvelope(payload)
		if err != nil {
			return err
		}
		for i, d := range e.Decisions {
			b := single(e, i, d, prev)
			prev = events.Digest(b)
			if _, err := outJS.PublishAsync(events.SubjectEvents, b, patient); err != nil {
				return fmt.Errorf("publish block: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case <-outJS.PublishAsyncComplete():
		return nil
	case <-time.After(time.Minute):
		return errors.New("the last blocks were not stored in time")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// patient waits for a place among the blocks on the way: the library gives up after 200 ms, which a busy disk takes.
var patient = jetstream.WithStallWait(time.Minute)

func single(e *events.Envelope, i int, decision []byte, prev string) []byte {
	var b bytes.Buffer
	b.WriteString(`{"format":` + strconv.Itoa(e.Format) + `,"term":` + strconv.FormatUint(e.Term, 10) +
		`,"first":` + strconv.FormatUint(e.First+uint64(i), 10) + `,"time":"`)
	b.Write(e.TimeText)
	b.WriteString(`","prev":"` + prev + `","decisions":[`)
	b.Write(decision)
	b.WriteString(`]}`)
	return b.Bytes()
}

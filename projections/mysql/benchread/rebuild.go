package benchread

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/broker"
	"cloudengine/events/journal"
	"cloudengine/projections"
	"cloudengine/projections/follow"
	"cloudengine/projections/mysql"
	"cloudengine/projections/projectionstest"
)

// sizes are the decisions of the logs that are rebuilt, about: three, to see how the cost grows. The ratio is that of the last.
var sizes = []int{15_000, 50_000, 150_000}

const (
	rebuildRuns = 5
	blockSize   = 64 // decisions in one block
)

// rebuild is P5: the whole log read, folded, loaded and swapped beside live tables, against a raw read of the same stream and LOAD DATA
// of the same rows, made and sorted beforehand.
func rebuild(ctx context.Context, server *mysql.Private, dir string) (Result, error) {
	world := projectionstest.New(rand.New(rand.NewPCG(1, 5)).IntN, hosts)
	for len(world.All()) < sizes[len(sizes)-1] {
		world.Steps(10_000)
	}
	all := world.All()
	var last Result
	var growth []string
	for i, size := range sizes {
		db, err := server.Open(ctx, "bench_rebuild_"+strconv.Itoa(i))
		if err != nil {
			return last, err
		}
		r, err := rebuildOne(ctx, db, filepath.Join(dir, "rebuild"+strconv.Itoa(i)), all[:size])
		if err = errors.Join(err, db.Close()); err != nil {
			return last, fmt.Errorf("rebuild of %d decisions: %w", size, err)
		}
		growth = append(growth, fmt.Sprintf("%d decisions %.0f/s (ratio %.2f)", r.Runs, r.Ours, r.Ratio))
		last = r
	}
	last.Runs = rebuildRuns
	last.Note += "; growth: " + strings.Join(growth, ", ")
	return last, nil
}

// rebuildOne measures one log. Runs of its result is the number of decisions.
func rebuildOne(ctx context.Context, db *sql.DB, dir string, all []events.Recorded) (Result, error) {
	js, stop, err := stored(ctx, dir, all)
	if err != nil {
		return Result{}, err
	}
	defer stop()
	p := mysql.NewProjector(db, slog.New(slog.DiscardHandler))
	running, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	log := follow.New(js)
	ended, failed := context.WithCancelCause(ctx)
	go func() { err := p.Run(running, log); failed(err); done <- err }()
	defer func() { cancel(); <-done }()
	if err := p.Wait(ended, uint64(len(all))); err != nil {
		return Result{}, errors.Join(err, context.Cause(ended))
	}
	texts, rows, err := textsOf(all)
	if err != nil {
		return Result{}, err
	}
	var ours, theirs, ratios []float64
	for range rebuildRuns {
		began := time.Now()
		if _, err := p.Rebuild(ctx, log, mysql.RebuildOptions{}); err != nil {
			return Result{}, err
		}
		a := float64(len(all)) / time.Since(began).Seconds()
		took, err := rawRebuild(ctx, js, db, texts)
		if err != nil {
			return Result{}, err
		}
		b := float64(len(all)) / took.Seconds()
		ours, theirs, ratios = append(ours, a), append(theirs, b), append(ratios, a/b)
	}
	return Result{ID: "P5", Name: "rebuild of all read models", Ours: median(ours), Raw: median(theirs), Ratio: median(ratios), Unit: "decisions/s", Runs: len(all),
		Note: fmt.Sprintf("%d decisions in blocks of %d, %d rows; ours decodes and verifies the log, folds it, makes the rows' text, and swaps beside a live projector; bound by the CPUs (%d here, shared with the database)",
			len(all), blockSize, rows, runtime.NumCPU())}, nil
}

// stored puts a history into a log of its own.
func stored(ctx context.Context, dir string, all []events.Recorded) (jetstream.JetStream, func(), error) {
	srv, err := broker.Start(ctx, broker.Options{Dir: dir, UnsafeNoFsync: true})
	if err != nil {
		return nil, nil, err
	}
	nc, err := srv.Connect("bench")
	if err != nil {
		srv.Shutdown()
		return nil, nil, err
	}
	stop := func() { nc.Close(); srv.Shutdown() }
	js, err := jetstream.New(nc)
	if err == nil {
		err = appendBlocks(ctx, js, all)
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return js, stop, nil
}

func appendBlocks(ctx context.Context, js jetstream.JetStream, all []events.Recorded) error {
	j, err := journal.Open(ctx, js)
	if err != nil {
		return err
	}
	seq, prev := uint64(0), ""
	for len(all) > 0 {
		n := 1
		for n < min(blockSize, len(all)) && all[n].Term == all[0].Term {
			n++
		}
		b := events.Block{Format: events.Format, Term: all[0].Term, First: all[0].Number, Time: all[n-1].Time, Prev: prev}
		for _, r := range all[:n] {
			b.Decisions = append(b.Decisions, r.Decision)
		}
		payload, err := b.Encode()
		if err != nil {
			return err
		}
		if seq, err = j.Append(ctx, seq, payload); err != nil {
			return err
		}
		prev, all = events.Digest(payload), all[n:]
	}
	return nil
}

// rawText is a table's rows as LOAD DATA reads them, in the order of their ids.
type rawText struct {
	table *projections.Table
	rows  int
	text  []byte
}

// textsOf folds a history and makes the text of all its rows, the largest table first.
func textsOf(all []events.Recorded) (out []rawText, rows int, err error) {
	m := projections.NewMemory()
	for i := range all {
		if err := m.Apply(&all[i]); err != nil {
			return nil, 0, err
		}
	}
	var values []any
	for _, model := range projections.Models() {
		t := rawText{table: model.Table}
		for _, r := range m.Rows(model.Table) {
			values = model.Table.Values(values[:0], r)
			for i, v := range values {
				if i > 0 {
					t.text = append(t.text, '\t')
				}
				t.text = appendRaw(t.text, v)
			}
			t.text = append(t.text, '\n')
			t.rows++
		}
		rows += t.rows
		out = append(out, t)
	}
	sort.SliceStable(out, func(i, j int) bool { return len(out[i].text) > len(out[j].text) })
	return out, rows, nil
}

func appendRaw(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, `\N`...)
	case time.Time:
		return v.AppendFormat(dst, "2006-01-02 15:04:05.999999")
	case bool:
		if v {
			return append(dst, '1')
		}
		return append(dst, '0')
	}
	return append(dst, strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`).Replace(fmt.Sprint(v))...)
}

// rawRebuild reads the stream and loads the rows into new tables. Making and dropping the tables is not timed.
func rawRebuild(ctx context.Context, js jetstream.JetStream, db *sql.DB, texts []rawText) (time.Duration, error) {
	for _, t := range texts {
		for _, q := range []string{"DROP TABLE IF EXISTS raw_" + t.table.Name, "CREATE TABLE raw_" + t.table.Name + " LIKE " + t.table.Name} {
			if _, err := db.ExecContext(ctx, q); err != nil {
				return 0, err
			}
		}
	}
	began := time.Now()
	if err := rawRead(ctx, js); err != nil {
		return 0, err
	}
	work := make(chan rawText, len(texts))
	for _, t := range texts {
		work <- t
	}
	close(work)
	failed := make(chan error, len(texts))
	var loaders sync.WaitGroup
	for range max(2, runtime.NumCPU()) {
		loaders.Go(func() {
			for t := range work {
				if err := rawLoad(ctx, db, t); err != nil {
					failed <- err
				}
			}
		})
	}
	loaders.Wait()
	took := time.Since(began)
	close(failed)
	if err := <-failed; err != nil {
		return 0, err
	}
	for _, t := range texts {
		if _, err := db.ExecContext(ctx, "DROP TABLE raw_"+t.table.Name); err != nil {
			return 0, err
		}
	}
	return took, nil
}

func rawLoad(ctx context.Context, db *sql.DB, t rawText) error {
	name := "raw-" + t.table.Name
	driver.RegisterReaderHandler(name, func() io.Reader { return bytes.NewReader(t.text) })
	defer driver.DeregisterReaderHandler(name)
	res, err := db.ExecContext(ctx, "LOAD DATA LOCAL INFILE 'Reader::"+name+"' INTO TABLE raw_"+t.table.Name+" CHARACTER SET utf8mb4 (`"+strings.Join(t.table.Columns, "`,`")+"`)")
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != int64(t.rows) {
		return fmt.Errorf("%d of %d rows of %s were loaded: %w", n, t.rows, t.table.Name, err)
	}
	return nil
}

// rawRead reads all messages of the stream and does nothing with them.
func rawRead(ctx context.Context, js jetstream.JetStream) error {
	stream, err := js.Stream(ctx, events.StreamEvents)
	if err != nil {
		return err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return err
	}
	c, err := js.OrderedConsumer(ctx, events.StreamEvents, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	left, over := info.State.Msgs, make(chan struct{})
	consume, err := c.Consume(func(jetstream.Msg) {
		if left--; left == 0 {
			close(over)
		}
	}, jetstream.PullMaxBytes(16<<20))
	if err != nil {
		return err
	}
	defer consume.Stop()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

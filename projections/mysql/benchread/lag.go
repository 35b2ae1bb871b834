package benchread

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sort"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"cloudengine/events"
	"cloudengine/events/broker"
	"cloudengine/events/journal"
	"cloudengine/projections/follow"
	"cloudengine/projections/mysql"
)

const (
	perSecond = 500
	lagTime   = 5 * time.Second
)

// lag is P4-lag: from the acknowledgement of a block with one decision to its row being readable, at 500 decisions per second.
func lag(ctx context.Context, db *sql.DB, dir string, all []events.Recorded) (Result, error) {
	srv, err := broker.Start(ctx, broker.Options{Dir: filepath.Join(dir, "bus")})
	if err != nil {
		return Result{}, err
	}
	defer srv.Shutdown()
	nc, err := srv.Connect("bench")
	if err != nil {
		return Result{}, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return Result{}, err
	}
	if err := mysql.Clear(ctx, db); err != nil {
		return Result{}, err
	}
	p := mysql.NewProjector(db, slog.New(slog.DiscardHandler))
	running, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.Run(running, follow.New(js)) }()
	ours, err := appendAndWait(ctx, js, p, all)
	cancel()
	if err = errors.Join(err, <-done); err != nil {
		return Result{}, err
	}
	raw, err := rawCommits(ctx, db)
	if err != nil {
		return Result{}, err
	}
	x, y := milliseconds(ours), milliseconds(raw)
	return Result{ID: "P4-lag", Name: "stored decision to readable row, p99", Ours: x, Raw: y, Ratio: x / y, Unit: "ms", Runs: len(ours),
		Note: fmt.Sprintf("%d decisions/s, one per block, fsync on, over bus and journal; p50 %.2f ms; raw is p99 of one committed row; the goal is below 100 ms",
			perSecond, float64(quantile(ours, 50))/1e6)}, nil
}

func milliseconds(d []time.Duration) float64 { return float64(quantile(d, 99)) / 1e6 }

func quantile(d []time.Duration, percent int) time.Duration {
	sort.Slice(d, func(i, j int) bool { return d[i] < d[j] })
	return d[len(d)*percent/100]
}

// appendAndWait appends decisions at the rate and measures each from its acknowledgement to its application.
func appendAndWait(ctx context.Context, js jetstream.JetStream, p *mysql.Projector, all []events.Recorded) ([]time.Duration, error) {
	j, err := journal.Open(ctx, js)
	if err != nil {
		return nil, err
	}
	type stored struct {
		number uint64
		at     time.Time
	}
	n := min(len(all), int(lagTime.Seconds())*perSecond)
	acked := make(chan stored, n)
	var took []time.Duration
	waited := make(chan error, 1)
	go func() {
		for s := range acked {
			if err := p.Wait(ctx, s.number); err != nil {
				waited <- err
				return
			}
			took = append(took, time.Since(s.at))
		}
		waited <- nil
	}()
	err = appendAll(ctx, j, all[:n], func(number uint64) { acked <- stored{number, time.Now()} })
	close(acked)
	return took, errors.Join(err, <-waited)
}

func appendAll(ctx context.Context, j *journal.Journal, all []events.Recorded, acked func(uint64)) error {
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	seq, prev := uint64(0), ""
	for _, r := range all {
		b := events.Block{Format: events.Format, Term: r.Term, First: r.Number, Time: r.Time, Prev: prev, Decisions: []events.Decision{r.Decision}}
		payload, err := b.Encode()
		if err != nil {
			return err
		}
		if seq, err = j.Append(ctx, seq, payload); err != nil {
			return err
		}
		prev = events.Digest(payload)
		acked(r.Number)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// rawCommits measures one row in one transaction.
func rawCommits(ctx context.Context, db *sql.DB) ([]time.Duration, error) {
	var took []time.Duration
	for i := range 1000 {
		began := time.Now()
		_, err := db.ExecContext(ctx, "INSERT INTO accounts (id, name, created_at, changed_by, changed_at) VALUES (?,?,?,?,?) ON DUPLICATE KEY UPDATE name=VALUES(name)",
			fmt.Sprintf("raw-%d", i), "raw", began.UTC(), 1, began.UTC())
		if err != nil {
			return nil, fmt.Errorf("write raw row: %w", err)
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

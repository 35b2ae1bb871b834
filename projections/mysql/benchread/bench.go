// Package benchread measures the read models: P4, P4-lag and P5 of the design's performance table.
//
// Both sides of P4 write the same rows in the same batches to the same server with the same driver and durability; the raw side has
// its statements and arguments made beforehand. It needs mariadbd, and leaves nothing behind.
package benchread

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sort"
	"strings"
	"time"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/mysql"
	"cloudengine/projections/projectionstest"
)

// Result is one line of bench.json.
type Result struct {
	ID    string  `json:"id"`
	Name  string  `json:"name"`
	Ours  float64 `json:"ours"`
	Raw   float64 `json:"raw"`
	Ratio float64 `json:"ratio"` // median of the runs' ratios
	Unit  string  `json:"unit"`
	Runs  int     `json:"runs"`
	Note  string  `json:"note"`
}

const (
	runs  = 9
	steps = 12_000 // things that happen in the history; about 1.2 decisions each
	hosts = 40
)

// IDs lists what can be measured.
func IDs() []string { return []string{"P4", "P4-lag", "P5"} }

// Run measures the lines that are wanted. It takes about a minute for P4, and one for P5.
func Run(ctx context.Context, wants func(id string) bool) ([]Result, error) {
	dir, err := os.MkdirTemp("", "ce-bench-")
	if err != nil {
		return nil, fmt.Errorf("make folder of the benchmark: %w", err)
	}
	defer os.RemoveAll(dir)
	server, err := mysql.StartPrivate(ctx, dir, 128, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer server.Close()
	var out []Result
	if wants("P4") || wants("P4-lag") {
		if out, err = live(ctx, server, dir); err != nil {
			return nil, err
		}
	}
	if wants("P5") {
		r, err := rebuild(ctx, server, dir)
		if err != nil {
			return out, fmt.Errorf("measure P5: %w", err)
		}
		out = append(out, r)
	}
	return out, nil
}

// live measures what follows the log.
func live(ctx context.Context, server *mysql.Private, dir string) ([]Result, error) {
	db, err := server.Open(ctx, "bench")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	all := projectionstest.New(rand.New(rand.NewPCG(1, 4)).IntN, hosts).Steps(steps).All()
	p4, err := batches(ctx, db, all)
	if err != nil {
		return nil, fmt.Errorf("measure P4: %w", err)
	}
	lag, err := lag(ctx, db, dir, all)
	if err != nil {
		return nil, fmt.Errorf("measure P4-lag: %w", err)
	}
	return []Result{p4, lag}, nil
}

// batches is P4.
func batches(ctx context.Context, db *sql.DB, all []events.Recorded) (Result, error) {
	raw, rows, err := statements(all)
	if err != nil {
		return Result{}, err
	}
	var ours, theirs, ratios []float64
	for range runs {
		a, err := timed(ctx, db, func() error { return applyAll(ctx, db, all) })
		if err != nil {
			return Result{}, err
		}
		b, err := timed(ctx, db, func() error { return runAll(ctx, db, raw) })
		if err != nil {
			return Result{}, err
		}
		x, y := float64(rows)/a.Seconds(), float64(rows)/b.Seconds()
		ours, theirs, ratios = append(ours, x), append(theirs, y), append(ratios, x/y)
	}
	return Result{ID: "P4", Name: "live projection into MariaDB", Ours: median(ours), Raw: median(theirs), Ratio: median(ratios), Unit: "rows/s", Runs: runs,
		Note: fmt.Sprintf("%d decisions, %d rows in batches of %d, one transaction each; bound by the server: ours folds the next batch while one is written",
			len(all), rows, mysql.MaxBatch)}, nil
}

// timed measures work on empty tables.
func timed(ctx context.Context, db *sql.DB, work func() error) (time.Duration, error) {
	if err := mysql.Clear(ctx, db); err != nil {
		return 0, err
	}
	began := time.Now()
	err := work()
	return time.Since(began), err
}

// applyAll lets a projector follow the log, as in production.
func applyAll(ctx context.Context, db *sql.DB, all []events.Recorded) error {
	p := mysql.NewProjector(db, slog.New(slog.DiscardHandler))
	running, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	log := projectionstest.NewLog(all...)
	log.Chunk = mysql.MaxBatch // so that the batches are those of the raw side
	go func() { done <- p.Run(running, log) }()
	err := p.Wait(ctx, uint64(len(all)))
	cancel()
	if err = errors.Join(err, <-done); err != nil {
		return err
	}
	var parked int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM parked_events").Scan(&parked); err != nil || parked > 0 {
		return fmt.Errorf("%d events could not be applied: %w", parked, err)
	}
	return nil
}

// statement is one statement of the raw side, with its arguments.
type statement struct {
	text string
	args []any
}

// statements makes the raw side's transactions: the rows that each batch leaves behind. It counts the rows.
func statements(all []events.Recorded) (batches [][]statement, rows int, err error) {
	store := memory{rows: map[projections.RowID]any{}}
	for len(all) > 0 {
		n := min(mysql.MaxBatch, len(all))
		store.dirty = map[*projections.Table]map[string]any{}
		for i := range all[:n] {
			for _, p := range projections.Parts(&all[i]) {
				if _, err := projections.ApplyPart(store, &all[i], p); err != nil {
					return nil, 0, err
				}
			}
		}
		var batch []statement
		for _, m := range projections.Models() {
			s := upsert(m.Table, store.dirty[m.Table])
			rows += len(store.dirty[m.Table])
			batch = append(batch, s...)
		}
		batch = append(batch, statement{"UPDATE projection_checkpoint SET seq=?, applied_at=? WHERE name=?", []any{all[n-1].Number, time.Now().UTC(), "readmodels"}})
		batches, all = append(batches, batch), all[n:]
	}
	return batches, rows, nil
}

func upsert(t *projections.Table, rows map[string]any) []statement {
	var ids, gone []any
	for id, row := range rows {
		if row == nil {
			gone = append(gone, id)
		} else {
			ids = append(ids, id)
		}
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i].(string) < ids[j].(string) })
	var out []statement
	if len(ids) > 0 {
		var args []any
		for _, id := range ids {
			args = t.Values(args, rows[id.(string)])
		}
		tuple := "(?" + strings.Repeat(",?", len(t.Columns)-1) + ")"
		var sets []string
		for _, c := range t.Columns[1:] {
			sets = append(sets, "`"+c+"`=VALUES(`"+c+"`)")
		}
		out = append(out, statement{"INSERT INTO `" + t.Name + "` (`" + strings.Join(t.Columns, "`,`") + "`) VALUES " +
			strings.Repeat(tuple+",", len(ids)-1) + tuple + " ON DUPLICATE KEY UPDATE " + strings.Join(sets, ","), args})
	}
	if len(gone) > 0 {
		out = append(out, statement{"DELETE FROM `" + t.Name + "` WHERE id IN (?" + strings.Repeat(",?", len(gone)-1) + ")", gone})
	}
	return out
}

func runAll(ctx context.Context, db *sql.DB, batches [][]statement) error {
	for _, batch := range batches {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		for _, s := range batch {
			if _, err := tx.ExecContext(ctx, s.text, s.args...); err != nil {
				return fmt.Errorf("raw: %w (roll back: %v)", err, tx.Rollback())
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// memory is a Store in memory that remembers what a batch changed.
type memory struct {
	rows  map[projections.RowID]any
	dirty map[*projections.Table]map[string]any
}

func (m memory) Get(t *projections.Table, id string) (any, error) {
	return m.rows[projections.RowID{Table: t, ID: id}], nil
}

func (m memory) All(t *projections.Table) ([]any, error) {
	var out []any
	for id, row := range m.rows {
		if id.Table == t && row != nil {
			out = append(out, row)
		}
	}
	return out, nil
}

func (m memory) Put(t *projections.Table, id string, row any) {
	m.rows[projections.RowID{Table: t, ID: id}] = row
	if m.dirty[t] == nil {
		m.dirty[t] = map[string]any{}
	}
	m.dirty[t][id] = row
}

func (m memory) Delete(t *projections.Table, id string) { m.Put(t, id, nil) }

func median(x []float64) float64 {
	s := append([]float64{}, x...)
	sort.Float64s(s)
	return s[len(s)/2]
}

package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"cloudengine/events"
	"cloudengine/projections"
)

// ModelStatus says how one read model is.
type ModelStatus struct {
	Kind   events.Kind
	Table  string
	Rows   uint64
	Parked int // objects of its kind that are parked
}

// Status says how the read models are, all of one moment.
type Status struct {
	At        Checkpoint
	AppliedAt time.Time // when that decision was applied, UTC; zero: not known
	Version   string    // of the tables
	Models    []ModelStatus
	Parked    int // objects
	Waiting   int // parked events
	Dropped   int // events that were given up
}

// ReadStatus counts rows; it takes time that grows with them. Tables of another version that lack something give an error.
func ReadStatus(ctx context.Context, db *sql.DB) (Status, error) {
	var s Status
	fail := func(err error) (Status, error) { return s, fmt.Errorf("read the state of the read models: %w", err) }
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return fail(err)
	}
	defer tx.Rollback() // it read only; the error is of no use
	var at sql.NullTime
	var intent sql.NullString
	err = tx.QueryRowContext(ctx, "SELECT seq, term, intent, applied_at FROM "+checkpointTable+" WHERE name = ?", checkpointName).Scan(&s.At.Number, &s.At.Term, &intent, &at)
	if err != nil {
		return fail(err)
	}
	s.At.Intent, s.AppliedAt = events.IntentID(intent.String), at.Time
	if s.Version, err = schemaVersion(ctx, tx); err != nil {
		return fail(err)
	}
	for _, m := range projections.Models() {
		one := ModelStatus{Kind: m.Kind, Table: m.Table.Name}
		if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+live.of(m.Table.Name)).Scan(&one.Rows); err != nil {
			return fail(err)
		}
		if err := tx.QueryRowContext(ctx, "SELECT COUNT(DISTINCT object) FROM "+parkedTable+" WHERE kind = ?", string(m.Kind)).Scan(&one.Parked); err != nil {
			return fail(err)
		}
		s.Models = append(s.Models, one)
	}
	if err := tx.QueryRowContext(ctx, "SELECT COUNT(DISTINCT kind, object), COUNT(*) FROM "+parkedTable).Scan(&s.Parked, &s.Waiting); err != nil {
		return fail(err)
	}
	if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+droppedTable).Scan(&s.Dropped); err != nil {
		return fail(err)
	}
	return s, nil
}

// CountParked counts parked objects. It is cheap while there are few.
func CountParked(ctx context.Context, db *sql.DB) (int, error) {
	var n int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(DISTINCT kind, object) FROM "+parkedTable).Scan(&n); err != nil {
		return 0, fmt.Errorf("count parked objects: %w", err)
	}
	return n, nil
}

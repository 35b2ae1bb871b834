package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"cloudengine/events"
	"cloudengine/projections"
)

// checkpointName is the row of projection_checkpoint. All read models share one: they are applied in one transaction.
const checkpointName = "readmodels"

// MaxBatch is the largest number of decisions that one transaction applies.
const MaxBatch = 500

var (
	// ErrOtherOwner says that someone else has moved the checkpoint: two programs fill one database. Who meets it stops.
	ErrOtherOwner = errors.New("another program fills these read models")
	// ErrGap says that the decisions do not follow on the checkpoint.
	ErrGap = errors.New("decisions are missing")
)

// Checkpoint says how far the read models are.
type Checkpoint struct {
	Number uint64 // of the last decision that is applied, 0 before the first
	Term   uint64
	Intent events.IntentID // of that decision: tells one log from another
}

// ReadCheckpoint reads it.
func ReadCheckpoint(ctx context.Context, db *sql.DB) (Checkpoint, error) {
	var c Checkpoint
	var intent sql.NullString
	err := db.QueryRowContext(ctx, "SELECT seq, term, intent FROM projection_checkpoint WHERE name = ?", checkpointName).Scan(&c.Number, &c.Term, &intent)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("read checkpoint %s: %w", checkpointName, err)
	}
	c.Intent = events.IntentID(intent.String)
	return c, nil
}

// Engine applies decisions. It is for one goroutine. After an error it has to be opened again: what it remembers may be wrong.
type Engine struct {
	db     *sql.DB
	cache  *cache
	at     Checkpoint
	parked map[events.Ref]bool
}

// OpenEngine reads the checkpoint and which objects are parked.
func OpenEngine(ctx context.Context, db *sql.DB) (*Engine, error) {
	at, err := ReadCheckpoint(ctx, db)
	if err != nil {
		return nil, err
	}
	e := &Engine{db: db, cache: newCache(db), at: at, parked: map[events.Ref]bool{}}
	rows, err := db.QueryContext(ctx, "SELECT DISTINCT kind, object FROM parked_events")
	if err != nil {
		return nil, fmt.Errorf("read parked objects: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var ref events.Ref
		if err := rows.Scan(&ref.Kind, &ref.ID); err != nil {
			return nil, fmt.Errorf("read parked objects: %w", err)
		}
		e.parked[ref] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read parked objects: %w", err)
	}
	return e, nil
}

// At gives the checkpoint as this engine last left it.
func (e *Engine) At() Checkpoint { return e.at }

// Apply applies decisions that follow on the checkpoint: their rows and the new checkpoint in one transaction. What was parked is
// returned for the log. Errors: ErrOtherOwner, ErrGap, or the database's; then nothing was applied, or, if the connection broke
// during the commit, everything: the checkpoint in the database knows.
func (e *Engine) Apply(ctx context.Context, batch []events.Recorded) ([]projections.Parked, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	for i := range batch {
		if want := e.at.Number + 1 + uint64(i); batch[i].Number != want {
			return nil, fmt.Errorf("apply decision %d where %d is due: %w", batch[i].Number, want, ErrGap)
		}
	}
	t := &transaction{e: e, stage: newStage(ctx, e.cache, nil), parked: map[events.Ref]bool{}}
	err := t.run(ctx, batch, t.fold)
	if isDataError(err) { // a row does not fit its table: find the event, and park its object
		return e.applyHalves(ctx, batch)
	}
	return t.out, err
}

func (e *Engine) applyHalves(ctx context.Context, batch []events.Recorded) ([]projections.Parked, error) {
	if len(batch) == 1 {
		t := &transaction{e: e, stage: newStage(ctx, e.cache, nil), parked: map[events.Ref]bool{}}
		err := t.run(ctx, batch, t.foldApart)
		return t.out, err
	}
	half := len(batch) / 2
	first, err := e.Apply(ctx, batch[:half])
	if err != nil {
		return first, err
	}
	second, err := e.Apply(ctx, batch[half:])
	return append(first, second...), err
}

// transaction is one batch on its way.
type transaction struct {
	e      *Engine
	tx     *sql.Tx
	stage  *stage
	parked map[events.Ref]bool // by this transaction
	out    []projections.Parked
}

// run folds the batch, writes rows and checkpoint, and commits.
func (t *transaction) run(ctx context.Context, batch []events.Recorded, fold func(context.Context, []events.Recorded) error) (err error) {
	var needs []projections.RowID
	for i := range batch {
		needs = projections.Needs(needs, &batch[i])
	}
	if err := t.stage.preload(needs); err != nil {
		return err
	}
	if t.tx, err = t.e.db.BeginTx(ctx, nil); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer func() {
		if err != nil {
			_ = t.tx.Rollback() // the error that is returned says why
			t.e.cache.clear()
		}
	}()
	if err := fold(ctx, batch); err != nil {
		return err
	}
	if err := t.writeParked(ctx, batch); err != nil {
		return err
	}
	last := batch[len(batch)-1]
	next := Checkpoint{last.Number, last.Term, last.Intent}
	if err := t.moveCheckpoint(ctx, t.e.at, next); err != nil {
		return err
	}
	if err := t.tx.Commit(); err != nil {
		return fmt.Errorf("commit decisions up to %d: %w", last.Number, err)
	}
	t.e.at = next
	t.e.cache.keep(t.stage)
	for ref := range t.parked {
		t.e.parked[ref] = true
	}
	return nil
}

// fold applies all parts in memory and then writes each row once, as it is after the last of them.
func (t *transaction) fold(_ context.Context, batch []events.Recorded) error {
	for i := range batch {
		r := &batch[i]
		for _, p := range projections.Parts(r) {
			if err := t.apply(t.stage, r, p); err != nil {
				return err
			}
		}
	}
	return t.stage.write(t.tx)
}

// foldApart applies and writes part by part, so that what does not fit its table parks only its own object.
func (t *transaction) foldApart(ctx context.Context, batch []events.Recorded) error {
	for i := range batch {
		r := &batch[i]
		for _, p := range projections.Parts(r) {
			if err := t.applyApart(ctx, r, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *transaction) applyApart(ctx context.Context, r *events.Recorded, p projections.Part) error {
	if _, err := t.tx.ExecContext(ctx, "SAVEPOINT part"); err != nil {
		return fmt.Errorf("set savepoint: %w", err)
	}
	part := newStage(ctx, t.e.cache, t.stage)
	if err := t.apply(part, r, p); err != nil {
		return err
	}
	err := part.write(t.tx)
	if isDataError(err) {
		if _, err := t.tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT part"); err != nil {
			return fmt.Errorf("go back to savepoint: %w", err)
		}
		t.park(r, p, err)
		return nil
	}
	for table, rows := range part.dirty {
		for id, row := range rows {
			put(t.stage.dirty, table, id, row)
		}
	}
	return err
}

// apply applies one part to a stage, or parks it.
func (t *transaction) apply(s *stage, r *events.Recorded, p projections.Part) error {
	if ref := p.Object(r); t.parked[ref] || t.e.parked[ref] {
		t.park(r, p, projections.ErrParked)
		return nil
	}
	parked, err := projections.ApplyPart(s, r, p)
	if parked {
		t.park(r, p, err)
		return nil
	}
	return err
}

func (t *transaction) park(r *events.Recorded, p projections.Part, err error) {
	t.out = append(t.out, p.Park(r, err))
	t.parked[p.Object(r)] = true
}

func (t *transaction) writeParked(ctx context.Context, batch []events.Recorded) error {
	for _, p := range t.out {
		_, err := t.tx.ExecContext(ctx, "INSERT INTO parked_events (number, idx, kind, object, type, reason, first, parked_at) VALUES (?,?,?,?,?,?,?,?)",
			p.Number, p.Index, string(p.Object.Kind), p.Object.ID, p.Type, p.Err.Error(), !errors.Is(p.Err, projections.ErrParked),
			batch[p.Number-batch[0].Number].Time.UTC())
		if err != nil {
			return fmt.Errorf("park decision %d: %w", p.Number, err)
		}
	}
	return nil
}

func (t *transaction) moveCheckpoint(ctx context.Context, from, to Checkpoint) error {
	res, err := t.tx.ExecContext(ctx, "UPDATE projection_checkpoint SET seq=?, term=?, intent=?, applied_at=? WHERE name=? AND seq=?",
		to.Number, to.Term, string(to.Intent), time.Now().UTC(), checkpointName, from.Number)
	if err != nil {
		return fmt.Errorf("move checkpoint to %d: %w", to.Number, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("move checkpoint to %d: %w", to.Number, err)
	}
	if n != 1 {
		return fmt.Errorf("move checkpoint from %d to %d: %w", from.Number, to.Number, ErrOtherOwner)
	}
	return nil
}

// isDataError says whether a statement failed because of what a row says, and would fail so again.
func isDataError(err error) bool {
	var e *driver.MySQLError
	if !errors.As(err, &e) {
		return false
	}
	switch string(e.SQLState[:2]) {
	case "22", "23": // data exception, constraint
		return true
	}
	switch e.Number {
	case 1265, 1366, 3819, 4025: // truncated, wrong text, check constraint (MySQL, MariaDB)
		return true
	}
	return false
}

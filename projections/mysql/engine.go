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
	return readCheckpoint(ctx, db, live)
}

func readCheckpoint(ctx context.Context, db querier, g generation) (Checkpoint, error) {
	var c Checkpoint
	var intent sql.NullString
	err := db.QueryRowContext(ctx, "SELECT seq, term, intent FROM "+g.of(checkpointTable)+" WHERE name = ?", checkpointName).Scan(&c.Number, &c.Term, &intent)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("read checkpoint %s: %w", checkpointName, err)
	}
	c.Intent = events.IntentID(intent.String)
	return c, nil
}

// Engine applies decisions. It is for one goroutine. After an error it has to be opened again: what it remembers may be wrong.
type Engine struct {
	db      *sql.DB
	tables  generation
	cache   *cache
	at      Checkpoint
	parked  map[events.Ref]bool
	dropped map[partID]bool
}

// OpenEngine reads the checkpoint and which objects are parked.
func OpenEngine(ctx context.Context, db *sql.DB) (*Engine, error) { return openEngine(ctx, db, live) }

func openEngine(ctx context.Context, db *sql.DB, g generation) (*Engine, error) {
	at, err := readCheckpoint(ctx, db, g)
	if err != nil {
		return nil, err
	}
	e := &Engine{db: db, tables: g, cache: newCache(db, g), at: at, parked: map[events.Ref]bool{}, dropped: map[partID]bool{}}
	dropped, err := readDropped(ctx, db, g)
	if err != nil {
		return nil, err
	}
	for _, d := range dropped {
		e.dropped[partID{d.Number, d.Index}] = true
	}
	rows, err := db.QueryContext(ctx, "SELECT DISTINCT kind, object FROM "+g.of(parkedTable))
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
	p, err := e.prepare(ctx, batch, nil)
	if err != nil {
		return nil, err
	}
	return e.finish(ctx, p, e.commit(ctx, p))
}

// finish ends what commit has begun: it takes over what was written, or finds the event that does not fit its table.
func (e *Engine) finish(ctx context.Context, p *prepared, err error) ([]projections.Parked, error) {
	switch {
	case err == nil:
		e.settle(p)
		return p.out, nil
	case !isDataError(err):
		return nil, err
	case len(p.batch) > 1:
		half := len(p.batch) / 2
		first, err := e.Apply(ctx, p.batch[:half])
		if err != nil {
			return first, err
		}
		second, err := e.Apply(ctx, p.batch[half:])
		return append(first, second...), err
	}
	return e.applyApart(ctx, p.batch)
}

// prepared is a batch on its way: folded, with the statements that write its rows, and not in the database yet.
type prepared struct {
	e      *Engine
	from   Checkpoint
	to     Checkpoint
	batch  []events.Recorded
	stage  *stage
	after  *prepared           // that is being written meanwhile
	parked map[events.Ref]bool // by this batch
	out    []projections.Parked
	rows   []statement
}

func (e *Engine) newPrepared(ctx context.Context, batch []events.Recorded, after *prepared) *prepared {
	p := &prepared{e: e, from: e.at, batch: batch, after: after, parked: map[events.Ref]bool{}}
	var under *stage
	if after != nil {
		p.from, under = after.to, after.stage
	}
	p.stage = newStage(ctx, e.cache, under)
	last := batch[len(batch)-1]
	p.to = Checkpoint{last.Number, last.Term, last.Intent}
	return p
}

// prepare folds a batch in memory and gives each row once, as it is after the last decision. after is the batch before, if that is
// still being written.
func (e *Engine) prepare(ctx context.Context, batch []events.Recorded, after *prepared) (*prepared, error) {
	p := e.newPrepared(ctx, batch, after)
	for i := range batch {
		if want := p.from.Number + 1 + uint64(i); batch[i].Number != want {
			return nil, fmt.Errorf("apply decision %d where %d is due: %w", batch[i].Number, want, ErrGap)
		}
	}
	if err := p.preload(); err != nil {
		return nil, err
	}
	for i := range batch {
		for _, part := range projections.Parts(&batch[i]) {
			if err := p.apply(p.stage, &batch[i], part); err != nil {
				return nil, err
			}
		}
	}
	p.rows = p.stage.statements()
	return p, nil
}

func (p *prepared) preload() error {
	var needs []projections.RowID
	for i := range p.batch {
		needs = projections.Needs(needs, &p.batch[i])
	}
	return p.stage.preload(needs)
}

// commit writes rows, parked events and checkpoint in one transaction. It changes nothing in memory.
func (e *Engine) commit(ctx context.Context, p *prepared) error {
	return e.inTransaction(ctx, p, func(tx *sql.Tx) error { return run(ctx, tx, p.rows) })
}

func (e *Engine) inTransaction(ctx context.Context, p *prepared, write func(*sql.Tx) error) error {
	tx, err := e.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	if err = write(tx); err == nil {
		err = run(ctx, tx, p.parkings())
	}
	if err == nil {
		err = moveCheckpoint(ctx, tx, e.tables, p.from, p.to)
	}
	if err != nil {
		_ = tx.Rollback() // the error that is returned says why
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit decisions up to %d: %w", p.to.Number, err)
	}
	return nil
}

// settle takes over what was committed. Nothing else may be under way but what was prepared after p.
func (e *Engine) settle(p *prepared) {
	e.at = p.to
	e.cache.keep(p.stage)
	for ref := range p.parked {
		e.parked[ref] = true
	}
}

// applyApart applies and writes one decision part by part, so that what does not fit its table parks only its own object.
func (e *Engine) applyApart(ctx context.Context, batch []events.Recorded) ([]projections.Parked, error) {
	p := e.newPrepared(ctx, batch, nil)
	if err := p.preload(); err != nil {
		return nil, err
	}
	err := e.inTransaction(ctx, p, func(tx *sql.Tx) error {
		for i := range batch {
			for _, part := range projections.Parts(&batch[i]) {
				if err := p.writeApart(ctx, tx, &batch[i], part); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	e.settle(p)
	return p.out, nil
}

func (p *prepared) writeApart(ctx context.Context, tx *sql.Tx, r *events.Recorded, part projections.Part) error {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT part"); err != nil {
		return fmt.Errorf("set savepoint: %w", err)
	}
	own := newStage(ctx, p.e.cache, p.stage)
	if err := p.apply(own, r, part); err != nil {
		return err
	}
	err := run(ctx, tx, own.statements())
	if isDataError(err) {
		if _, err := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT part"); err != nil {
			return fmt.Errorf("go back to savepoint: %w", err)
		}
		p.park(r, part, err)
		return nil
	}
	for table, rows := range own.dirty {
		for id, row := range rows {
			put(p.stage.dirty, table, id, row)
		}
	}
	return err
}

// apply applies one part to a stage, or parks it, or passes over it because it was dropped.
func (p *prepared) apply(s *stage, r *events.Recorded, part projections.Part) error {
	if p.e.dropped[partID{r.Number, part.Index}] {
		return nil
	}
	if p.isParked(part.Object(r)) {
		p.park(r, part, projections.ErrParked)
		return nil
	}
	parked, err := projections.ApplyPart(s, r, part)
	if parked {
		p.park(r, part, err)
		return nil
	}
	return err
}

func (p *prepared) isParked(ref events.Ref) bool {
	return p.parked[ref] || p.after != nil && p.after.parked[ref] || p.e.parked[ref]
}

func (p *prepared) park(r *events.Recorded, part projections.Part, err error) {
	p.out = append(p.out, part.Park(r, err))
	p.parked[part.Object(r)] = true
}

func (p *prepared) parkings() []statement {
	var out []statement
	for _, x := range p.out {
		out = append(out, parking(p.e.tables, x, p.batch[x.Number-p.batch[0].Number].Time))
	}
	return out
}

// parking writes down a parked event of a decision made at a time.
func parking(g generation, x projections.Parked, at time.Time) statement {
	return statement{fmt.Sprintf("park decision %d", x.Number),
		"INSERT INTO " + g.of(parkedTable) + " (number, idx, kind, object, type, reason, first, parked_at) VALUES (?,?,?,?,?,?,?,?)",
		[]any{x.Number, x.Index, string(x.Object.Kind), x.Object.ID, x.Type, x.Err.Error(), !errors.Is(x.Err, projections.ErrParked), at.UTC()}}
}

func moveCheckpoint(ctx context.Context, tx *sql.Tx, g generation, from, to Checkpoint) error {
	res, err := tx.ExecContext(ctx, "UPDATE "+g.of(checkpointTable)+" SET seq=?, term=?, intent=?, applied_at=? WHERE name=? AND seq=?",
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

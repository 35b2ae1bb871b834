package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	driver "github.com/go-sql-driver/mysql"
)

// forkTable marks a schema as a fork, and says of what.
const forkTable = "projection_fork"

var (
	// ErrNotOurs says that a schema holds something that no fork of these read models has made.
	ErrNotOurs = errors.New("the schema was not made by \"projection fork\" of these read models")
	// ErrNoSchema says that there is no such schema, or that no schema can have that name.
	ErrNoSchema = errors.New("there is no such schema")
	// ErrFuture says that a decision is not in the log yet.
	ErrFuture = errors.New("the log does not reach so far")
)

// Fork is a schema with the read models as they were after a decision.
type Fork struct {
	Schema string
	Until  uint64    // number of that decision
	Made   time.Time // UTC
}

// ForkOptions say what to fork. All fields but Progress are needed.
type ForkOptions struct {
	Schema   string // a–z, 0–9 and _
	Until    uint64 // the last decision that is in it
	Log      *slog.Logger
	Progress func(Progress) // as for a rebuild
}

// systemSchemas are the server's own.
var systemSchemas = []string{"mysql", "information_schema", "performance_schema", "sys"}

// Fork builds the read models as they were after a decision in another schema of the same server, for any MySQL client. A fork that is
// there already serves until the new one takes its place. It refuses the schema of the live read models, and any schema that holds
// something else than a fork of these read models: ErrNotOurs. Other errors: ErrNoSchema for a name that cannot be, ErrFuture,
// ErrBuilding, the log's and the database's.
func (d *Database) Fork(ctx context.Context, r Reader, o ForkOptions) (Built, error) {
	if !isName(o.Schema) || slices.Contains(systemSchemas, o.Schema) {
		return Built{}, fmt.Errorf("fork into %q: want a name of a–z, 0–9 and _ that is not the server's own: %w", o.Schema, ErrNoSchema)
	}
	last, err := lastOf(ctx, r)
	if err != nil {
		return Built{}, err
	}
	if o.Until == 0 || o.Until > last {
		return Built{}, fmt.Errorf("fork at decision %d of %d: %w", o.Until, last, ErrFuture)
	}
	if err := d.mayFork(ctx, o.Schema); err != nil {
		return Built{}, err
	}
	dropped, err := ReadDropped(ctx, d.DB)
	if err != nil {
		return Built{}, err
	}
	dropped = slices.DeleteFunc(dropped, func(e DroppedEvent) bool { return e.Number > o.Until })
	cfg := d.config.Clone()
	cfg.DBName = o.Schema
	db, err := openDatabase(ctx, cfg)
	if err != nil {
		return Built{}, err
	}
	built, err := d.fork(ctx, db, r, o, dropped)
	return built, errors.Join(err, db.Close())
}

func (d *Database) fork(ctx context.Context, db *sql.DB, r Reader, o ForkOptions, dropped []DroppedEvent) (Built, error) {
	s, err := wanted()
	if err != nil {
		return Built{}, err
	}
	b, err := lockTables(ctx, db, s)
	if err != nil {
		return Built{}, err
	}
	defer b.release()
	if err := d.mark(ctx, b); err != nil {
		return Built{}, err
	}
	if err := b.cleanUp(ctx); err != nil {
		return Built{}, err
	}
	x := newBuild(b, db, r, o.Log, dropped)
	stop := tell(x, o.Progress)
	defer stop()
	x.until = o.Until
	built, err := x.run(ctx, noRef, func(ctx context.Context, do func(context.Context, Checkpoint) error) error {
		return do(ctx, Checkpoint{})
	})
	if err != nil {
		x.forget()
		return built, err
	}
	if _, err := b.ExecContext(ctx, "UPDATE "+forkTable+" SET until = ?, made_at = ? WHERE id = 1", o.Until, time.Now().UTC()); err != nil {
		return built, fmt.Errorf("note what was forked: %w", err)
	}
	return built, nil
}

// mark marks a schema as a fork before anything else is in it.
func (d *Database) mark(ctx context.Context, b *builder) error {
	_, err := b.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS "+forkTable+" (id TINYINT NOT NULL PRIMARY KEY, source VARCHAR(64) NOT NULL COMMENT 'schema of the live read models',"+
		" until BIGINT UNSIGNED NULL COMMENT 'number of the last decision in it; NULL: it was never whole', made_at DATETIME(6) NULL COMMENT 'UTC')"+
		" ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin COMMENT='this schema shows a moment of the past; it may be dropped'")
	if err == nil {
		_, err = b.ExecContext(ctx, "INSERT INTO "+forkTable+" (id, source) VALUES (1, ?) ON DUPLICATE KEY UPDATE id = id", d.config.DBName)
	}
	if err != nil {
		return fmt.Errorf("mark the schema as a fork: %w", err)
	}
	return nil
}

// mayFork says whether a schema can be written: it is not there, or empty, or a fork of these read models.
func (d *Database) mayFork(ctx context.Context, schema string) error {
	if schema == d.config.DBName {
		return fmt.Errorf("fork into schema %s: it holds the live read models: %w", schema, ErrNotOurs)
	}
	var tables int
	if err := d.DB.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = ?", schema).Scan(&tables); err != nil {
		return fmt.Errorf("look into schema %s: %w", schema, err)
	}
	if tables == 0 {
		return nil
	}
	_, err := d.readFork(ctx, schema)
	return err
}

// readFork reads a schema's mark.
func (d *Database) readFork(ctx context.Context, schema string) (Fork, error) {
	f := Fork{Schema: schema}
	var source string
	var until sql.NullInt64
	var made sql.NullTime
	err := d.DB.QueryRowContext(ctx, "SELECT source, until, made_at FROM `"+schema+"`."+forkTable+" WHERE id = 1").Scan(&source, &until, &made)
	var e *driver.MySQLError
	if errors.As(err, &e) && e.Number == errNoTable || errors.Is(err, sql.ErrNoRows) || err == nil && source != d.config.DBName {
		return f, fmt.Errorf("look into schema %s: %w", schema, ErrNotOurs)
	}
	if err != nil {
		return f, fmt.Errorf("look into schema %s: %w", schema, err)
	}
	f.Until, f.Made = uint64(until.Int64), made.Time
	return f, nil
}

// Forks lists the schemas that were forked from these read models. Until is 0 if a fork is not whole.
func (d *Database) Forks(ctx context.Context) ([]Fork, error) {
	rows, err := d.DB.QueryContext(ctx, "SELECT table_schema FROM information_schema.tables WHERE table_name = ? ORDER BY table_schema", forkTable)
	if err != nil {
		return nil, fmt.Errorf("list forks: %w", err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("list forks: %w", err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list forks: %w", err)
	}
	out := []Fork{}
	for _, name := range names {
		f, err := d.readFork(ctx, name)
		if errors.Is(err, ErrNotOurs) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// DropFork removes a fork with its schema. Errors: ErrNoSchema, ErrNotOurs, the database's.
func (d *Database) DropFork(ctx context.Context, schema string) error {
	if !isName(schema) || schema == d.config.DBName || slices.Contains(systemSchemas, schema) {
		return fmt.Errorf("drop schema %s: %w", schema, ErrNotOurs)
	}
	var there int
	if err := d.DB.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?", schema).Scan(&there); err != nil {
		return fmt.Errorf("look for schema %s: %w", schema, err)
	}
	if there == 0 {
		return fmt.Errorf("drop schema %s: %w", schema, ErrNoSchema)
	}
	if _, err := d.readFork(ctx, schema); err != nil {
		return err
	}
	if _, err := d.DB.ExecContext(ctx, "DROP DATABASE `"+schema+"`"); err != nil {
		return fmt.Errorf("drop schema %s: %w", schema, err)
	}
	return nil
}

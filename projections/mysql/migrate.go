package mysql

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strings"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/schemas"
)

// migration is one statement of schemas/mysql, which makes one table.
type migration struct {
	table     string
	statement string
}

// named gives the statement for the table of a generation.
func (m migration) named(g generation) string {
	return strings.Replace(m.statement, "CREATE TABLE "+m.table, "CREATE TABLE "+g.of(m.table), 1)
}

// schema is the tables that this program wants. Those that are derived from the log are versioned as a whole, by the digest of their
// statements and of the events that this program knows; others are made once and left alone.
type schema struct {
	derived []migration
	kept    []migration
	version string
}

// Tables that belong to the read models beside the models' own.
const (
	checkpointTable = "projection_checkpoint"
	parkedTable     = "parked_events"
	droppedTable    = "dropped_events"
	versionTable    = "projection_schema"
)

// Migrate makes the tables if there are none, and removes what a rebuild that was killed left behind. Tables of another version stay as
// they are: the Projector builds new ones beside them and swaps.
func Migrate(ctx context.Context, db *sql.DB) error {
	s, err := wanted()
	if err != nil {
		return err
	}
	if err := cleanUp(ctx, db, s); err != nil {
		return err
	}
	now, err := schemaVersion(ctx, db)
	if err != nil {
		return err
	}
	if err := s.makeKept(ctx, db); err != nil {
		return err
	}
	if now != "" {
		return nil
	}
	return s.fresh(ctx, db)
}

// Clear drops the read models and makes them anew, empty: the next projector fills them from the log's first decision. Whoever reads
// meanwhile finds nothing; Projector.Rebuild is the way that nobody notices.
func Clear(ctx context.Context, db *sql.DB) error {
	s, err := wanted()
	if err != nil {
		return err
	}
	return s.fresh(ctx, db)
}

// fresh makes empty live tables. DDL commits by itself in MariaDB, so the version is written last, and taken away first.
func (s *schema) fresh(ctx context.Context, db execer) error {
	if err := drop(ctx, db, live.of(versionTable)); err != nil {
		return err
	}
	for _, m := range s.derived {
		if err := drop(ctx, db, live.of(m.table)); err != nil {
			return err
		}
	}
	if err := s.create(ctx, db, live); err != nil {
		return err
	}
	if err := startCheckpoint(ctx, db, live, Checkpoint{}); err != nil {
		return err
	}
	return s.seal(ctx, db, live)
}

// create makes the derived tables of a generation, without checkpoint and version.
func (s *schema) create(ctx context.Context, db execer, g generation) error {
	for _, m := range s.derived {
		if _, err := db.ExecContext(ctx, m.named(g)); err != nil {
			return fmt.Errorf("create table %s: %w", g.of(m.table), err)
		}
	}
	return nil
}

func startCheckpoint(ctx context.Context, db execer, g generation, at Checkpoint) error {
	_, err := db.ExecContext(ctx, "INSERT INTO "+g.of(checkpointTable)+" (name, seq, term, intent, applied_at) VALUES (?, ?, ?, NULLIF(?, ''), NULL)",
		checkpointName, at.Number, at.Term, string(at.Intent))
	if err != nil {
		return fmt.Errorf("write the first checkpoint: %w", err)
	}
	return nil
}

// seal says which version the tables of a generation are: they are whole.
func (s *schema) seal(ctx context.Context, db execer, g generation) error {
	err := drop(ctx, db, g.of(versionTable))
	if err == nil {
		_, err = db.ExecContext(ctx, "CREATE TABLE "+g.of(versionTable)+" (id TINYINT NOT NULL PRIMARY KEY, version VARCHAR(64) NOT NULL)"+
			" ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin COMMENT='which version of the tables this is'")
	}
	if err == nil {
		_, err = db.ExecContext(ctx, "INSERT INTO "+g.of(versionTable)+" (id, version) VALUES (1, ?)", s.version)
	}
	if err != nil {
		return fmt.Errorf("write the version of the tables: %w", err)
	}
	return nil
}

// makeKept makes the tables that are not derived from the log, if they are not there.
func (s *schema) makeKept(ctx context.Context, db *sql.DB) error {
	for _, m := range s.kept {
		statement := strings.Replace(m.statement, "CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1)
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create table %s: %w", m.table, err)
		}
	}
	return nil
}

func drop(ctx context.Context, db execer, name string) error {
	if _, err := db.ExecContext(ctx, "DROP TABLE IF EXISTS "+name); err != nil {
		return fmt.Errorf("drop table %s: %w", name, err)
	}
	return nil
}

// querier is what a connection and a database have in common.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func schemaVersion(ctx context.Context, db querier) (string, error) {
	if there, err := hasTable(ctx, db, versionTable); err != nil || !there {
		return "", err
	}
	var v string
	err := db.QueryRowContext(ctx, "SELECT version FROM "+versionTable+" WHERE id = 1").Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the version of the tables: %w", err)
	}
	return v, nil
}

func hasTable(ctx context.Context, db querier, name string) (bool, error) {
	var n int
	err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?", name).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("look for the tables: %w", err)
	}
	return n > 0, nil
}

// rowsVersion rises when the same events give other rows with the same columns.
const rowsVersion = 1

// Version names the tables that this program makes: another one builds them anew.
func Version() (string, error) {
	s, err := wanted()
	if err != nil {
		return "", err
	}
	return s.version, nil
}

// wanted reads the statements that are embedded in this program.
func wanted() (*schema, error) {
	names, err := fs.Glob(schemas.MySQL, "mysql/*.sql")
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("list the tables' statements: %w", errors.Join(err, fs.ErrNotExist))
	}
	sort.Strings(names)
	derived := map[string]bool{checkpointTable: true, parkedTable: true, droppedTable: true}
	for _, m := range projections.Models() {
		derived[m.Table.Name] = true
	}
	s, h := &schema{}, sha256.New()
	fmt.Fprintln(h, rowsVersion, events.Names())
	for _, name := range names {
		b, err := fs.ReadFile(schemas.MySQL, name)
		if err != nil {
			return nil, fmt.Errorf("read statement %s: %w", name, err)
		}
		_, table, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(name, "mysql/"), ".sql"), "_")
		if !ok || !strings.HasPrefix(string(b), "CREATE TABLE "+table+" (") {
			return nil, fmt.Errorf("read statement %s: want number_table.sql with CREATE TABLE table (…", name)
		}
		if derived[table] {
			h.Write(b)
			s.derived = append(s.derived, migration{table, string(b)})
		} else {
			s.kept = append(s.kept, migration{table, string(b)})
		}
	}
	s.version = hex.EncodeToString(h.Sum(nil))
	return s, nil
}

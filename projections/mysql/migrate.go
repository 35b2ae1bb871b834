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
	"cloudengine/schemas"
)

// migration is one statement of schemas/mysql, which makes one table.
type migration struct {
	table     string
	statement string
}

// Migrate makes the tables. They are versioned as a whole, by the digest of their statements and of the events that this program
// knows: another version drops them and begins again at the log's first decision, so that no row is ever half old. DDL commits by
// itself in MariaDB, so the version is written last.
func Migrate(ctx context.Context, db *sql.DB) error {
	all, version, err := migrations()
	if err != nil {
		return err
	}
	if now, err := schemaVersion(ctx, db); err != nil || now == version {
		return err
	}
	return rebuild(ctx, db, all, version)
}

// Rebuild drops the read models and makes them anew, empty: the next projector fills them from the log's first decision.
func Rebuild(ctx context.Context, db *sql.DB) error {
	all, version, err := migrations()
	if err != nil {
		return err
	}
	return rebuild(ctx, db, all, version)
}

func rebuild(ctx context.Context, db *sql.DB, all []migration, version string) error {
	run := func(what, statement string, args ...any) error {
		if _, err := db.ExecContext(ctx, statement, args...); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	var err error
	do := func(what, statement string, args ...any) {
		if err == nil {
			err = run(what, statement, args...)
		}
	}
	do("create table projection_schema", "CREATE TABLE IF NOT EXISTS projection_schema (id TINYINT NOT NULL PRIMARY KEY, version VARCHAR(64) NOT NULL)"+
		" ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin COMMENT='which version of the tables this is'")
	do("forget the version of the tables", "DELETE FROM projection_schema")
	for _, m := range all {
		do("drop table "+m.table, "DROP TABLE IF EXISTS `"+m.table+"`")
	}
	for _, m := range all {
		do("create table "+m.table, m.statement)
	}
	do("write the first checkpoint", "INSERT INTO projection_checkpoint (name, seq, term) VALUES (?, 0, 0)", checkpointName)
	do("write the version of the tables", "INSERT INTO projection_schema (id, version) VALUES (1, ?)", version)
	return err
}

func schemaVersion(ctx context.Context, db *sql.DB) (string, error) {
	var n int
	err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'projection_schema'").Scan(&n)
	if err != nil {
		return "", fmt.Errorf("look for the tables: %w", err)
	}
	if n == 0 {
		return "", nil
	}
	var v string
	err = db.QueryRowContext(ctx, "SELECT version FROM projection_schema WHERE id = 1").Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the version of the tables: %w", err)
	}
	return v, nil
}

// rowsVersion rises when the same events give other rows with the same columns.
const rowsVersion = 1

func migrations() ([]migration, string, error) {
	names, err := fs.Glob(schemas.MySQL, "mysql/*.sql")
	if err != nil || len(names) == 0 {
		return nil, "", fmt.Errorf("list the tables' statements: %w", errors.Join(err, fs.ErrNotExist))
	}
	sort.Strings(names)
	h := sha256.New()
	fmt.Fprintln(h, rowsVersion, events.Names())
	var all []migration
	for _, name := range names {
		b, err := fs.ReadFile(schemas.MySQL, name)
		if err != nil {
			return nil, "", fmt.Errorf("read statement %s: %w", name, err)
		}
		h.Write(b)
		_, table, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(name, "mysql/"), ".sql"), "_")
		if !ok {
			return nil, "", fmt.Errorf("read statement %s: want number_table.sql", name)
		}
		all = append(all, migration{table, string(b)})
	}
	return all, hex.EncodeToString(h.Sum(nil)), nil
}

package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	driver "github.com/go-sql-driver/mysql"
)

// generation is one set of the derived tables, by what their names end with. All of a set are swapped by one statement, with their
// checkpoint and version, so that each set is of one moment and one version.
type generation string

const (
	live    generation = ""
	next    generation = "__new" // in the making
	retired generation = "__old" // was live until the last swap
)

// of names a table of the generation.
func (g generation) of(table string) string { return "`" + table + string(g) + "`" }

// tables lists the derived tables, the version last: what is made in this order is whole when it is there.
func (s *schema) tables() []string {
	out := make([]string, 0, len(s.derived)+1)
	for _, m := range s.derived {
		out = append(out, m.table)
	}
	return append(out, versionTable)
}

// present tells which derived tables of a generation are there.
func (s *schema) present(ctx context.Context, db querier, g generation) (map[string]bool, error) {
	rows, err := db.QueryContext(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()")
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	defer rows.Close()
	all := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("list tables: %w", err)
		}
		all[name] = true
	}
	out := map[string]bool{}
	for _, t := range s.tables() {
		if all[t+string(g)] {
			out[t] = true
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	return out, nil
}

// remove drops what there is of a generation.
func (s *schema) remove(ctx context.Context, db interface {
	querier
	execer
}, g generation) error {
	there, err := s.present(ctx, db, g)
	if err != nil {
		return err
	}
	for t := range there {
		if err := drop(ctx, db, g.of(t)); err != nil {
			return err
		}
	}
	return nil
}

// builder is the right to make and swap generations of a database: one connection with a lock of its server, which ends with it.
type builder struct {
	*sql.Conn
	schema *schema
}

// ErrBuilding says that the read models are being built already.
var ErrBuilding = errors.New("the read models are being built already")

// lockTables takes the right to build. The caller releases it.
func lockTables(ctx context.Context, db *sql.DB, s *schema) (*builder, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	var got sql.NullInt64
	err = conn.QueryRowContext(ctx, "SELECT GET_LOCK(CONCAT('ce.', DATABASE()), 0)").Scan(&got)
	if err == nil && got.Int64 != 1 {
		err = ErrBuilding
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the tables: %w", err), conn.Close())
	}
	return &builder{conn, s}, nil
}

// release gives the right up. A connection that is broken has given it up already.
func (b *builder) release() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = b.ExecContext(ctx, "DO RELEASE_LOCK(CONCAT('ce.', DATABASE()))")
	_ = b.Close()
}

// cleanUp removes what a build that was killed left behind, unless one is under way. Should a server without atomic DDL have died in
// the middle of a swap, the live tables are of two generations: they are given up, and the log fills new ones.
func cleanUp(ctx context.Context, db *sql.DB, s *schema) error {
	b, err := lockTables(ctx, db, s)
	if errors.Is(err, ErrBuilding) {
		return nil
	}
	if err != nil {
		return err
	}
	defer b.release()
	return b.cleanUp(ctx)
}

func (b *builder) cleanUp(ctx context.Context) error {
	made, err := b.schema.present(ctx, b, next)
	if err != nil {
		return err
	}
	old, err := b.schema.present(ctx, b, retired)
	if err != nil {
		return err
	}
	if len(made) > 0 && len(old) > 0 {
		if err := b.schema.remove(ctx, b, live); err != nil {
			return err
		}
	}
	if err := b.schema.remove(ctx, b, next); err != nil {
		return err
	}
	return b.schema.remove(ctx, b, retired)
}

// errHeld says that someone's transaction held a table for so long that the swap was given up for now.
var errHeld = errors.New("a transaction of a reader holds the tables")

// swapWait bounds, in seconds, how long a swap waits for readers' transactions to end. Readers that come meanwhile wait behind it.
const swapWait = 1

// swap makes the next generation the live one, with one statement, and leaves the one before as retired. The server takes exclusive
// locks on all tables first: a transaction that has read any of them is waited for (errHeld: in vain), and one that begins meanwhile
// waits, so nobody sees tables of two generations.
func (b *builder) swap(ctx context.Context) error {
	old, err := b.schema.present(ctx, b, live)
	if err != nil {
		return err
	}
	statement := "RENAME TABLE "
	for i, t := range b.schema.tables() {
		if i > 0 {
			statement += ", "
		}
		if old[t] {
			statement += live.of(t) + " TO " + retired.of(t) + ", "
		}
		statement += next.of(t) + " TO " + live.of(t)
	}
	if _, err := b.ExecContext(ctx, fmt.Sprintf("SET SESSION lock_wait_timeout = %d", swapWait)); err != nil {
		return fmt.Errorf("swap tables: %w", err)
	}
	_, err = b.ExecContext(ctx, statement)
	var e *driver.MySQLError
	if errors.As(err, &e) && (e.Number == errLockWait || e.Number == errDeadlock) {
		return fmt.Errorf("swap tables: %w (%w)", errHeld, err)
	}
	if err != nil {
		return fmt.Errorf("swap tables: %w", err)
	}
	return nil
}

// Numbers of errors of MariaDB and MySQL.
const (
	errLockWait     = 1205 // Lock wait timeout exceeded
	errDeadlock     = 1213 // Deadlock found when trying to get lock
	errNoTable      = 1146 // Table doesn't exist
	errNotAllowed   = 1148 // The used command is not allowed with this version
	errNoLocalFiles = 4166 // local_infile is off
	errNoLocalMySQL = 3948 // the same in MySQL 8
)

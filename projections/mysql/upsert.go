package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"sort"
	"strings"

	"cloudengine/projections"
)

// Bounds of one statement. The server takes 16 MiB.
const (
	maxStatementRows  = 1000
	maxStatementBytes = 4 << 20
)

// writer holds the text of the statements for one table.
type writer struct {
	table  *projections.Table
	name   string // of the table, quoted
	prefix string // INSERT INTO …
	tuple  string // (?,?,…)
	suffix string // ON DUPLICATE KEY UPDATE …
	sel    string // SELECT all columns FROM …
}

func newWriter(t *projections.Table, g generation) *writer {
	columns := "`" + strings.Join(t.Columns, "`,`") + "`"
	updates := make([]string, 0, len(t.Columns)-1)
	for _, c := range t.Columns[1:] {
		updates = append(updates, assign(c))
	}
	return &writer{
		table:  t,
		name:   g.of(t.Name),
		prefix: "INSERT INTO " + g.of(t.Name) + " (" + columns + ") VALUES ",
		tuple:  "(?" + strings.Repeat(",?", len(t.Columns)-1) + ")",
		suffix: " ON DUPLICATE KEY UPDATE " + strings.Join(updates, ","),
		sel:    "SELECT " + columns + " FROM " + g.of(t.Name),
	}
}

// assign takes a column from the row that was to be inserted. MariaDB and MySQL share only this form.
func assign(column string) string { return "`" + column + "`=VALUES(`" + column + "`)" }

// statement is one statement with its arguments.
type statement struct {
	what string // for errors
	text string
	args []any
}

// execer is what a transaction and a database have in common.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func run(ctx context.Context, tx execer, all []statement) error {
	for _, s := range all {
		if _, err := tx.ExecContext(ctx, s.text, s.args...); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

// statements appends what brings rows (nil: deleted) into the table, in the order of their ids.
func (w *writer) statements(out []statement, rows map[string]any) []statement {
	ids := make([]string, 0, len(rows))
	for id := range rows {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	var gone []any
	args := make([]any, 0, min(len(ids), maxStatementRows)*len(w.table.Columns))
	n, size := 0, 0
	flush := func() {
		if n > 0 {
			what := fmt.Sprintf("write %d rows of %s", n, w.table.Name)
			out = append(out, statement{what, w.prefix + strings.Repeat(w.tuple+",", n-1) + w.tuple + w.suffix, args})
			args, n, size = nil, 0, 0
		}
	}
	for _, id := range ids {
		if rows[id] == nil {
			gone = append(gone, id)
			continue
		}
		before := len(args)
		args = w.table.Values(args, rows[id])
		for _, a := range args[before:] {
			if s, ok := a.(string); ok {
				size += len(s)
			}
		}
		if n++; n == maxStatementRows || size >= maxStatementBytes {
			flush()
		}
	}
	flush()
	for len(gone) > 0 {
		n := min(len(gone), maxStatementRows)
		out = append(out, statement{fmt.Sprintf("delete %d rows of %s", n, w.table.Name), "DELETE FROM " + w.name + " WHERE id IN " + list(n), gone[:n]})
		gone = gone[n:]
	}
	return out
}

func list(n int) string { return "(?" + strings.Repeat(",?", n-1) + ")" }

// read gives the rows with these ids to each; without ids, all rows.
func (w *writer) read(ctx context.Context, db *sql.DB, ids []any, each func(id string, row any)) error {
	if ids == nil {
		return w.query(ctx, db, w.sel, nil, each)
	}
	for len(ids) > 0 {
		n := min(len(ids), maxStatementRows)
		if err := w.query(ctx, db, w.sel+" WHERE id IN "+list(n), ids[:n], each); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

func (w *writer) query(ctx context.Context, db *sql.DB, q string, args []any, each func(id string, row any)) (err error) {
	rows, err := db.QueryContext(ctx, q, args...)
	if err != nil {
		return fmt.Errorf("read rows of %s: %w", w.table.Name, err)
	}
	defer rows.Close()
	for rows.Next() {
		row := w.table.New()
		if err := rows.Scan(w.table.Pointers(row)...); err != nil {
			return fmt.Errorf("read rows of %s: %w", w.table.Name, err)
		}
		each(w.table.ID(row), row)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read rows of %s: %w", w.table.Name, err)
	}
	return nil
}

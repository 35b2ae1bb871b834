package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/verify"
	"cloudengine/schemas"
)

// Snapshot is the database as of one moment, for reading. It is for one goroutine, and keeps the tables from being swapped: close it soon.
type Snapshot struct {
	tx         *sql.Tx
	checkpoint verify.Checkpoint
}

// OpenSnapshot begins one. Its checkpoint and all rows are of the same moment.
func OpenSnapshot(ctx context.Context, db *sql.DB) (*Snapshot, error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("begin to read the database: %w", err)
	}
	s := &Snapshot{tx: tx}
	var intent sql.NullString
	// The first read is the moment.
	err = tx.QueryRowContext(ctx, "SELECT seq, term, intent FROM projection_checkpoint WHERE name = ?", checkpointName).
		Scan(&s.checkpoint.Number, &s.checkpoint.Term, &intent)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read checkpoint %s: %w", checkpointName, err), s.Close())
	}
	s.checkpoint.Intent = events.IntentID(intent.String)
	return s, nil
}

// Close ends it.
func (s *Snapshot) Close() error { return s.tx.Rollback() }

// Checkpoint tells how far the rows are.
func (s *Snapshot) Checkpoint() verify.Checkpoint { return s.checkpoint }

// Rows gives all rows of a table to each, in no order: their values in the order of the table's columns, nil for NULL.
func (s *Snapshot) Rows(ctx context.Context, t *projections.Table, each func([]*string)) error {
	return s.query(ctx, "read rows of "+t.Name, "SELECT `"+strings.Join(t.Columns, "`,`")+"` FROM `"+t.Name+"`", each)
}

// Parked gives what is parked, in order.
func (s *Snapshot) Parked(ctx context.Context) (all []verify.ParkedRow, err error) {
	rows, err := s.tx.QueryContext(ctx, "SELECT number, idx, kind, object, type, first FROM parked_events ORDER BY number, idx")
	if err != nil {
		return nil, fmt.Errorf("read parked events: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var p verify.ParkedRow
		if err := rows.Scan(&p.Number, &p.Index, &p.Object.Kind, &p.Object.ID, &p.Type, &p.First); err != nil {
			return nil, fmt.Errorf("read parked events: %w", err)
		}
		all = append(all, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read parked events: %w", err)
	}
	return all, nil
}

// Dropped gives what people gave up, in order.
func (s *Snapshot) Dropped(ctx context.Context) ([]verify.DroppedRow, error) {
	all, err := readDropped(ctx, s.tx, live)
	if err != nil {
		return nil, err
	}
	out := make([]verify.DroppedRow, len(all))
	for i, d := range all {
		out[i] = verify.DroppedRow{Number: d.Number, Index: d.Index, Object: d.Object, Type: d.Type, By: d.By, Reason: d.Reason}
	}
	return out, nil
}

// apart are tables of ours that are no read models: nothing in the log says what is in them.
var apart = map[string]bool{"alerts": true}

// Shapes tells how the tables are made. Those that a rebuild is making or has just replaced are left out, and those that are no read models.
func (s *Snapshot) Shapes(ctx context.Context) ([]verify.Shape, error) {
	by := map[string]*verify.Shape{}
	var names []string
	err := s.query(ctx, "list tables", "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY table_name", func(v []*string) {
		if name := *v[0]; !strings.HasSuffix(name, "__new") && !strings.HasSuffix(name, "__old") && !apart[name] {
			by[name] = &verify.Shape{Name: name}
			names = append(names, name)
		}
	})
	if err == nil {
		err = s.query(ctx, "list columns", "SELECT table_name, column_name, column_type, is_nullable FROM information_schema.columns"+
			" WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position", func(v []*string) {
			if t := by[*v[0]]; t != nil {
				t.Columns = append(t.Columns, verify.Column{Name: *v[1], Type: *v[2], Null: *v[3] == "YES"})
			}
		})
	}
	if err == nil {
		err = s.query(ctx, "list indexes", "SELECT table_name, index_name, column_name, non_unique FROM information_schema.statistics"+
			" WHERE table_schema = DATABASE() ORDER BY table_name, index_name, seq_in_index", func(v []*string) { by[*v[0]] = index(by[*v[0]], v) })
	}
	if err != nil {
		return nil, err
	}
	out := make([]verify.Shape, 0, len(names))
	for _, n := range names {
		out = append(out, *by[n])
	}
	return out, nil
}

// index adds a column to an index of a table, or a new index.
func index(t *verify.Shape, v []*string) *verify.Shape {
	if t == nil || v[2] == nil {
		return t
	}
	if n := len(t.Indexes); n > 0 && t.Indexes[n-1].Name == *v[1] {
		t.Indexes[n-1].Columns = append(t.Indexes[n-1].Columns, *v[2])
		return t
	}
	t.Indexes = append(t.Indexes, verify.Index{Name: *v[1], Columns: []string{*v[2]}, Unique: *v[3] == "0"})
	return t
}

func (s *Snapshot) query(ctx context.Context, what, q string, each func([]*string)) error {
	rows, err := s.tx.QueryContext(ctx, q) // without arguments: values come as the database writes them, whatever the type
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	values, to := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		to[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		texts := make([]*string, len(values))
		for i, v := range values {
			texts[i] = verify.Text(v)
		}
		each(texts)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

var (
	createPattern = regexp.MustCompile("CREATE TABLE `?(\\w+)`? \\(")
	columnPattern = regexp.MustCompile("(?m)^  `(\\w+)` (.+?)(?: CHARACTER SET \\w+ COLLATE \\w+)? (NOT NULL|NULL)\\b")
	indexPattern  = regexp.MustCompile(`(?m)^  (PRIMARY KEY|UNIQUE KEY (\w+)|KEY (\w+)) \(([^)]*)\)`)
)

// WantedShapes tells how the tables should be made, read from the statements that make them.
func WantedShapes() ([]verify.Shape, error) {
	names, err := fs.Glob(schemas.MySQL, "mysql/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list the tables' statements: %w", err)
	}
	out := []verify.Shape{{Name: "projection_schema", Columns: []verify.Column{{Name: "id", Type: "tinyint(4)"}, {Name: "version", Type: "varchar(64)"}},
		Indexes: []verify.Index{{Name: "PRIMARY", Columns: []string{"id"}, Unique: true}}}}
	for _, name := range names {
		b, err := fs.ReadFile(schemas.MySQL, name)
		if err != nil {
			return nil, fmt.Errorf("read statement %s: %w", name, err)
		}
		m := createPattern.FindSubmatch(b)
		if m == nil {
			return nil, fmt.Errorf("read statement %s: it makes no table", name)
		}
		out = append(out, shapeOf(string(m[1]), string(b)))
	}
	return out, nil
}

func shapeOf(table, statement string) verify.Shape {
	s := verify.Shape{Name: table}
	for _, c := range columnPattern.FindAllStringSubmatch(statement, -1) {
		s.Columns = append(s.Columns, verify.Column{Name: c[1], Type: c[2], Null: c[3] == "NULL"})
	}
	for _, k := range indexPattern.FindAllStringSubmatch(statement, -1) {
		i := verify.Index{Name: k[2] + k[3], Unique: k[3] == ""}
		if k[1] == "PRIMARY KEY" {
			i.Name = "PRIMARY"
		}
		for _, c := range strings.Split(k[4], ",") {
			i.Columns = append(i.Columns, strings.Trim(c, " `"))
		}
		s.Indexes = append(s.Indexes, i)
	}
	return s
}

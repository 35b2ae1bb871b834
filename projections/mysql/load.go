package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	driver "github.com/go-sql-driver/mysql"
)

// errMisfit says that the server did not take a table's rows as they are.
var errMisfit = errors.New("the rows do not fit the table")

// filling is one table with all its rows, in the order of their ids.
type filling struct {
	w    *writer
	rows []any
}

// fill loads tables, the largest first, as many at a time as there are processors. It counts rows as they are sent. The error is that
// of the first table that failed; errMisfit if the database did not take a row.
func fill(ctx context.Context, db *sql.DB, all []filling, sent *atomic.Uint64) error {
	sort.SliceStable(all, func(i, j int) bool { return len(all[i].rows) > len(all[j].rows) })
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work := make(chan filling)
	failed := make(chan error, len(all))
	var loaders sync.WaitGroup
	for range max(2, runtime.NumCPU()) {
		loaders.Go(func() {
			for f := range work {
				if err := f.load(ctx, db, sent); err != nil {
					failed <- err
					cancel()
				}
			}
		})
	}
	for _, f := range all {
		if len(f.rows) > 0 {
			work <- f
		}
	}
	close(work)
	loaders.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// loads numbers the readers that the driver knows by name.
var loads atomic.Uint64

// load sends a table's rows by LOAD DATA LOCAL. With LOCAL the server takes what does not fit as well as it can, and only warns, also
// in strict mode; so each warning, and each row that is missing, is an error here. A server that takes no local files gets INSERTs.
func (f filling) load(ctx context.Context, db *sql.DB, sent *atomic.Uint64) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("load %s: %w", f.w.name, err)
	}
	defer conn.Close()
	name := "ce-rows-" + strconv.FormatUint(loads.Add(1), 10)
	driver.RegisterReaderHandler(name, func() io.Reader { return &text{ctx: ctx, f: f, sent: sent} })
	defer driver.DeregisterReaderHandler(name)
	res, err := conn.ExecContext(ctx, "LOAD DATA LOCAL INFILE 'Reader::"+name+"' INTO TABLE "+f.w.name+
		" CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' (`"+strings.Join(f.w.table.Columns, "`,`")+"`)")
	var e *driver.MySQLError
	if errors.As(err, &e) && (e.Number == errNoLocalFiles || e.Number == errNoLocalMySQL || e.Number == errNotAllowed) {
		return f.insert(ctx, conn, sent)
	}
	if isDataError(err) {
		return fmt.Errorf("load %s: %w (%w)", f.w.name, errMisfit, err)
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", f.w.name, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("load %s: %w", f.w.name, err)
	}
	var warnings int64
	if err := conn.QueryRowContext(ctx, "SELECT @@warning_count").Scan(&warnings); err != nil {
		return fmt.Errorf("load %s: %w", f.w.name, err)
	}
	if n != int64(len(f.rows)) || warnings > 0 {
		return fmt.Errorf("load %s: %d of %d rows arrived, with %d warnings: %w", f.w.name, n, len(f.rows), warnings, errMisfit)
	}
	return nil
}

// insert sends a table's rows by multi-row statements, about a third as fast.
func (f filling) insert(ctx context.Context, conn *sql.Conn, sent *atomic.Uint64) error {
	for rows := f.rows; len(rows) > 0; {
		n := min(len(rows), 10*maxStatementRows)
		part := make(map[string]any, n)
		for _, r := range rows[:n] {
			part[f.w.table.ID(r)] = r
		}
		tx, err := conn.BeginTx(ctx, nil)
		if err != nil {
			return fmt.Errorf("fill %s: %w", f.w.name, err)
		}
		if err := run(ctx, tx, f.w.statements(nil, part)); err != nil {
			_ = tx.Rollback() // the error that is returned says why
			if isDataError(err) {
				err = errors.Join(errMisfit, err)
			}
			return fmt.Errorf("fill %s: %w", f.w.name, err)
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("fill %s: %w", f.w.name, err)
		}
		sent.Add(uint64(n))
		rows = rows[n:]
	}
	return nil
}

// text is a table's rows in the form that LOAD DATA reads.
type text struct {
	ctx    context.Context // of the one statement that reads it: an io.Reader knows no contexts
	f      filling
	done   int
	sent   *atomic.Uint64
	buffer []byte
	values []any
}

// Read gives the next bytes.
func (t *text) Read(p []byte) (int, error) {
	if len(t.buffer) == 0 {
		if err := t.ctx.Err(); err != nil {
			return 0, err
		}
		if t.done == len(t.f.rows) {
			return 0, io.EOF
		}
		t.refill(p)
	}
	n := copy(p, t.buffer)
	t.buffer = t.buffer[n:]
	return n, nil
}

func (t *text) refill(p []byte) {
	buffer := t.buffer[:0]
	if cap(buffer) < len(p) {
		buffer = make([]byte, 0, 2*len(p))
	}
	for from := t.done; ; {
		t.values = t.f.w.table.Values(t.values[:0], t.f.rows[t.done])
		for i, v := range t.values {
			if i > 0 {
				buffer = append(buffer, '\t')
			}
			buffer = appendField(buffer, v)
		}
		buffer = append(buffer, '\n')
		if t.done++; t.done == len(t.f.rows) || len(buffer) >= len(p) {
			t.sent.Add(uint64(t.done - from))
			break
		}
	}
	t.buffer = buffer
}

// appendField appends one value; what it does not know it writes as fmt does.
func appendField(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, '\\', 'N')
	case string:
		return appendText(dst, v)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case uint64:
		return strconv.AppendUint(dst, v, 10)
	case bool:
		if v {
			return append(dst, '1')
		}
		return append(dst, '0')
	case time.Time:
		return v.UTC().AppendFormat(dst, "2006-01-02 15:04:05.999999999")
	}
	return appendText(dst, fmt.Sprint(v))
}

func appendText(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\', '\t', '\n':
			dst = append(dst, '\\')
			if c == '\t' {
				c = 't'
			} else if c == '\n' {
				c = 'n'
			}
			dst = append(dst, c)
		case 0:
			dst = append(dst, '\\', '0')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

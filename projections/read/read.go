// Package read answers questions about the read models: one object by id, name or unique beginning of its id, or a list with filters
// and pages, with the number of the last decision in what was read.
//
// It promises that a user who belongs to an account gets only rows of that account, and that rows and number are of one moment. It
// knows no bus, changes nothing, and does not check whether the user may ask at all.
package read

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sort"
	"strings"
	"time"

	"cloudengine/events"
	"cloudengine/projections"
)

// Limits of questions.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
	maxWait      = 10 * time.Second // for WaitFor, if the context ends later
	minPrefix    = 4                // characters of an id
)

// Waiter waits until the read models have a decision. mysql.Projector is one.
type Waiter interface {
	Wait(ctx context.Context, number uint64) error
}

// Scope says who asks, and so which rows there are for him. Make it with Everything or Within: the zero Scope sees only what its
// nameless actor asked for, which is nothing.
type Scope struct {
	actor   string
	account events.AccountID
	all     bool
}

// Everything is the scope of a user who belongs to no account.
func Everything(actor string) Scope { return Scope{actor: actor, all: true} }

// Within is the scope of a user who belongs to an account.
func Within(actor string, account events.AccountID) Scope {
	return Scope{actor: actor, account: account}
}

// Reader answers. It may be used by several goroutines.
type Reader struct {
	db     *sql.DB
	waiter Waiter
	log    *slog.Logger
}

// New reads from a database with the tables of schemas/mysql. What the database says when it fails goes to log, not to users.
func New(db *sql.DB, w Waiter, log *slog.Logger) *Reader { return &Reader{db, w, log} }

// Get answers with one item, or with an error: not_found, conflict (several objects fit), invalid, forbidden, or unavailable.
func (r *Reader) Get(ctx context.Context, s Scope, kind events.Kind, q events.ReadRequest) events.ReadAnswer {
	m, where, err := r.begin(ctx, s, kind, q)
	if err != nil {
		return r.refused(err)
	}
	if q.ID == "" {
		return r.refused(no(events.CodeInvalid, "field \"id\": want an id, a unique beginning of one, or a name"))
	}
	for _, by := range candidates(m, q.ID) {
		answer, err := r.query(ctx, m, where.and(by), 2)
		switch {
		case err != nil:
			return r.refused(err)
		case len(answer.Items) == 1:
			return answer
		case len(answer.Items) > 1:
			return r.refused(no(events.CodeConflict, "more than one %s fits %q: give its id, or its account", kind, clip(q.ID)))
		}
	}
	return r.refused(no(events.CodeNotFound, "there is no %s %q", kind, clip(q.ID)))
}

// List answers with items in the order of their ids, which is the order in which they were made. Errors: invalid, forbidden, unavailable.
func (r *Reader) List(ctx context.Context, s Scope, kind events.Kind, q events.ReadRequest) events.ReadAnswer {
	m, where, err := r.begin(ctx, s, kind, q)
	if err != nil {
		return r.refused(err)
	}
	limit := q.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	if limit < 1 || limit > MaxLimit {
		return r.refused(no(events.CodeInvalid, "field \"limit\": want 1 to %d, or 0 for %d", MaxLimit, DefaultLimit))
	}
	if where, err = where.filter(m, q.Filter); err != nil {
		return r.refused(err)
	}
	if q.After != "" {
		where = where.and(condition{"id > ?", []any{q.After}})
	}
	answer, err := r.query(ctx, m, where, limit+1)
	if err != nil {
		return r.refused(err)
	}
	if len(answer.Items) > limit {
		answer.Items = answer.Items[:limit]
		answer.Next = idOf(answer.Items[limit-1])
	}
	return answer
}

// begin finds the read model, waits for the decision that was asked for, and gives the condition under which rows are visible.
func (r *Reader) begin(ctx context.Context, s Scope, kind events.Kind, q events.ReadRequest) (*projections.Model, condition, error) {
	m := projections.ByKind(kind)
	if m == nil {
		return nil, condition{}, no(events.CodeInvalid, "there is nothing to read of kind %q", clip(string(kind)))
	}
	where, err := s.sees(m)
	if err != nil {
		return nil, condition{}, err
	}
	if q.Account != "" && m.Table.Has("account") {
		where = where.and(condition{"account = ?", []any{q.Account}})
	}
	if q.WaitFor > 0 {
		waiting, cancel := context.WithTimeout(ctx, maxWait)
		defer cancel()
		if err := r.waiter.Wait(waiting, q.WaitFor); err != nil {
			return nil, condition{}, no(events.CodeUnavailable, "decision %d is not in the read models yet: ask again", q.WaitFor)
		}
	}
	return m, where, nil
}

// query reads rows and checkpoint in one snapshot.
func (r *Reader) query(ctx context.Context, m *projections.Model, where condition, limit int) (events.ReadAnswer, error) {
	tx, err := r.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return events.ReadAnswer{}, fmt.Errorf("begin reading: %w", err)
	}
	defer tx.Rollback() // it read only; the error is of no use
	answer := events.ReadAnswer{Items: []json.RawMessage{}}
	if err := tx.QueryRowContext(ctx, "SELECT seq FROM projection_checkpoint WHERE name = 'readmodels'").Scan(&answer.Applied); err != nil {
		return answer, fmt.Errorf("read checkpoint: %w", err)
	}
	q := "SELECT `" + strings.Join(m.Table.Columns, "`,`") + "` FROM `" + m.Table.Name + "`" + where.clause() + " ORDER BY id LIMIT ?"
	rows, err := tx.QueryContext(ctx, q, append(where.args, limit)...)
	if err != nil {
		return answer, fmt.Errorf("read %s: %w", m.Table.Name, err)
	}
	defer rows.Close()
	for rows.Next() {
		row := m.Table.New()
		if err := rows.Scan(m.Table.Pointers(row)...); err != nil {
			return answer, fmt.Errorf("read %s: %w", m.Table.Name, err)
		}
		item, err := json.Marshal(row)
		if err != nil {
			return answer, fmt.Errorf("encode row of %s: %w", m.Table.Name, err)
		}
		answer.Items = append(answer.Items, item)
	}
	if err := rows.Err(); err != nil {
		return answer, fmt.Errorf("read %s: %w", m.Table.Name, err)
	}
	return answer, nil
}

// condition is a part of a WHERE clause. Only its arguments come from the question.
type condition struct {
	sql  string
	args []any
}

func (c condition) and(o condition) condition {
	if c.sql == "" {
		return o
	}
	return condition{c.sql + " AND " + o.sql, append(append([]any{}, c.args...), o.args...)}
}

func (c condition) clause() string {
	if c.sql == "" {
		return ""
	}
	return " WHERE " + c.sql
}

// filter adds one comparison per column. An empty value asks for what is not known.
func (c condition) filter(m *projections.Model, by map[string]string) (condition, error) {
	columns := make([]string, 0, len(by))
	for column := range by {
		columns = append(columns, column)
	}
	sort.Strings(columns)
	for _, column := range columns {
		if !m.Table.Has(column) {
			return c, no(events.CodeInvalid, "field \"filter\": a %s has no column %q, but %s", m.Kind, clip(column), strings.Join(m.Table.Columns, ", "))
		}
		if by[column] == "" {
			c = c.and(condition{"`" + column + "` IS NULL", nil})
			continue
		}
		v, err := m.Table.Parse(column, by[column])
		if err != nil {
			return c, no(events.CodeInvalid, "field \"filter\": column %q cannot be compared with %q", column, clip(by[column]))
		}
		c = c.and(condition{"`" + column + "` = ?", []any{v}})
	}
	return c, nil
}

// sees gives the condition for the rows that are there for this scope.
func (s Scope) sees(m *projections.Model) (condition, error) {
	if s.all {
		return condition{}, nil
	}
	account := string(s.account)
	switch m.Scope {
	case projections.ScopeSelf:
		return condition{"id = ?", []any{account}}, nil
	case projections.ScopeOwn:
		return condition{"account = ?", []any{account}}, nil
	case projections.ScopeOwnOrAll:
		return condition{"(account = ? OR account IS NULL)", []any{account}}, nil
	case projections.ScopeOwnOrActor:
		return condition{"(account = ? OR actor = ?)", []any{account, s.actor}}, nil
	}
	return condition{}, no(events.CodeForbidden, "%s are for operators of the platform", m.Table.Name)
}

var idPattern = regexp.MustCompile(`^[0-9a-f][0-9a-f.-]*$`)

// candidates gives the ways in which a reference may name an object, the strongest first.
func candidates(m *projections.Model, ref string) []condition {
	var out []condition
	isID := idPattern.MatchString(ref)
	if isID {
		out = append(out, condition{"id = ?", []any{ref}})
	}
	if m.Named != "" {
		out = append(out, condition{"`" + m.Named + "` = ?", []any{ref}})
	}
	if isID && len(ref) >= minPrefix {
		out = append(out, condition{"id LIKE ?", []any{ref + "%"}}) // the pattern lets no wildcard through
	}
	return out
}

func idOf(item json.RawMessage) string {
	var x struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(item, &x) // we encoded it
	return x.ID
}

// refusal is an answer that is an error.
type refusal struct{ events.Outcome }

func (r *refusal) Error() string { return r.Message }

func no(code, format string, args ...any) error {
	return &refusal{events.Outcome{Status: events.Refused, Code: code, Message: fmt.Sprintf(format, args...)}}
}

// refused makes the answer of an error.
func (r *Reader) refused(err error) events.ReadAnswer {
	var x *refusal
	if !errors.As(err, &x) {
		r.log.Error("a question cannot be answered", "err", err)
		x = &refusal{events.Outcome{Status: events.Refused, Code: events.CodeUnavailable, Message: "the read models cannot be read now: ask again"}}
	}
	return events.ReadAnswer{Items: []json.RawMessage{}, Error: &x.Outcome}
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

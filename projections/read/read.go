// Package read answers questions about the read models: one object by id, name or unique beginning of its id, or a list with filters
// and pages, with the number of the last decision in what was read. Questions about now are answered by the database, those about a moment of
// the past by a fold of the log.
//
// It promises that a user who belongs to an account gets only rows of that account, that rows and number are of one moment, and that both
// sources answer alike. It knows no bus, changes nothing, and does not check whether the user may ask at all.
package read

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
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
	past   Past // nil: the past cannot be asked
}

// New reads from a database with the tables of schemas/mysql. What the database says when it fails goes to log, not to users.
func New(db *sql.DB, w Waiter, log *slog.Logger) *Reader { return &Reader{db: db, waiter: w, log: log} }

// Get answers with one item, or with an error: not_found, conflict (several objects fit), invalid, forbidden, or unavailable.
func (r *Reader) Get(ctx context.Context, s Scope, kind events.Kind, q events.ReadRequest) events.ReadAnswer {
	m, where, err := r.begin(ctx, s, kind, q)
	if err != nil {
		return r.refused(err)
	}
	if q.ID == "" {
		return r.refused(no(events.CodeInvalid, "field \"id\": want an id, a unique beginning of one, or a name"))
	}
	from, err := r.source(ctx, q)
	if err != nil {
		return r.refused(err)
	}
	for _, by := range candidates(m, q.ID) {
		answer, err := from(ctx, m, question{where.and(by.condition), by, "", 2, s.all})
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
	for _, column := range m.Private {
		if _, asked := q.Filter[column]; asked && !s.all {
			return r.refused(no(events.CodeForbidden, "field \"filter\": column %q is for operators of the platform", column))
		}
	}
	if where, err = where.filter(m, q.Filter); err != nil {
		return r.refused(err)
	}
	from, err := r.source(ctx, q)
	if err != nil {
		return r.refused(err)
	}
	answer, err := from(ctx, m, question{where, candidate{}, q.After, limit + 1, s.all})
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
		where = where.and(equal(m, "account", q.Account))
	}
	if q.At != "" && q.WaitFor > 0 {
		return nil, condition{}, no(events.CodeInvalid, "field \"wait_for\": what was does not have to be waited for: leave it out, or \"at\"")
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

// question is what is read: rows that fit where, after an id, at most limit.
type question struct {
	where condition
	by    candidate // what where says about which object is meant
	after string
	limit int
	all   bool // for who may see all columns
}

// attempts bounds how often one question is asked of the database.
const attempts = 4

// query reads rows and checkpoint. When a rebuild swaps the tables in this moment, the database may call this transaction a deadlock
// and end it: then, as on any failure, it is tried again.
func (r *Reader) query(ctx context.Context, m *projections.Model, ask question) (answer events.ReadAnswer, err error) {
	for i := range attempts {
		if answer, err = r.queryOnce(ctx, m, ask); err == nil || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(i*10) * time.Millisecond):
		}
	}
	return answer, err
}

// queryOnce reads rows and checkpoint in one snapshot. The checkpoint comes first: who has read it keeps the tables from being swapped.
func (r *Reader) queryOnce(ctx context.Context, m *projections.Model, ask question) (events.ReadAnswer, error) {
	where := ask.where
	if ask.after != "" {
		where = where.and(condition{sql: "id > ?", args: []any{ask.after}})
	}
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
	rows, err := tx.QueryContext(ctx, q, append(where.args, ask.limit)...)
	if err != nil {
		return answer, fmt.Errorf("read %s: %w", m.Table.Name, err)
	}
	defer rows.Close()
	for rows.Next() {
		row := m.Table.New()
		if err := rows.Scan(m.Table.Pointers(row)...); err != nil {
			return answer, fmt.Errorf("read %s: %w", m.Table.Name, err)
		}
		item, err := json.Marshal(ask.shown(m, row))
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

var idPattern = regexp.MustCompile(`^[0-9a-f][0-9a-f.-]*$`)

// candidate is one way in which a reference may name an object. At most one of the texts is given.
type candidate struct {
	condition
	id, name, begin string
}

// candidates gives the ways in which a reference may name an object, the strongest first.
func candidates(m *projections.Model, ref string) []candidate {
	var out []candidate
	isID := idPattern.MatchString(ref)
	if isID {
		out = append(out, candidate{condition: equal(m, "id", ref), id: ref})
	}
	if m.Named != "" {
		out = append(out, candidate{condition: equal(m, m.Named, ref), name: ref})
	}
	if isID && len(ref) >= minPrefix {
		out = append(out, candidate{condition: begins(m, ref), begin: ref})
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

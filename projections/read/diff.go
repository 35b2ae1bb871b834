package read

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/moment"
)

// What became of a row between two moments.
const (
	Appeared = "appeared"
	Gone     = "gone"
	Changed  = "changed"
)

// DiffQuestion asks what differs between two moments: of one object (Kind and ID), of an account (Account), or, with neither, of all.
type DiffQuestion struct {
	Kind    events.Kind
	ID      string // whole
	Account events.AccountID
	From    string // as ReadRequest.At
	To      string // the same; empty: now
	After   string // page on after this place
	Limit   int    // 1…1000, 0 = 100
}

// RowDiff is a row that is not the same at both moments.
type RowDiff struct {
	Kind   events.Kind  `json:"kind"`
	ID     string       `json:"id"`
	Name   string       `json:"name,omitempty"`
	What   string       `json:"what"`           // Appeared …
	Number uint64       `json:"number"`         // of the decision that last changed it, or removed it
	Time   *time.Time   `json:"time,omitempty"` // of that decision; not told of one that removed
	Fields []ColumnDiff `json:"fields"`
}

// ColumnDiff is a column before and after; null is not known, or not there.
type ColumnDiff struct {
	Field string          `json:"field"`
	Old   json.RawMessage `json:"old"`
	New   json.RawMessage `json:"new"`
}

// Diff is the answer.
type Diff struct {
	From  uint64 // decisions that were compared
	To    uint64
	Items []RowDiff // by kind, then by id
	Next  string    // ask again with After = Next; empty: that was all
}

// Diff compares two moments, as far as someone may see them now. An error's Outcome says what to answer: see Refused.
func (r *Reader) Diff(ctx context.Context, s Scope, q DiffQuestion) (Diff, error) {
	from, to, err := r.both(ctx, q)
	if err != nil {
		return Diff{}, err
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	d := &differ{from: from, to: to, limit: q.Limit, as: question{all: s.all}, out: Diff{From: from.Number(), To: to.Number(), Items: []RowDiff{}}}
	begun := q.After == ""
	afterKind, afterID, _ := strings.Cut(q.After, "/")
	for _, m := range projections.Models() {
		after := ""
		if !begun {
			if begun = afterKind == string(m.Kind); !begun {
				continue
			}
			after = afterID
		}
		where, begin, ok, err := s.within(m, q)
		if err != nil {
			return Diff{}, err
		}
		if !ok {
			continue
		}
		if err := d.model(m, where, after, begin); err != nil {
			return Diff{}, pastError(err)
		}
		if d.out.Next != "" {
			break
		}
	}
	return d.out, nil
}

// both finds the two moments.
func (r *Reader) both(ctx context.Context, q DiffQuestion) (from, to *moment.Moment, err error) {
	switch {
	case q.From == "":
		return nil, nil, no(events.CodeInvalid, "field \"from\": want a number of a decision, or a time")
	case q.Limit < 0 || q.Limit > MaxLimit:
		return nil, nil, no(events.CodeInvalid, "field \"limit\": want 1 to %d, or 0 for %d", MaxLimit, DefaultLimit)
	case q.To == "":
		q.To = "now"
	}
	if from, err = r.momentOf(ctx, "from", q.From); err != nil {
		return nil, nil, err
	}
	if to, err = r.momentOf(ctx, "to", q.To); err != nil {
		return nil, nil, err
	}
	if from.Number() > to.Number() {
		return nil, nil, no(events.CodeInvalid, "field \"from\": decision %d comes after decision %d of \"to\"", from.Number(), to.Number())
	}
	return from, to, nil
}

// within gives the condition for the rows that are compared, and with what their ids begin; not ok: none of this model.
func (s Scope) within(m *projections.Model, q DiffQuestion) (where condition, begin string, ok bool, err error) {
	if where, err = s.sees(m); err != nil {
		if q.ID != "" && m.Kind == q.Kind {
			return where, "", false, err
		}
		return where, "", false, nil
	}
	switch {
	case q.ID != "":
		if begin, ok = partOf(m, q.Kind, q.ID); ok && m.Kind == q.Kind {
			where = where.and(equal(m, "id", q.ID))
		}
		return where, begin, ok, nil
	case q.Account != "" && m.Kind == events.KindAccount:
		return where.and(equal(m, "id", string(q.Account))), "", true, nil
	case q.Account != "" && !m.Table.Has("account"):
		return where, "", false, nil
	case q.Account != "":
		return where.and(equal(m, "account", string(q.Account))), "", true, nil
	}
	return where, "", true, nil
}

// partOf says which rows belong to an object: its own, and those whose ids begin with its own (grants of a VM, orphans on a host). A
// machine and its host are one.
func partOf(m *projections.Model, kind events.Kind, id string) (begin string, ok bool) {
	machine := func(k events.Kind) bool { return k == events.KindMachine || k == events.KindHost }
	switch {
	case m.Kind == kind, machine(m.Kind) && machine(kind):
		return id, true
	case m.Kind == projections.KindGrant && kind == events.KindVM, m.Kind == projections.KindOrphan && machine(kind):
		return id + ".", true
	}
	return "", false
}

// differ collects what differs.
type differ struct {
	from, to *moment.Moment
	limit    int
	as       question // for whom rows are shown
	out      Diff
}

func (d *differ) model(m *projections.Model, where condition, after, begin string) error {
	return moment.Diff(d.from, d.to, m.Table, after, begin, func(id string, was, is any) (bool, error) {
		if was != nil && !where.sees(m, was) {
			was = nil
		}
		if is != nil && !where.sees(m, is) {
			is = nil
		}
		if was == nil && is == nil {
			return true, nil
		}
		if n := len(d.out.Items); n == d.limit {
			d.out.Next = string(d.out.Items[n-1].Kind) + "/" + d.out.Items[n-1].ID
			return false, nil
		}
		row, err := d.row(m, id, was, is)
		d.out.Items = append(d.out.Items, row)
		return true, err
	})
}

func (d *differ) row(m *projections.Model, id string, was, is any) (RowDiff, error) {
	out := RowDiff{Kind: m.Kind, ID: id, What: Changed, Fields: []ColumnDiff{}}
	if was == nil {
		out.What = Appeared
	}
	last := is
	if is == nil {
		out.What, last = Gone, was
		number, err := d.to.Gone(m.Table, id)
		if err != nil {
			return out, err
		}
		out.Number = number
	}
	values := m.Table.Values(nil, last)
	for i, column := range m.Table.Columns {
		switch v := values[i].(type) {
		case uint64:
			if column == "changed_by" && is != nil {
				out.Number = v
			}
		case time.Time:
			if column == "changed_at" && is != nil {
				out.Time = &v
			}
		case string:
			if column == m.Named {
				out.Name = v
			}
		}
	}
	if was != nil {
		was = d.as.shown(m, was)
	}
	if is != nil {
		is = d.as.shown(m, is)
	}
	var err error
	out.Fields, err = fields(m.Table, was, is)
	return out, err
}

// meta are columns that tell of the change itself.
var meta = []string{"id", "changed_by", "changed_at"}

// fields gives the columns that differ; those that are null on both sides do not.
func fields(t *projections.Table, was, is any) ([]ColumnDiff, error) {
	before, err := columns(was)
	if err != nil {
		return nil, err
	}
	after, err := columns(is)
	if err != nil {
		return nil, err
	}
	out := []ColumnDiff{}
	for _, c := range t.Columns {
		if x, y := string(before[c]), string(after[c]); !slices.Contains(meta, c) && x != y && !(nullish(x) && nullish(y)) {
			out = append(out, ColumnDiff{c, before[c], after[c]})
		}
	}
	return out, nil
}

func nullish(s string) bool { return s == "" || s == "null" }

// columns gives the JSON of each column of a row; nothing of no row.
func columns(row any) (map[string]json.RawMessage, error) {
	if row == nil {
		return nil, nil
	}
	raw, err := json.Marshal(row)
	var out map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("compare rows: %w", err)
	}
	return out, nil
}

// Refused gives the outcome to answer when a question failed.
func (r *Reader) Refused(err error) *events.Outcome { return r.refused(err).Error }

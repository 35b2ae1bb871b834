package read

import (
	"encoding/json"
	"slices"
	"sort"
	"strings"

	"cloudengine/events"
	"cloudengine/projections"
)

// condition says which rows are meant, in both forms: as a part of a WHERE clause, of which only the arguments come from the question, and
// as a test of a row's values. The zero condition is all rows.
type condition struct {
	sql     string
	args    []any
	fits    func(values []any) bool
	needles [][]string // texts of which the JSON of every row that fits contains one, for each list
}

func (c condition) and(o condition) condition {
	if c.sql == "" {
		return o
	}
	return condition{
		sql: c.sql + " AND " + o.sql, args: slices.Concat(c.args, o.args), needles: slices.Concat(c.needles, o.needles),
		fits: func(v []any) bool { return c.fits(v) && o.fits(v) },
	}
}

func (c condition) or(o condition) condition {
	both := condition{sql: "(" + c.sql + " OR " + o.sql + ")", args: slices.Concat(c.args, o.args), fits: func(v []any) bool { return c.fits(v) || o.fits(v) }}
	if len(c.needles) == 1 && len(o.needles) == 1 {
		both.needles = [][]string{slices.Concat(c.needles[0], o.needles[0])}
	}
	return both
}

func (c condition) clause() string {
	if c.sql == "" {
		return ""
	}
	return " WHERE " + c.sql
}

func (c condition) sees(m *projections.Model, row any) bool {
	return c.fits == nil || c.fits(m.Table.Values(nil, row))
}

// equal compares a column, which the table has, with a value: a text, a bool, an int64 or a uint64.
func equal(m *projections.Model, column string, value any) condition {
	if s, ok := value.(string); ok && !m.Table.CanBe(column, s) {
		return condition{sql: "FALSE", fits: func([]any) bool { return false }}
	}
	i := slices.Index(m.Table.Columns, column)
	return condition{
		sql: "`" + column + "` = ?", args: []any{value}, needles: needle(column, value),
		fits: func(v []any) bool { return same(v[i], value) },
	}
}

func null(m *projections.Model, column string) condition {
	i := slices.Index(m.Table.Columns, column)
	return condition{
		sql: "`" + column + "` IS NULL", needles: [][]string{{`"` + column + `":null`}},
		fits: func(v []any) bool { return v[i] == nil },
	}
}

// begins compares the beginning of the id. The text has no wildcards.
func begins(m *projections.Model, text string) condition {
	i := slices.Index(m.Table.Columns, "id")
	return condition{
		sql: "`id` LIKE ?", args: []any{text + "%"},
		fits: func(v []any) bool { id, ok := v[i].(string); return ok && strings.HasPrefix(id, text) },
	}
}

// same compares as the database does: spaces at the end of a text do not count, and nothing is the same as NULL.
func same(have, want any) bool {
	switch w := want.(type) {
	case string:
		h, ok := have.(string)
		return ok && strings.TrimRight(h, " ") == strings.TrimRight(w, " ")
	case bool:
		return have == w
	case int64:
		switch h := have.(type) {
		case int:
			return int64(h) == w
		case int64:
			return h == w
		}
	case uint64:
		return have == w
	}
	return false
}

// needle gives what the JSON of a row has whose column has a value.
func needle(column string, value any) [][]string {
	if s, ok := value.(string); ok {
		value = strings.TrimRight(s, " ")
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	return [][]string{{`"` + column + `":` + strings.TrimSuffix(string(text), `"`)}}
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
			c = c.and(null(m, column))
			continue
		}
		v, err := m.Table.Parse(column, by[column])
		if err != nil {
			return c, no(events.CodeInvalid, "field \"filter\": column %q cannot be compared with %q", column, clip(by[column]))
		}
		c = c.and(equal(m, column, v))
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
		return equal(m, "id", account), nil
	case projections.ScopeOwn:
		return equal(m, "account", account), nil
	case projections.ScopeOwnOrAll:
		return equal(m, "account", account).or(null(m, "account")), nil
	case projections.ScopeOwnOrActor:
		return equal(m, "account", account).or(equal(m, "actor", s.actor)), nil
	}
	return condition{}, no(events.CodeForbidden, "%s are for operators of the platform", m.Table.Name)
}

package verify

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Shape is how one table is made.
type Shape struct {
	Name    string
	Columns []Column
	Indexes []Index
}

// Column is a column as information_schema tells of it.
type Column struct {
	Name string
	Type string // such as "bigint(20) unsigned"
	Null bool
}

// Index is an index; the primary key is called PRIMARY.
type Index struct {
	Name    string
	Columns []string
	Unique  bool
}

var integerWidth = regexp.MustCompile(`^(tinyint|smallint|int|bigint)\(\d+\)`)

// plainType gives types that are the same the same text: databases name some differently.
func plainType(t string) string {
	t = strings.ToLower(strings.TrimSpace(t))
	switch t {
	case "boolean":
		return "tinyint"
	case "json":
		return "longtext"
	}
	return integerWidth.ReplaceAllString(t, "$1")
}

// CompareShapes compares tables, columns and indexes. A table that is not ours is a warning, anything else that differs an error.
func CompareShapes(want, have []Shape) []Finding {
	var out List
	find := func(s Severity, check, id, what, next string) {
		out.Add(Finding{Section: Rows, Severity: s, Check: check, Kind: "table", ID: id, What: what, Next: next})
	}
	there := map[string]Shape{}
	for _, t := range have {
		there[t.Name] = t
	}
	for _, w := range want {
		h, ok := there[w.Name]
		if !ok {
			find(Wrong, "table_missing", w.Name, "the table is not there", nextShape)
			continue
		}
		delete(there, w.Name)
		for _, d := range columnDifferences(w.Columns, h.Columns) {
			find(Wrong, d.check, w.Name, d.what, nextShape)
		}
		for _, d := range indexDifferences(w.Indexes, h.Indexes) {
			find(d.severity, d.check, w.Name, d.what, nextShape)
		}
	}
	for _, name := range keys(there) {
		find(Warning, "table_extra", name, "the table is none of the read models'", nextStray)
	}
	return out.All
}

type difference struct {
	severity Severity
	check    string
	what     string
}

func columnDifferences(want, have []Column) []difference {
	var out []difference
	there := map[string]Column{}
	for _, c := range have {
		there[c.Name] = c
	}
	for _, w := range want {
		h, ok := there[w.Name]
		delete(there, w.Name)
		switch {
		case !ok:
			out = append(out, difference{Wrong, "column_missing", "column " + w.Name + " is not there"})
		case plainType(w.Type) != plainType(h.Type) || w.Null != h.Null:
			out = append(out, difference{Wrong, "column_changed", fmt.Sprintf("column %s is %s%s, and should be %s%s", w.Name, h.Type, null(h.Null), w.Type, null(w.Null))})
		}
	}
	for _, name := range keys(there) {
		out = append(out, difference{Wrong, "column_extra", "column " + name + " is none of ours"})
	}
	return out
}

func null(may bool) string {
	if may {
		return " NULL"
	}
	return " NOT NULL"
}

func indexDifferences(want, have []Index) []difference {
	var out []difference
	there := map[string]Index{}
	for _, i := range have {
		there[i.Name] = i
	}
	for _, w := range want {
		h, ok := there[w.Name]
		delete(there, w.Name)
		switch {
		case !ok:
			out = append(out, difference{Wrong, "index_missing", "index " + w.Name + " is not there: questions become slow"})
		case strings.Join(w.Columns, ",") != strings.Join(h.Columns, ",") || w.Unique != h.Unique:
			out = append(out, difference{Wrong, "index_changed", fmt.Sprintf("index %s is on (%s), and should be on (%s)", w.Name, strings.Join(h.Columns, ", "), strings.Join(w.Columns, ", "))})
		}
	}
	for _, name := range keys(there) {
		out = append(out, difference{Warning, "index_extra", "index " + name + " is none of ours; a rebuild drops it"})
	}
	return out
}

func keys[K ~string, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

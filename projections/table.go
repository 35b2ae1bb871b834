package projections

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Table describes the rows of one read model. The columns are the json names of the row's fields; "id" is the first and the primary key.
type Table struct {
	Name    string
	Columns []string
	typ     reflect.Type
	seen    int // index of the field changed_by
	at      int // index of the field changed_at
	limits  []limit
}

// newTable describes the rows of type R, a struct whose fields all have a json name; it ends with changed_by and changed_at.
func newTable[R any](name string) *Table {
	t := &Table{Name: name, typ: reflect.TypeFor[R]()}
	limits := limitsOf(name)
	for i := range t.typ.NumField() {
		column, _, _ := strings.Cut(t.typ.Field(i).Tag.Get("json"), ",")
		t.Columns = append(t.Columns, column)
		t.limits = append(t.limits, limits[column])
		switch column {
		case "changed_by":
			t.seen = i
		case "changed_at":
			t.at = i
		}
	}
	if t.Columns[0] != "id" || t.seen == 0 || t.at == 0 {
		panic(fmt.Sprintf("table %s: a row starts with id and has changed_by and changed_at", name))
	}
	return t
}

// New gives a pointer to an empty row.
func (t *Table) New() any { return reflect.New(t.typ).Interface() }

// Has says whether the table has that column.
func (t *Table) Has(column string) bool {
	for _, c := range t.Columns {
		if c == column {
			return true
		}
	}
	return false
}

// Parse reads the text of a column's value, to compare rows with it. Lists, times and objects cannot be compared.
func (t *Table) Parse(column, text string) (any, error) {
	for i, c := range t.Columns {
		if c != column {
			continue
		}
		typ := t.typ.Field(i).Type
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		switch typ.Kind() {
		case reflect.String:
			return text, nil
		case reflect.Bool:
			return strconv.ParseBool(text)
		case reflect.Int, reflect.Int64:
			return strconv.ParseInt(text, 10, 64)
		case reflect.Uint64:
			return strconv.ParseUint(text, 10, 64)
		}
		return nil, fmt.Errorf("column %s cannot be compared", column)
	}
	return nil, fmt.Errorf("there is no column %s", column)
}

// Values appends the values of a row to dst, in the order of Columns. NULL is nil; times are UTC.
func (t *Table) Values(dst []any, row any) []any {
	v := reflect.ValueOf(row).Elem()
	for i := range v.NumField() {
		dst = append(dst, value(v.Field(i)))
	}
	return dst
}

func value(f reflect.Value) any {
	switch x := f.Interface().(type) {
	case json.RawMessage:
		if x == nil {
			return nil
		}
		return string(x)
	case time.Time:
		return x.UTC()
	case *time.Time:
		if x == nil {
			return nil
		}
		return x.UTC()
	case string, int, int64, uint64, bool:
		return x
	}
	if f.IsNil() {
		return nil
	}
	return f.Elem().Interface()
}

// Pointers gives the addresses of a row's fields, in the order of Columns, for reading it from a database.
func (t *Table) Pointers(row any) []any {
	v := reflect.ValueOf(row).Elem()
	out := make([]any, v.NumField())
	for i := range out {
		p := v.Field(i).Addr().Interface()
		if raw, ok := p.(*json.RawMessage); ok {
			p = (*[]byte)(raw)
		}
		out[i] = p
	}
	return out
}

// ID gives the primary key of a row.
func (t *Table) ID(row any) string { return reflect.ValueOf(row).Elem().Field(0).String() }

// touch writes down which decision changed the row, and when that was.
func (t *Table) touch(row any, number uint64, at time.Time) {
	v := reflect.ValueOf(row).Elem()
	v.Field(t.seen).SetUint(number)
	v.Field(t.at).Set(reflect.ValueOf(at))
}

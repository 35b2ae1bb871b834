package read

import (
	"reflect"
	"slices"

	"cloudengine/projections"
)

// shown gives a row as who asks may see it. The row itself, which may be one of many readers', is not changed.
func (q question) shown(m *projections.Model, row any) any {
	if q.all || len(m.Private) == 0 {
		return row
	}
	out := reflect.New(reflect.TypeOf(row).Elem())
	out.Elem().Set(reflect.ValueOf(row).Elem())
	for i, column := range m.Table.Columns { // a field each, in their order
		if slices.Contains(m.Private, column) {
			out.Elem().Field(i).SetZero()
		}
	}
	return out.Interface()
}

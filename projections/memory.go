package projections

import (
	"fmt"
	"slices"
	"sort"

	"cloudengine/events"
)

// Memory is the read models in memory: what the rows are at any decision, without a database. It parks as the database does.
// It is for one goroutine at a time; Rows that it gave stay as they were.
type Memory struct {
	at     uint64
	rows   map[*Table]map[string]any
	parked map[events.Ref]bool
	stops  []Parked
	left   map[partOf]bool // parts that are passed over
}

// NewMemory gives the read models before the first decision.
func NewMemory() *Memory {
	return &Memory{rows: map[*Table]map[string]any{}, parked: map[events.Ref]bool{}}
}

// partOf names a part of a decision.
type partOf struct {
	number uint64
	index  int
}

// Leave has Apply pass over an event, as the database does with one that people gave up: index is its place in its decision, -1 the
// decision itself.
func (m *Memory) Leave(number uint64, index int) {
	if m.left == nil {
		m.left = map[partOf]bool{}
	}
	m.left[partOf{number, index}] = true
}

// parts lists the parts of a decision that are applied.
func (m *Memory) parts(r *events.Recorded) []Part {
	all := Parts(r)
	if len(m.left) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(p Part) bool { return m.left[partOf{r.Number, p.Index}] })
}

// Apply folds the next decision. An error says that another one is due.
func (m *Memory) Apply(r *events.Recorded) error {
	if r.Number != m.at+1 {
		return fmt.Errorf("apply decision %d where %d is due", r.Number, m.at+1)
	}
	stops, err := applyParts(m, m.parked, r, m.parts(r))
	if err != nil {
		return err
	}
	m.stops = append(m.stops, stops...)
	m.at = r.Number
	return nil
}

// At gives the number of the last decision in it.
func (m *Memory) At() uint64 { return m.at }

// Parked lists what could not be applied, in order.
func (m *Memory) Parked() []Parked { return m.stops }

// Rows gives the rows of a table in the order of their ids. They are not to be changed.
func (m *Memory) Rows(t *Table) []any {
	ids := make([]string, 0, len(m.rows[t]))
	for id := range m.rows[t] {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	out := make([]any, len(ids))
	for i, id := range ids {
		out[i] = m.rows[t][id]
	}
	return out
}

// Get gives a row, or nil. It is part of Store.
func (m *Memory) Get(t *Table, id string) (any, error) { return m.rows[t][id], nil }

// All gives the rows of a table in no order. It is part of Store.
func (m *Memory) All(t *Table) ([]any, error) {
	out := make([]any, 0, len(m.rows[t]))
	for _, row := range m.rows[t] {
		out = append(out, row)
	}
	return out, nil
}

// Put is part of Store.
func (m *Memory) Put(t *Table, id string, row any) {
	if m.rows[t] == nil {
		m.rows[t] = map[string]any{}
	}
	m.rows[t][id] = row
}

// Delete is part of Store.
func (m *Memory) Delete(t *Table, id string) { delete(m.rows[t], id) }

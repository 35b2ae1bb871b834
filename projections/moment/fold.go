package moment

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"cloudengine/events"
	"cloudengine/projections"
)

// layer is the read models after one decision: those of a snapshot, and what the decisions after it changed. It is a
// projections.Store for one goroutine at a time; when no more is applied, it may be read by several.
type layer struct {
	pages  *pages
	base   map[string]ref // roots of the snapshot; nil: the log's beginning
	rows   map[*projections.Table]map[string]any
	parked map[events.Ref]bool
	tried  map[projections.RowID]any // rows of the snapshot that applying has read
	marks  []mark

	deciding mark // number and block of the decision that is applied

	number uint64
	at     events.Position // the block of that decision; where it ends, if whole
	whole  bool            // the decision is the last one of its block
}

// mark notes that a decision is about an object.
type mark struct {
	object string // kind/id
	number uint64
	seq    uint64 // of its block
}

func newLayer(p *pages, s *snapshot) *layer {
	l := &layer{pages: p, rows: map[*projections.Table]map[string]any{}, parked: map[events.Ref]bool{}, tried: map[projections.RowID]any{}, whole: true}
	if s != nil {
		l.base, l.number, l.at = s.Roots, s.Block.Number, s.Block.position()
		for _, r := range s.Parked {
			l.parked[r] = true
		}
	}
	return l
}

func (p position) position() events.Position {
	return events.Position{Seq: p.Seq, Number: p.Number, Term: p.Term, Digest: p.Digest, Time: p.Time}
}

// apply folds the decisions of a block up to a number.
func (l *layer) apply(at events.Position, b *events.Block, last uint64) error {
	for _, r := range b.Recorded() {
		if r.Number > last {
			l.whole = false
			break
		}
		if r.Number != l.number+1 {
			return fmt.Errorf("apply decision %d where %d is due", r.Number, l.number+1)
		}
		l.deciding = mark{number: r.Number, seq: at.Seq}
		if _, err := projections.ApplyAll(l, l.parked, &r); err != nil {
			return err
		}
		for _, o := range objects(&r) {
			l.marks = append(l.marks, mark{o, r.Number, at.Seq})
		}
		l.number = r.Number
	}
	l.at = at
	return nil
}

// Get gives a row, or nil. It is part of projections.Store.
func (l *layer) Get(t *projections.Table, id string) (any, error) {
	if row, ok := l.rows[t][id]; ok {
		return row, nil
	}
	key := projections.RowID{Table: t, ID: id}
	if row, ok := l.tried[key]; ok {
		return row, nil
	}
	row, err := l.stored(t, id)
	if err == nil && l.tried != nil {
		l.tried[key] = row
	}
	return row, err
}

// stored gives a row of the snapshot, or nil.
func (l *layer) stored(t *projections.Table, id string) (any, error) {
	text, ok, err := l.pages.get(l.base[t.Name], id)
	if err != nil || !ok {
		return nil, err
	}
	return decodeRow(t, text)
}

// All gives the rows of a table. It is part of projections.Store.
func (l *layer) All(t *projections.Table) ([]any, error) {
	var out []any
	err := l.scan(t, "", nil, func(_ string, row any) error {
		out = append(out, row)
		return nil
	})
	return out, err
}

// Put is part of projections.Store.
func (l *layer) Put(t *projections.Table, id string, row any) {
	if l.rows[t] == nil {
		l.rows[t] = map[string]any{}
	}
	l.rows[t][id] = row
}

// Delete is part of projections.Store.
func (l *layer) Delete(t *projections.Table, id string) {
	l.Put(t, id, nil)
	m := l.deciding
	m.object = goneMark(t, id)
	l.marks = append(l.marks, m)
}

// scan gives the rows of a table from an id on, in the order of their ids, until f fails; errEnough from f is no error. Rows whose text
// may does not want are left out before they are read; may is not asked about rows that are in memory.
func (l *layer) scan(t *projections.Table, from string, may func(text string) bool, f func(id string, row any) error) error {
	var ids []string
	for id := range l.rows[t] {
		if id >= from {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	flush := func(before string, all bool) error {
		for len(ids) > 0 && (all || ids[0] < before) {
			id := ids[0]
			ids = ids[1:]
			if row := l.rows[t][id]; row != nil {
				if err := f(id, row); err != nil {
					return err
				}
			}
		}
		return nil
	}
	enough := false
	err := l.pages.scan(l.base[t.Name], from, func(id, text string) error {
		err := flush(id, false)
		if err == nil {
			err = l.scanOne(t, id, text, may, f)
		}
		enough = err == errEnough
		return err
	})
	if err == nil && !enough {
		err = flush("", true)
	}
	if err == errEnough {
		return nil
	}
	return err
}

func (l *layer) scanOne(t *projections.Table, id, text string, may func(string) bool, f func(string, any) error) error {
	if _, changed := l.rows[t][id]; changed || may != nil && !may(text) {
		return nil // a changed one comes, or came, with those in memory
	}
	row, err := decodeRow(t, text)
	if err != nil {
		return err
	}
	return f(id, row)
}

func encodeRow(row any) (string, error) {
	b, err := json.Marshal(row)
	if err != nil {
		return "", fmt.Errorf("encode row: %w", err)
	}
	return string(b), nil
}

func decodeRow(t *projections.Table, text string) (any, error) {
	row := t.New()
	if err := json.Unmarshal([]byte(text), row); err != nil {
		return nil, fmt.Errorf("read row of %s: %w", t.Name, err)
	}
	for _, p := range t.Pointers(row) {
		if raw, ok := p.(*[]byte); ok && string(*raw) == "null" { // as it was before it was written
			*raw = nil
		}
	}
	return row, nil
}

// Names of the trees beside those of the tables.
const (
	objectTree = "#objects" // kind/id, 0, number (hex) → sequence of the block; of the decisions since the snapshot before
	namesTree  = "#names."  // of a table: name, 0, id → nothing
)

func objectKey(object string, number uint64) string {
	return object + "\x00" + fmt.Sprintf("%016x", number)
}

func nameKey(name, id string) string { return strings.TrimRight(name, " ") + "\x00" + id }

// named are the kinds of objects that arguments of intents name.
var named = []events.Kind{events.KindAccount, events.KindUser, events.KindSecret, events.KindTemplate, events.KindMachine, events.KindHost, events.KindVM,
	events.KindOperation, events.KindBootimage, events.KindDiscovered}

// objects lists what a decision is about: the objects of its events, its own operation, and, if it changed nothing, what it names.
func objects(r *events.Recorded) []string {
	out := []string{string(events.KindOperation) + "/" + string(r.Intent)}
	add := func(o string) {
		for _, have := range out {
			if have == o {
				return
			}
		}
		out = append(out, o)
	}
	for _, e := range r.Events {
		add(string(e.Aggregate.Kind) + "/" + e.Aggregate.ID)
	}
	if len(r.Events) > 0 {
		return out
	}
	var args map[string]json.RawMessage
	_ = json.Unmarshal(r.Args, &args) // arguments of another shape name no object
	for _, kind := range named {
		var id string
		if raw := args[string(kind)]; len(raw) > 2 && json.Unmarshal(raw, &id) == nil && id != "" {
			add(string(kind) + "/" + id)
		}
	}
	return out
}

// write stores what was applied since the snapshot as the pages of the next one.
func (l *layer) write(schema string) func(*writer) (anchor, error) {
	return func(w *writer) (anchor, error) {
		a := anchor{Schema: schema, Block: position(l.at), Roots: map[string]ref{}}
		for _, m := range projections.Models() {
			rows, names, err := l.changes(m)
			if err == nil {
				a.Roots[m.Table.Name], err = w.tree(l.base[m.Table.Name], rows)
			}
			if tree := namesTree + m.Table.Name; err == nil && m.Named != "" {
				a.Roots[tree], err = w.tree(l.base[tree], names)
			}
			if err != nil {
				return a, err
			}
		}
		marks := make([]change, len(l.marks))
		for i, m := range l.marks {
			marks[i] = change{key: objectKey(m.object, m.number), value: strconv.FormatUint(m.seq, 10)}
		}
		sort.Slice(marks, func(i, j int) bool { return marks[i].key < marks[j].key })
		marks = slices.CompactFunc(marks, func(a, b change) bool { return a.key == b.key }) // a row that one decision removed twice
		var err error
		if a.Roots[objectTree], err = w.tree(ref{}, marks); err != nil {
			return a, err
		}
		for name, r := range a.Roots {
			if r.Size == 0 {
				delete(a.Roots, name)
			}
		}
		for o := range l.parked {
			a.Parked = append(a.Parked, o)
		}
		sort.Slice(a.Parked, func(i, j int) bool { return a.Parked[i].String() < a.Parked[j].String() })
		return a, nil
	}
}

// changes gives what changed in a table, and in the index of its names, in the order of the keys.
func (l *layer) changes(m *projections.Model) (rows, names []change, err error) {
	for id, row := range l.rows[m.Table] {
		c := change{key: id, gone: row == nil}
		if row != nil {
			if c.value, err = encodeRow(row); err != nil {
				return nil, nil, err
			}
		}
		rows = append(rows, c)
		if m.Named == "" {
			continue
		}
		before, err := l.stored(m.Table, id)
		if err != nil {
			return nil, nil, err
		}
		was, is := nameOf(m, before), nameOf(m, row)
		if before != nil && (row == nil || was != is) {
			names = append(names, change{key: nameKey(was, id), gone: true})
		}
		if row != nil && (before == nil || was != is) {
			names = append(names, change{key: nameKey(is, id)})
		}
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].key < rows[j].key })
	sort.Slice(names, func(i, j int) bool { return names[i].key < names[j].key })
	return rows, names, nil
}

// nameOf gives the name of a row of a model that has names; empty if there is no row.
func nameOf(m *projections.Model, row any) string {
	if row == nil {
		return ""
	}
	for i, column := range m.Table.Columns {
		if column == m.Named {
			name, _ := m.Table.Values(nil, row)[i].(string)
			return name
		}
	}
	return ""
}

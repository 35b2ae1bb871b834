package projections

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cloudengine/events"
)

// ErrNoRow says that an event is about an object that the read model does not have.
var ErrNoRow = errors.New("there is no such row")

// ErrUnknownEvent says that this program does not know an event's type.
var ErrUnknownEvent = errors.New("this version does not know the event's type: a newer version of cloudengine is needed")

// Store holds rows. A row that it gives is not changed by anyone; a row that it is given is its own.
type Store interface {
	// Get gives a pointer to the row, or nil if there is none. The error is the storage's.
	Get(t *Table, id string) (any, error)
	// All gives the rows of a table, in no order. Only for rare events.
	All(t *Table) ([]any, error)
	Put(t *Table, id string, row any)
	Delete(t *Table, id string)
}

// storeError marks an error of the storage, which stops the fold; any other error parks the object.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// fold is what a read model works with while one event is applied. Its writes reach the store only if the whole event was applied.
type fold struct {
	store  Store
	rec    *events.Recorded
	writes []write
	misfit error // the first row that cannot be stored
}

type write struct {
	table *Table
	id    string
	row   any // nil: deleted
}

// lookup gives a copy of a row, as this event left it so far; nil if there is none.
func lookup[R any](f *fold, t *Table, id string) (*R, error) {
	for i := len(f.writes) - 1; i >= 0; i-- {
		if w := f.writes[i]; w.table == t && w.id == id {
			if w.row == nil {
				return nil, nil
			}
			row := *w.row.(*R)
			return &row, nil
		}
	}
	got, err := f.store.Get(t, id)
	if err != nil {
		return nil, storeError{err}
	}
	if got == nil {
		return nil, nil
	}
	row := *got.(*R)
	return &row, nil
}

// need is lookup for a row that has to be there.
func need[R any](f *fold, t *Table, id string) (*R, error) {
	row, err := lookup[R](f, t, id)
	if err == nil && row == nil {
		return nil, fmt.Errorf("find %s %s: %w", t.Name, id, ErrNoRow)
	}
	return row, err
}

// change reads a row that has to be there, lets edit change the copy, and writes it back.
func change[R any](f *fold, t *Table, id string, edit func(*R)) error {
	row, err := need[R](f, t, id)
	if err != nil {
		return err
	}
	edit(row)
	f.put(t, id, row)
	return nil
}

// changeIf is change for a row that may be missing.
func changeIf[R any](f *fold, t *Table, id string, edit func(*R)) error {
	row, err := lookup[R](f, t, id)
	if err != nil || row == nil {
		return err
	}
	edit(row)
	f.put(t, id, row)
	return nil
}

// all gives copies of the rows of a table. It does not see this event's own writes.
func all[R any](f *fold, t *Table) ([]*R, error) {
	rows, err := f.store.All(t)
	if err != nil {
		return nil, storeError{err}
	}
	out := make([]*R, len(rows))
	for i, r := range rows {
		row := *r.(*R)
		out[i] = &row
	}
	return out, nil
}

func (f *fold) put(t *Table, id string, row any) {
	t.touch(row, f.rec.Number, f.now())
	if err := t.fits(row); err != nil && f.misfit == nil {
		f.misfit = err
	}
	f.writes = append(f.writes, write{t, id, row})
}

func (f *fold) delete(t *Table, id string) { f.writes = append(f.writes, write{t, id, nil}) }

// now is the time of the decision's block, in the precision of the database.
func (f *fold) now() time.Time { return f.rec.Time.UTC().Truncate(time.Microsecond) }

func (f *fold) commit() {
	for _, w := range f.writes {
		if w.row == nil {
			f.store.Delete(w.table, w.id)
		} else {
			f.store.Put(w.table, w.id, w.row)
		}
	}
	f.writes = f.writes[:0]
}

// known gives a pointer to a value, or nil for the zero value: what is not known is NULL.
func known[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// asJSON gives the JSON text of a value that always has one; nil for a nil slice, which becomes NULL.
func asJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	if string(b) == "null" {
		return nil
	}
	return b
}

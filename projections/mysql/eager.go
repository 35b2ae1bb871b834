package mysql

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"sync/atomic"

	"cloudengine/projections"
)

// eagerLimits say when rows are loaded while the log is still being folded.
type eagerLimits struct {
	every uint64 // decisions between two looks
	after uint64 // decisions since a row was last changed: it may well be what it stays
	least int    // rows of one table that are worth a statement
}

// eagerly is a variable for tests, whose logs are short.
var eagerly = eagerLimits{every: 8192, after: 8192, least: 4000}

const eagerQueue = 4 // statements that may wait

// eager is the store of a fold that loads rows which seem to be finished while others are still being made: reading and folding and the
// database's work take place at the same time. What changes after it was loaded is written once more at the end.
type eager struct {
	*projections.Memory
	at     uint64 // decision that is being folded
	looked uint64 // when rows were last looked for
	tables map[*projections.Table]*eagerTable
	queue  chan filling
	ended  chan struct{}
	failed atomic.Pointer[error]
}

type eagerTable struct {
	w       *writer
	pending map[string]uint64 // rows that were not sent, and the decision that last changed each
	sent    map[string]bool   // true: changed since
	again   int               // that were changed since
}

// newEager begins to load into the tables of a generation, which must be there. end must be called.
func newEager(ctx context.Context, db *sql.DB, g generation, sent *atomic.Uint64) *eager {
	e := &eager{Memory: projections.NewMemory(), tables: map[*projections.Table]*eagerTable{}, queue: make(chan filling, eagerQueue), ended: make(chan struct{})}
	for _, m := range projections.Models() {
		e.tables[m.Table] = &eagerTable{w: newWriter(m.Table, g), pending: map[string]uint64{}, sent: map[string]bool{}}
	}
	go func() {
		defer close(e.ended)
		for f := range e.queue {
			if e.failed.Load() == nil {
				if err := f.load(ctx, db, sent); err != nil {
					e.failed.Store(&err)
				}
			}
		}
	}()
	return e
}

// Put is part of projections.Store.
func (e *eager) Put(t *projections.Table, id string, row any) {
	e.Memory.Put(t, id, row)
	e.touch(t, id, true)
}

// Delete is part of projections.Store.
func (e *eager) Delete(t *projections.Table, id string) {
	e.Memory.Delete(t, id)
	e.touch(t, id, false)
}

func (e *eager) touch(t *projections.Table, id string, there bool) {
	x := e.tables[t]
	if changed, sent := x.sent[id]; sent {
		if !changed {
			x.sent[id] = true
			x.again++
		}
	} else if there {
		x.pending[id] = e.at
	} else {
		delete(x.pending, id)
	}
}

// next notes which decision is folded next, and now and then sends what seems to be finished. The error is that of an earlier load.
func (e *eager) next(number uint64) error {
	e.at = number
	if number < e.looked+eagerly.every {
		return nil
	}
	e.looked = number
	if err := e.failed.Load(); err != nil {
		return *err
	}
	for t, x := range e.tables {
		if len(x.pending) < eagerly.least || x.again > eagerly.least/8 && x.again*20 > len(x.sent) {
			continue // too few, or rows of this table do not stay what they are
		}
		var ids []string
		for id, changed := range x.pending {
			if changed+eagerly.after <= number {
				ids = append(ids, id)
			}
		}
		if len(ids) >= eagerly.least {
			e.queue <- e.take(t, ids)
		}
	}
	return nil
}

// take gives rows in the order of their ids, and notes that they are sent.
func (e *eager) take(t *projections.Table, ids []string) filling {
	x := e.tables[t]
	slices.Sort(ids)
	f := filling{x.w, make([]any, len(ids))}
	for i, id := range ids {
		f.rows[i], _ = e.Get(t, id) // memory does not fail
		x.sent[id] = false
		delete(x.pending, id)
	}
	return f
}

// end waits for what is being loaded.
func (e *eager) end() error {
	close(e.queue)
	<-e.ended
	if err := e.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// rest gives the rows that were not sent, and statements for those that were and have changed since, after end.
func (e *eager) rest() (out []filling, again []statement) {
	for _, m := range projections.Models() {
		x := e.tables[m.Table]
		out = append(out, e.take(m.Table, slices.Collect(maps.Keys(x.pending))))
		changed := map[string]any{}
		for id, is := range x.sent {
			if is {
				changed[id], _ = e.Get(m.Table, id)
			}
		}
		if len(changed) > 0 {
			again = x.w.statements(again, changed)
		}
	}
	return out, again
}

// count gives the number of all rows.
func (e *eager) count() (rows uint64) {
	for _, x := range e.tables {
		rows += uint64(len(x.pending) + len(x.sent))
	}
	return rows
}

// Package moment answers what the read models were at any decision of the past, by folding the log: from the nearest snapshot before
// it, which is a local file, and the decisions that come after that.
//
// It promises that what a Moment shows is what the same fold gives from the log's first decision on; that a snapshot file is used only
// if it was written by this version, for this log (its block is in the log, with the same digest), and if each part that is read
// still has the digest that it was written with; anything else is told in the log, removed and made again. A few moments and pages are
// kept in memory, no more than a bound. It writes nothing but its own folder, which may be deleted at any time.
package moment

import (
	"context"
	"errors"
	"strings"
	"time"

	"cloudengine/events"
	"cloudengine/projections"
)

// Log is the log of one control plane. journal.Journal is one.
type Log interface {
	// Last gives the sequence of the last block, 0 if there is none.
	Last(ctx context.Context) (uint64, error)
	// At gives the position just after a block.
	At(ctx context.Context, seq uint64) (events.Position, error)
	// Load gives the blocks after a position, in order and checked, up to the present end or until f fails.
	Load(ctx context.Context, from events.Position, f func(events.Position, *events.Block) error) (events.Position, error)
}

var (
	// ErrNoMoment says that there is no such moment: it lies before the log or in the future, or its text cannot be read.
	ErrNoMoment = errors.New("no such moment")
	// ErrNotYet says that the snapshots are still being made. It can be asked again.
	ErrNotYet = errors.New("the snapshots are still being made")
)

// Moment is the read models as they were after one decision. It may be used by several goroutines.
type Moment struct {
	l     *layer
	time  time.Time
	marks []ref             // of the snapshots up to the one that it goes on from
	fail  func(error) error // hears of damage
}

// Number gives the decision after which this is so.
func (m *Moment) Number() uint64 { return m.l.number }

// Time gives the time of that decision's block.
func (m *Moment) Time() time.Time { return m.time }

// Get gives a row, or nil if there was none. It is not to be changed.
func (m *Moment) Get(t *projections.Table, id string) (any, error) {
	row, err := m.l.Get(t, id)
	return row, m.fail(err)
}

// Named gives the rows with a name, in the order of their ids. Spaces at its end do not count, as in the database.
func (m *Moment) Named(model *projections.Model, name string) ([]any, error) {
	var out []any
	begin := nameKey(name, "")
	ids := map[string]bool{}
	err := m.l.pages.prefix(m.l.base[namesTree+model.Table.Name], begin, func(key, _ string) error {
		ids[strings.TrimPrefix(key, begin)] = true
		return nil
	})
	if err != nil {
		return nil, m.fail(err)
	}
	for id, row := range m.l.rows[model.Table] {
		if row != nil && nameKey(nameOf(model, row), "") == begin {
			ids[id] = true
		} else {
			delete(ids, id)
		}
	}
	for _, id := range sortedKeys(ids) {
		row, err := m.l.Get(model.Table, id)
		if err != nil {
			return nil, m.fail(err)
		}
		out = append(out, row)
	}
	return out, nil
}

// Scan gives the rows of a table from an id on, in the order of their ids, until f says that it is enough. Rows whose JSON contains none
// of a list of texts, for any of the lists in needles, are left out where that is cheap to tell; f decides about the others.
func (m *Moment) Scan(t *projections.Table, from string, needles [][]string, f func(id string, row any) (more bool, err error)) error {
	var may func(string) bool
	if len(needles) > 0 {
		may = func(text string) bool {
			for _, any := range needles {
				if !containsAny(text, any) {
					return false
				}
			}
			return true
		}
	}
	return m.fail(m.l.scan(t, from, may, func(id string, row any) error {
		more, err := f(id, row)
		if err == nil && !more {
			err = errEnough
		}
		return err
	}))
}

func containsAny(text string, any []string) bool {
	for _, n := range any {
		if strings.Contains(text, n) {
			return true
		}
	}
	return false
}

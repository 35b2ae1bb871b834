package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"cloudengine/events"
)

// partID names an event of a decision, or with index -1 the decision itself.
type partID struct {
	number uint64
	index  int
}

// ParkedEvent is an event that waits in parked_events.
type ParkedEvent struct {
	Number uint64
	Index  int // of the event in its decision; -1: the decision itself
	Object events.Ref
	Type   string
	Error  string // why it could not be applied
	First  bool   // it is why its object is parked; others of the object only wait behind it
	Time   time.Time
}

// DroppedEvent is an event that a person gave up: the read models go on without it, in every rebuild too.
type DroppedEvent struct {
	Number uint64
	Index  int
	Object events.Ref
	Type   string
	Error  string // why it could not be applied
	Reason string // why it was dropped
	By     string // user
	At     time.Time
}

// ErrNotParked says that nothing of an object is parked.
var ErrNotParked = errors.New("nothing of it is parked")

// ReadParked gives the events that wait, in the order of the log: all, or those of one object; at most limit (0: all).
func ReadParked(ctx context.Context, db *sql.DB, of events.Ref, limit int) ([]ParkedEvent, error) {
	q, args := "SELECT number, idx, kind, object, type, reason, first, parked_at FROM "+parkedTable, []any{}
	if of != (events.Ref{}) {
		q, args = q+" WHERE kind = ? AND object = ?", []any{string(of.Kind), of.ID}
	}
	q += " ORDER BY number, idx"
	if limit > 0 {
		q, args = q+" LIMIT ?", append(args, limit)
	}
	rows, err := db.QueryContext(ctx, q, args...)
	if err != nil {
		return nil, fmt.Errorf("read parked events: %w", err)
	}
	defer rows.Close()
	out := []ParkedEvent{}
	for rows.Next() {
		var e ParkedEvent
		if err := rows.Scan(&e.Number, &e.Index, &e.Object.Kind, &e.Object.ID, &e.Type, &e.Error, &e.First, &e.Time); err != nil {
			return nil, fmt.Errorf("read parked events: %w", err)
		}
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read parked events: %w", err)
	}
	return out, nil
}

// ReadDropped gives the events that were given up, in the order of the log. Who compares rows with a fold has to leave them out of it.
func ReadDropped(ctx context.Context, db *sql.DB) ([]DroppedEvent, error) {
	return readDropped(ctx, db, live)
}

func readDropped(ctx context.Context, db querier, g generation) ([]DroppedEvent, error) {
	rows, err := db.QueryContext(ctx, "SELECT number, idx, kind, object, type, error, reason, dropped_by, dropped_at FROM "+g.of(droppedTable)+" ORDER BY number, idx")
	if err != nil {
		return nil, fmt.Errorf("read dropped events: %w", err)
	}
	defer rows.Close()
	out := []DroppedEvent{}
	for rows.Next() {
		var e DroppedEvent
		if err := rows.Scan(&e.Number, &e.Index, &e.Object.Kind, &e.Object.ID, &e.Type, &e.Error, &e.Reason, &e.By, &e.At); err != nil {
			return nil, fmt.Errorf("read dropped events: %w", err)
		}
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read dropped events: %w", err)
	}
	return out, nil
}

func dropping(g generation, d DroppedEvent) statement {
	return statement{fmt.Sprintf("note that an event of decision %d was dropped", d.Number),
		"INSERT INTO " + g.of(droppedTable) + " (number, idx, kind, object, type, error, reason, dropped_by, dropped_at) VALUES (?,?,?,?,?,?,?,?,?)",
		[]any{d.Number, d.Index, string(d.Object.Kind), d.Object.ID, d.Type, d.Error, d.Reason, d.By, d.At.UTC()}}
}

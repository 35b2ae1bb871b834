package main

import (
	"context"
	"database/sql"
	"log/slog"

	"cloudengine/commands/api"
	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/read"
)

// reader answers questions within what a user may see.
type reader struct{ rows *read.Reader }

func newReader(db *sql.DB, w read.Waiter, log *slog.Logger) reader {
	return reader{read.New(db, w, log)}
}

func scopeOf(u api.User) read.Scope {
	if u.Account == "" {
		return read.Everything(u.Name)
	}
	return read.Within(u.Name, u.Account)
}

// Get reads one object.
func (r reader) Get(ctx context.Context, u api.User, kind events.Kind, q events.ReadRequest) events.ReadAnswer {
	return r.rows.Get(ctx, scopeOf(u), kind, q)
}

// List reads a page.
func (r reader) List(ctx context.Context, u api.User, kind events.Kind, q events.ReadRequest) events.ReadAnswer {
	return r.rows.List(ctx, scopeOf(u), kind, q)
}

// Diff compares two moments.
func (r reader) Diff(ctx context.Context, u api.User, q wire.DiffRequest) wire.DiffAnswer {
	d, err := r.rows.Diff(ctx, scopeOf(u), read.DiffQuestion(q))
	if err != nil {
		return wire.DiffAnswer{Items: []read.RowDiff{}, Error: r.rows.Refused(err)}
	}
	return wire.DiffAnswer{From: d.From, To: d.To, Items: d.Items, Next: d.Next}
}

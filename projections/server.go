package projections

import (
	"time"

	"cloudengine/events"
)

// Server is a row of servers: a managing server, as it last made itself known.
type Server struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Release   string    `json:"release_name"` // RELEASE is a word of SQL
	Level     int       `json:"level"`
	KnownAt   time.Time `json:"known_at"`
	ChangedBy uint64    `json:"changed_by"`
	ChangedAt time.Time `json:"changed_at"`
}

var serverTable = newTable[Server]("servers")

var servers = &Model{
	Kind: events.KindServer, Table: serverTable, Scope: ScopeNone, Named: "name", event: serverEvent,
	Reads: []string{"server.announced.v1", "server.removed.v1"},
}

func serverEvent(f *fold, e events.Event) error {
	id := e.Aggregate.ID
	switch d := e.Data.(type) {
	case events.ServerAnnounced:
		x := &Server{ID: id, Name: id, Release: d.Release, Level: d.Level, KnownAt: f.now()}
		before, err := lookup[Server](f, serverTable, id)
		if err != nil {
			return err
		}
		if before != nil {
			x.KnownAt = before.KnownAt
		}
		f.put(serverTable, id, x)
	case events.ServerRemoved:
		f.delete(serverTable, id)
	}
	return nil
}

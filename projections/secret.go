package projections

import (
	"time"

	"cloudengine/events"
)

// Secret is a row of secrets: that there is one, never its value.
type Secret struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Version     uint64    `json:"version"`
	Fingerprint string    `json:"fingerprint"`
	ChangedBy   uint64    `json:"changed_by"`
	ChangedAt   time.Time `json:"changed_at"`
}

var secretTable = newTable[Secret]("secrets")

var secrets = &Model{
	Kind: events.KindSecret, Table: secretTable, Scope: ScopeNone, Named: "name", event: secretEvent,
	Reads: []string{"secret.set.v1"},
}

func secretEvent(f *fold, e events.Event) error {
	if d, ok := e.Data.(events.SecretSet); ok {
		f.put(secretTable, e.Aggregate.ID, &Secret{ID: e.Aggregate.ID, Name: d.Name, Version: d.Version, Fingerprint: d.Fingerprint})
	}
	return nil
}

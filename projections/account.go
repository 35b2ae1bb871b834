package projections

import (
	"time"

	"cloudengine/events"
)

// Account is a row of accounts.
type Account struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	ChangedBy uint64    `json:"changed_by"`
	ChangedAt time.Time `json:"changed_at"`
}

var accountTable = newTable[Account]("accounts")

var accounts = &Model{
	Kind: events.KindAccount, Table: accountTable, Scope: ScopeSelf, Named: "name", event: accountEvent,
	Reads: []string{"account.created.v1", "account.deleted.v1"},
}

func accountEvent(f *fold, e events.Event) error {
	switch d := e.Data.(type) {
	case events.AccountCreated:
		f.put(accountTable, e.Aggregate.ID, &Account{ID: e.Aggregate.ID, Name: d.Name, CreatedAt: f.now()})
	case events.AccountDeleted:
		f.delete(accountTable, e.Aggregate.ID)
	}
	return nil
}

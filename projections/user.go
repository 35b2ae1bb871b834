package projections

import (
	"time"

	"cloudengine/events"
)

// User is a row of users. A revoked user stays: the name is not given again.
type User struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Role        string    `json:"role"`
	Account     *string   `json:"account"`
	AccountName *string   `json:"account_name"`
	PublicKey   string    `json:"public_key"`
	Revoked     bool      `json:"revoked"`
	CreatedAt   time.Time `json:"created_at"`
	ChangedBy   uint64    `json:"changed_by"`
	ChangedAt   time.Time `json:"changed_at"`
}

var userTable = newTable[User]("users")

var users = &Model{
	Kind: events.KindUser, Table: userTable, Scope: ScopeOwn, Named: "name", event: userEvent,
	Reads: []string{"user.created.v1", "user.revoked.v1"},
}

func userEvent(f *fold, e events.Event) error {
	switch d := e.Data.(type) {
	case events.UserCreated:
		name, err := accountName(f, d.Account)
		if err != nil {
			return err
		}
		f.put(userTable, e.Aggregate.ID, &User{ID: e.Aggregate.ID, Name: d.Name, Role: d.Role, Account: known(string(d.Account)), AccountName: name,
			PublicKey: d.Key, CreatedAt: f.now()})
	case events.UserRevoked:
		return change(f, userTable, e.Aggregate.ID, func(u *User) { u.Revoked = true })
	}
	return nil
}

// accountName gives an account's name, nil if there is no such account.
func accountName(f *fold, id events.AccountID) (*string, error) {
	if id == "" {
		return nil, nil
	}
	a, err := lookup[Account](f, accountTable, string(id))
	if err != nil || a == nil {
		return nil, err
	}
	return &a.Name, nil
}

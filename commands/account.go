package commands

import (
	"regexp"

	"github.com/nats-io/nkeys"

	"cloudengine/events"
)

// Account is a customer: the owner of names.
type Account struct {
	ID      events.AccountID
	Name    string
	Objects int // VMs, templates and users that belong to it
}

// User is someone who may use the bus.
type User struct {
	ID      events.UserID
	Name    string
	Key     string
	Role    string
	Account events.AccountID
	Revoked bool
}

// Secret is a sealed value by name; the value is elsewhere.
type Secret struct {
	Name        string
	Version     uint64
	Fingerprint string
}

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func checkName(field, s string) *Rejection {
	if !nameForm.MatchString(s) {
		return invalid("field %q: %q is not a name: want 1 to 63 of a–z, 0–9 and \"-\", with a letter or digit at both ends", field, clip(s))
	}
	return nil
}

func checkID(field, s string) *Rejection {
	if len(s) != 36 || !events.IsToken(s) {
		return invalid("field %q: %q is not an id (a UUID)", field, clip(s))
	}
	return nil
}

// first gives the first of several findings.
func first(found ...*Rejection) *Rejection {
	for _, r := range found {
		if r != nil {
			return r
		}
	}
	return nil
}

// scope is the key of a name: names are unique in it.
func scope(kind events.Kind, account events.AccountID, name string) string {
	return string(kind) + "\x00" + string(account) + "\x00" + name
}

func (d *decision) freeName(kind events.Kind, account events.AccountID, name string) error {
	if id, taken := d.s.names[scope(kind, account, name)]; taken {
		return reject(events.CodeNameTaken, "%s %q is there already (%s)", kind, name, id)
	}
	return nil
}

// CreateAccount makes a customer.
type CreateAccount struct {
	Name string `json:"name"`
}

func (a CreateAccount) check() *Rejection { return checkName("name", a.Name) }

func decideCreateAccount(d *decision, a CreateAccount) error {
	if err := d.freeName(events.KindAccount, "", a.Name); err != nil {
		return err
	}
	d.add(events.KindAccount, d.newID(), events.AccountCreated{Name: a.Name})
	return nil
}

// DeleteAccount ends an account that owns nothing.
type DeleteAccount struct {
	Account events.AccountID `json:"account"`
}

func (a DeleteAccount) check() *Rejection { return checkID("account", string(a.Account)) }

func decideDeleteAccount(d *decision, a DeleteAccount) error {
	acc, err := d.account(a.Account)
	if err != nil {
		return err
	}
	if acc.Objects > 0 {
		return reject(events.CodeConflict, "account %q still owns %d VMs, templates or users: delete them first", acc.Name, acc.Objects)
	}
	if err := d.expect(events.KindAccount, acc.Name); err != nil {
		return err
	}
	d.add(events.KindAccount, string(acc.ID), events.AccountDeleted{})
	return nil
}

// account finds an account that the actor may see.
func (d *decision) account(id events.AccountID) (*Account, error) {
	acc, ok := d.s.accounts[id]
	if !ok || !d.owns(id) {
		return nil, reject(events.CodeNotFound, "there is no account %s", id)
	}
	return acc, nil
}

// CreateUser lets someone use the bus.
type CreateUser struct {
	Name    string           `json:"name"`
	Key     string           `json:"key"`
	Role    string           `json:"role"`
	Account events.AccountID `json:"account,omitempty"`
}

func (a CreateUser) check() *Rejection {
	if !nkeys.IsValidPublicUserKey(a.Key) {
		return invalid("field \"key\": want a public user nkey (it begins with U)")
	}
	if rank[a.Role] == 0 {
		return invalid("field \"role\": want read, operate or admin")
	}
	if a.Account != "" {
		if r := checkID("account", string(a.Account)); r != nil {
			return r
		}
	}
	return checkName("name", a.Name)
}

func decideCreateUser(d *decision, a CreateUser) error {
	if err := d.freeName(events.KindUser, "", a.Name); err != nil {
		return err
	}
	if _, used := d.s.keys[a.Key]; used {
		return reject(events.CodeConflict, "this key is in use: make a new one")
	}
	if a.Account != "" {
		if _, err := d.account(a.Account); err != nil {
			return err
		}
	}
	d.add(events.KindUser, d.newID(), events.UserCreated(a))
	return nil
}

// RevokeUser ends a user's access.
type RevokeUser struct {
	User events.UserID `json:"user"`
}

func (a RevokeUser) check() *Rejection { return checkID("user", string(a.User)) }

func decideRevokeUser(d *decision, a RevokeUser) error {
	u, ok := d.s.users[a.User]
	switch {
	case !ok:
		return reject(events.CodeNotFound, "there is no user %s", a.User)
	case u.Revoked:
		return nil
	case u.Name == d.c.Actor:
		return reject(events.CodeConflict, "you cannot revoke yourself: ask another admin")
	}
	if err := d.expect(events.KindUser, u.Name); err != nil {
		return err
	}
	d.add(events.KindUser, string(u.ID), events.UserRevoked{})
	return nil
}

// SetSecret records that a secret's value was sealed.
type SetSecret struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"`
}

func (a SetSecret) check() *Rejection {
	if a.Fingerprint == "" || len(a.Fingerprint) > 64 || !events.IsToken(a.Fingerprint) {
		return invalid("field \"fingerprint\": want 1 to 64 of a–z, 0–9")
	}
	return checkName("name", a.Name)
}

func decideSetSecret(d *decision, a SetSecret) error {
	old, ok := d.s.secrets[a.Name]
	version := uint64(1)
	if ok {
		if old.Fingerprint == a.Fingerprint {
			return nil
		}
		version = old.Version + 1
	}
	d.add(events.KindSecret, a.Name, events.SecretSet{Name: a.Name, Version: version, Fingerprint: a.Fingerprint})
	return nil
}

func (s *State) foldAccount(e events.Event, r events.Recorded) {
	switch data := e.Data.(type) {
	case events.AccountCreated:
		id := events.AccountID(e.Aggregate.ID)
		s.accounts[id] = &Account{ID: id, Name: data.Name}
		s.names[scope(events.KindAccount, "", data.Name)] = e.Aggregate.ID
	case events.AccountDeleted:
		id := events.AccountID(e.Aggregate.ID)
		if a, ok := s.accounts[id]; ok {
			delete(s.names, scope(events.KindAccount, "", a.Name))
			delete(s.accounts, id)
		}
	case events.UserCreated:
		id := events.UserID(e.Aggregate.ID)
		s.users[id] = &User{ID: id, Name: data.Name, Key: data.Key, Role: data.Role, Account: data.Account}
		s.names[scope(events.KindUser, "", data.Name)] = e.Aggregate.ID
		s.keys[data.Key] = e.Aggregate
		s.own(data.Account, 1)
	case events.UserRevoked: // its name stays taken: an actor in the log is one person for ever
		if u, ok := s.users[events.UserID(e.Aggregate.ID)]; ok && !u.Revoked {
			u.Revoked = true
			s.own(u.Account, -1)
		}
	case events.SecretSet:
		s.secrets[data.Name] = &Secret{data.Name, data.Version, data.Fingerprint}
	}
}

// own counts what belongs to an account.
func (s *State) own(a events.AccountID, n int) {
	if acc, ok := s.accounts[a]; ok {
		acc.Objects += n
	}
}

func (s *State) userByName(name string) (*User, bool) {
	u, ok := s.users[events.UserID(s.names[scope(events.KindUser, "", name)])]
	return u, ok
}

// UserByKey finds the user that a public nkey belongs to, unless revoked.
func (s *State) UserByKey(key string) (User, bool) {
	u, ok := s.users[events.UserID(s.keys[key].ID)]
	if !ok || u.Revoked || s.keys[key].Kind != events.KindUser {
		return User{}, false
	}
	return *u, true
}

// UserByName finds a user, unless revoked.
func (s *State) UserByName(name string) (User, bool) {
	u, ok := s.userByName(name)
	if !ok || u.Revoked {
		return User{}, false
	}
	return *u, true
}

package events

// AccountCreated makes a customer: the owner of names.
type AccountCreated struct {
	Name string `json:"name"`
}

// EventType gives the wire name.
func (AccountCreated) EventType() string { return "account.created.v1" }

// AccountDeleted ends an account that owns nothing any more.
type AccountDeleted struct{}

// EventType gives the wire name.
func (AccountDeleted) EventType() string { return "account.deleted.v1" }

// Roles of users. Each may do what the ones before it may.
const (
	RoleRead    = "read"    // reads
	RoleOperate = "operate" // and creates and changes VMs and templates; without an account: machines and hosts too
	RoleAdmin   = "admin"   // and accounts, users, secrets; removal of machines; overrides
)

// UserCreated lets someone use the bus. The user's name is the actor in subjects and decisions.
type UserCreated struct {
	Name    string    `json:"name"`
	Key     string    `json:"key"` // public nkey
	Role    string    `json:"role"`
	Account AccountID `json:"account,omitempty"` // sees and changes only what belongs to it; empty: all accounts
}

// EventType gives the wire name.
func (UserCreated) EventType() string { return "user.created.v1" }

// UserRevoked ends a user's access. The name is not given again.
type UserRevoked struct{}

// EventType gives the wire name.
func (UserRevoked) EventType() string { return "user.revoked.v1" }

// SecretSet says that a secret has a new value, which is sealed outside the log.
type SecretSet struct {
	Name        string `json:"name"`
	Version     uint64 `json:"version"`     // from 1
	Fingerprint string `json:"fingerprint"` // keyed: says nothing about the value
}

// EventType gives the wire name.
func (SecretSet) EventType() string { return "secret.set.v1" }

package broker

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"cloudengine/events"
)

// authenticator decides at each connect who a client is, and remembers who is connected so that the access can be taken back.
type authenticator struct {
	control string // password of our own in-process connections; never leaves the process
	patient bool   // in a cluster the fold of this server may be a little behind
	guard   *guard

	onMachine func(m Machine, key string) // a machine has connected with the key of its boot

	mu       sync.Mutex
	bus      *server.Server
	registry Registry          // nil until Open
	live     map[uint64]client // by connection id
	accounts map[string]*server.Account
	own      map[string]bool // durable consumers on FEED: the control plane's own
}

// client is who a live connection belongs to.
type client struct {
	actor string // user name, "machine:<id>" or "enrol:<id>"
	key   string // nkey, or the token's digest
	user  bool
}

const controlUser = "control"

// Check is called by nats-server for each connection that wants in.
func (a *authenticator) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	if o.Username == controlUser && subtle.ConstantTimeCompare([]byte(o.Password), []byte(a.control)) == 1 {
		c.RegisterUser(&server.User{Username: controlUser, Account: a.account(events.BusControl)})
		return true
	}
	a.mu.Lock()
	r, bus := a.registry, a.bus
	a.mu.Unlock()
	if r == nil {
		// Not ready to tell who is who. A client gives up for good after two refusals, so this must not look like one.
		_ = bus.DisconnectClientByID(c.GetID())
		return false
	}
	switch {
	case o.Nkey != "":
		return validSignature(o.Nkey, o.Sig, c.GetNonce()) && a.admitKey(c, r, o.Nkey)
	case o.Username == events.EnrolUser:
		return a.admitToken(c, r, o.Password)
	}
	return false
}

func (a *authenticator) account(name string) *server.Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.accounts[name]
}

// admitKey lets in the user or the machine that the key belongs to. The connection is remembered before the key is looked up:
// an access that is taken back meanwhile is found by one of the two.
func (a *authenticator) admitKey(c server.ClientAuthentication, r Registry, key string) bool {
	a.remember(c.GetID(), client{key: key})
	for end := time.Now().Add(time.Second); ; time.Sleep(20 * time.Millisecond) {
		if u, ok := r.UserByKey(key); ok && events.IsToken(u.Name) {
			if !a.enter(c, client{u.Name, key, true}) {
				return false
			}
			c.RegisterUser(&server.User{Username: u.Name, Account: a.account(events.BusUsers), Permissions: userPermissions(u, a.ownConsumers())})
			return true
		}
		if m, ok := r.MachineByKey(key); ok && events.IsToken(string(m.ID)) {
			if !a.enter(c, client{"machine:" + string(m.ID), key, false}) {
				return false
			}
			c.RegisterUser(&server.User{Username: "machine:" + string(m.ID), Account: a.account(events.BusMachines), Permissions: machinePermissions(m)})
			a.onMachine(m, key)
			return true
		}
		if !a.patient || time.Now().After(end) {
			a.forget(c.GetID())
			return false
		}
	}
}

// admitToken lets in a machine that has only its one-time token. The password is "<machine>.<token>".
func (a *authenticator) admitToken(c server.ClientAuthentication, r Registry, password string) bool {
	id, token, ok := strings.Cut(password, ".")
	if !ok || token == "" || !events.IsToken(id) {
		return false
	}
	sum := sha256.Sum256([]byte(token))
	digest, m := hex.EncodeToString(sum[:]), events.MachineID(id)
	who := client{"enrol:" + id, digest, false}
	a.remember(c.GetID(), who)
	if !r.TokenServed(m, digest) {
		a.forget(c.GetID())
		return false
	}
	if !a.enter(c, who) { // only now: who guesses tokens must not close the machine's own connections
		return false
	}
	c.RegisterUser(&server.User{Username: "enrol:" + id, Account: a.account(events.BusMachines), Permissions: enrolPermissions(m)})
	return true
}

// enter notes who a connection belongs to. Who is kept out for now is disconnected without an answer, as a refusal would be taken for
// the end of the access; who has too many connections loses the oldest.
func (a *authenticator) enter(c server.ClientAuthentication, who client) bool {
	a.remember(c.GetID(), who)
	if a.guard.barred(who.actor) {
		a.forget(c.GetID())
		_ = a.bus.DisconnectClientByID(c.GetID())
		return false
	}
	for _, id := range a.crowded(who) {
		_ = a.bus.DisconnectClientByID(id) // it may be gone
	}
	return true
}

// protect adds a consumer on FEED that is our own. Users that are connected come again, under the new permissions.
func (a *authenticator) protect(consumer string) {
	a.mu.Lock()
	known := a.own[consumer]
	a.own[consumer] = true
	a.mu.Unlock()
	if !known {
		a.kick(func(c client) bool { return c.user })
	}
}

func (a *authenticator) ownConsumers() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.own))
}

func (a *authenticator) remember(id uint64, c client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.live[id] = c
	if len(a.live)%256 == 0 {
		for id := range a.live {
			if a.bus.GetClient(id) == nil {
				delete(a.live, id)
			}
		}
	}
}

func (a *authenticator) forget(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.live, id)
}

// kick disconnects the clients that match, and gives their number.
func (a *authenticator) kick(match func(client) bool) int {
	a.mu.Lock()
	var ids []uint64
	for id, c := range a.live {
		if match(c) {
			ids = append(ids, id)
			delete(a.live, id)
		}
	}
	a.mu.Unlock()
	n := 0
	for _, id := range ids {
		if a.bus.DisconnectClientByID(id) == nil {
			n++
		}
	}
	return n
}

// validSignature says whether sig is the signature of the nonce by the key, as nats clients send it.
func validSignature(key, sig string, nonce []byte) bool {
	if sig == "" || len(nonce) == 0 || !nkeys.IsValidPublicUserKey(key) {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil {
		if raw, err = base64.StdEncoding.DecodeString(sig); err != nil {
			return false
		}
	}
	pub, err := nkeys.FromPublicKey(key)
	return err == nil && pub.Verify(nonce, raw) == nil
}

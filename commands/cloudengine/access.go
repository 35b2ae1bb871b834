package main

import (
	"errors"
	"fmt"
	"os"

	"cloudengine/commands"
	"cloudengine/commands/api"
	"cloudengine/commands/api/client"
	"cloudengine/commands/dispatch"
	"cloudengine/commands/dispatch/plane"

	"github.com/nats-io/nkeys"
)

// adminKeyFile holds the key of the user admin, in the data directory.
const adminKeyFile = "admin.nk"

// users tells the endpoints who is who, from the fold of the log.
type users struct{ loop *dispatch.Dispatcher }

// User finds a user that is not revoked.
func (u users) User(name string) (found api.User, ok bool) {
	u.loop.View(func(c dispatch.Core) {
		s, is := c.(*commands.State)
		if !is {
			return
		}
		var x commands.User
		if x, ok = s.UserByName(name); ok {
			found = api.User{Name: x.Name, Role: x.Role, Account: x.Account}
		}
	})
	return found, ok
}

// adminKey gives the public key of the administrator, making the file if there is none.
func adminKey(path string) (public string, made bool, err error) {
	public, err = client.WriteKeyFile(path, "admin")
	if err == nil {
		return public, true, nil
	}
	if !errors.Is(err, os.ErrExist) {
		return "", false, err
	}
	seed, _, err := client.ReadKeyFile(path)
	if err != nil {
		return "", false, err
	}
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return "", false, fmt.Errorf("read key %s: %w", path, err)
	}
	public, err = pair.PublicKey()
	return public, false, err
}

// keepAdminKey removes a key file that was made in vain: the log had its administrator already.
func (s *server) keepAdminKey(key string, made bool) error {
	path := s.path(adminKeyFile)
	_, known := plane.Registry(s.plane.Dispatch).UserByKey(key)
	switch {
	case known && made:
		s.log.Info("made the key of the user admin", "file", path)
	case known:
	case made:
		s.log.Warn("the log has its administrator already: use the key from the server that made the log", "missing", path)
		return os.Remove(path)
	default:
		s.log.Warn("the key file is of no user of this log", "file", path)
	}
	return nil
}

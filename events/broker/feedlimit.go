package broker

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// feedPerUser is how many consumers on FEED one user may have at a time, on one server.
const feedPerUser = 128

// feedUsers counts the users' consumers. It is safe for concurrent use.
type feedUsers struct {
	mu    sync.Mutex
	of    map[string]string // consumer to key
	count map[string]int    // by key
}

func newFeedUsers() *feedUsers {
	return &feedUsers{of: map[string]string{}, count: map[string]int{}}
}

// take counts one more; false: the user has too many.
func (f *feedUsers) take(key, consumer string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count[key] >= feedPerUser {
		return false
	}
	f.of[consumer], f.count[key] = key, f.count[key]+1
	return true
}

func (f *feedUsers) release(consumer string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, ok := f.of[consumer]
	if !ok {
		return
	}
	delete(f.of, consumer)
	if f.count[key]--; f.count[key] == 0 {
		delete(f.count, key)
	}
}

// follow releases consumers that are gone, for whatever reason.
func (f *feedUsers) follow(nc *nats.Conn) error {
	const deleted = "$JS.EVENT.ADVISORY.CONSUMER.DELETED.FEED."
	if _, err := nc.Subscribe(deleted+"*", func(m *nats.Msg) { f.release(strings.TrimPrefix(m.Subject, deleted)) }); err != nil {
		return fmt.Errorf("subscribe to consumers deleted on FEED: %w", err)
	}
	return nil
}

// asker gives the key of who sent a request. The server writes it into the request, over what a client may have put there.
func asker(m *nats.Msg) string {
	var who struct {
		User string `json:"user"`
	}
	_ = json.Unmarshal([]byte(m.Header.Get("Nats-Request-Info")), &who) // without it all count as one
	return who.User
}

// failed says whether the JetStream API refused.
func failed(answer []byte) bool {
	var a struct {
		Error json.RawMessage `json:"error"`
	}
	return json.Unmarshal(answer, &a) != nil || a.Error != nil
}

package events

// KindServer are the managing servers. Their ids are their names, not UUIDs.
const KindServer Kind = "server"

// ServerAnnounced says which release a server runs and the highest level of the log that it can read and write. A server says it when it
// has started, and it is recorded when it is something new.
type ServerAnnounced struct {
	Release string `json:"release"` // version of the program
	Level   int    `json:"level"`   // 1 or more
}

// EventType gives the wire name.
func (ServerAnnounced) EventType() string { return "server.announced.v1" }

// ServerRemoved says that a server is gone for good: the level of the log does not wait for it any more.
type ServerRemoved struct{}

// EventType gives the wire name.
func (ServerRemoved) EventType() string { return "server.removed.v1" }

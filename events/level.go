package events

// Level is the highest level of the log that this program can read and write. A log has a level, 1 when it begins, which an administrator
// raises when every server can read the next; an event that belongs to a level is written at that level or above. So servers of two
// releases can serve one log while it is upgraded, and the older one can take over from the newer.
const Level = 1

// levels holds the events that belong to a higher level than 1, by wire name. Whoever gives an event a new version, or makes a new event
// that a server must understand, raises Level once for the release and writes the name here.
var levels = map[string]int{}

// LevelOf gives the level that the log must have before an event of this wire name may be written.
func LevelOf(name string) int {
	if l, ok := levels[name]; ok {
		return l
	}
	return 1
}

// LogLevelRaised says that from here on the log may hold events of this level and those below. A server that knows less stops.
type LogLevelRaised struct {
	Level int `json:"level"` // from here on
}

// EventType gives the wire name.
func (LogLevelRaised) EventType() string { return "log.level_raised.v1" }

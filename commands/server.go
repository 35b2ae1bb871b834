package commands

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cloudengine/events"
)

// Server is a managing server, as it last made itself known.
type Server struct {
	Name    string
	Release string
	Level   int // the highest level of the log that it knows
}

// levels says what this program knows of levels; a test can try one that is not there yet.
type levels struct {
	knows int
	of    map[string]int // by event; the others are as events.LevelOf has them
}

func (l levels) need(event string) int {
	if n, ok := l.of[event]; ok {
		return n
	}
	return events.LevelOf(event)
}

// Level is the level of the log: no event of a higher one is in it.
func (s *State) Level() int { return s.level }

// Servers lists the servers that are not removed, by name.
func (s *State) Servers() []Server {
	out := make([]Server, 0, len(s.servers))
	for _, v := range s.servers {
		out = append(out, *v)
	}
	slices.SortFunc(out, func(a, b Server) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// AnnounceServer says what a server runs and knows.
type AnnounceServer struct {
	Server  string `json:"server"` // its name
	Release string `json:"release"`
	Level   int    `json:"level"` // the highest level of the log that it knows
}

const (
	maxRelease = 100
	maxLevel   = 1000000
)

func (a AnnounceServer) check() *Rejection {
	if err := checkName("server", a.Server); err != nil {
		return err
	}
	if a.Release == "" || len(a.Release) > maxRelease {
		return invalid("field \"release\": want 1 to %d bytes", maxRelease)
	}
	if a.Level < 1 || a.Level > maxLevel {
		return invalid("field \"level\": want 1 or more")
	}
	return nil
}

func decideAnnounceServer(d *decision, a AnnounceServer) error {
	if a.Level < d.s.level {
		return reject(events.CodeConflict, "the log is at level %d, and server %q knows %d: start a newer release there", d.s.level, a.Server, a.Level)
	}
	said := Server{a.Server, a.Release, a.Level}
	if known, ok := d.s.servers[a.Server]; ok && *known == said {
		return nil
	}
	d.add(events.KindServer, a.Server, events.ServerAnnounced{Release: a.Release, Level: a.Level})
	return nil
}

// ServerRef names a managing server.
type ServerRef struct {
	Server string `json:"server"` // its name
}

func (a ServerRef) check() *Rejection { return checkName("server", a.Server) }

func decideRemoveServer(d *decision, a ServerRef) error {
	if _, ok := d.s.servers[a.Server]; !ok {
		return reject(events.CodeNotFound, "there is no server %q (cloudengine server list)", a.Server)
	}
	d.add(events.KindServer, a.Server, events.ServerRemoved{})
	return nil
}

// RaiseLevel lets the log hold events of a higher level.
type RaiseLevel struct {
	Level int `json:"level"` // above the log's present one, and known to every server
}

func (a RaiseLevel) check() *Rejection {
	if a.Level < 2 || a.Level > maxLevel {
		return invalid("field \"level\": want a level above 1, at which every log begins")
	}
	return nil
}

func decideRaiseLevel(d *decision, a RaiseLevel) error {
	switch {
	case a.Level == d.s.level:
		return nil
	case a.Level < d.s.level:
		return reject(events.CodeConflict, "the log is at level %d, and its level never falls: it may hold what a server of level %d cannot read", d.s.level, a.Level)
	case a.Level > d.s.levels.knows:
		return reject(events.CodeConflict, "the server that decides knows levels up to %d: start a newer release everywhere first", d.s.levels.knows)
	}
	var short []string
	for _, v := range d.s.Servers() {
		if v.Level < a.Level {
			short = append(short, fmt.Sprintf("%s (%s) up to %d", v.Name, v.Release, v.Level))
		}
	}
	if len(short) > 0 {
		return reject(events.CodeConflict, "not every server can read level %d: %s. Start a newer release there, or remove what is gone for good (cloudengine server remove)",
			a.Level, strings.Join(short, ", "))
	}
	d.add(events.KindLog, events.LogID, events.LogLevelRaised{Level: a.Level})
	return nil
}

// readable refuses events that some server could not read yet.
func (d *decision) readable() error {
	at := d.s.level
	for _, e := range d.events {
		switch p := e.Data.(type) {
		case events.LogOpened:
			at = max(at, 1)
		case events.LogLevelRaised:
			at = p.Level
		}
		if need := d.s.levels.need(e.Type); need > at {
			d.events = nil
			return reject(events.CodeConflict, "this needs a log of level %d, and the log is at level %d: when every server runs the new release, raise it (cloudengine log raise-level)", need, at)
		}
	}
	return nil
}

func (s *State) foldServer(e events.Event) {
	name := e.Aggregate.ID
	switch p := e.Data.(type) {
	case events.ServerAnnounced:
		s.servers[name] = &Server{name, p.Release, p.Level}
	case events.ServerRemoved:
		delete(s.servers, name)
	}
}

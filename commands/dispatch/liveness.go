package dispatch

import (
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"cloudengine/commands"
	"cloudengine/events"
)

// liveness remembers, in memory only, when each machine was last heard. It proves nothing: it makes commands, which the decider may
// refuse.
type liveness struct {
	limit time.Duration

	mu    sync.Mutex
	last  map[events.MachineID]time.Time // silence is counted from here; not always a sign of life
	signs map[events.MachineID]time.Time // true signs of life only
	next  time.Time                      // of the next look
}

const machinePrefix = "machine:"

func isUser(actor string) bool { return !strings.Contains(actor, ":") }

func (l *liveness) heardActor(actor string, now time.Time) {
	if id, ok := strings.CutPrefix(actor, machinePrefix); ok {
		l.heard(events.MachineID(id), now)
	}
}

func (l *liveness) heard(m events.MachineID, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != nil {
		l.last[m], l.signs[m] = now, now
	}
}

func (l *liveness) lastHeard(m events.MachineID) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.signs[m]
}

// restart forgets what was heard: a dispatcher that becomes active was told nothing before, which must not count as silence.
func (l *liveness) restart() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.signs, l.next = map[events.MachineID]time.Time{}, map[events.MachineID]time.Time{}, time.Time{}
}

// look gives commands about the machines that fell silent or are heard again. It does so a few times within the limit.
func (l *liveness) look(core Core, now time.Time) []commands.Command {
	list, ok := core.(interface{ Machines() []commands.Machine })
	if !ok {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.next) {
		return nil
	}
	l.next = now.Add(l.limit / 10)
	var out []commands.Command
	for _, m := range list.Machines() {
		if m.Boot == "" || m.BootOver {
			continue
		}
		last, known := l.last[m.ID]
		if !known {
			l.last[m.ID] = now
			if m.Silent {
				l.last[m.ID] = now.Add(-l.limit) // its return must be heard
			}
			continue
		}
		switch quiet := now.Sub(last); {
		case !m.Silent && quiet > l.limit:
			out = append(out, livenessCommand("report_silent", m))
		case m.Silent && quiet < l.limit:
			out = append(out, livenessCommand("report_returned", m))
		}
	}
	return out
}

func livenessCommand(verb string, m commands.Machine) commands.Command {
	args, _ := json.Marshal(commands.SilenceReport{Machine: m.ID, Boot: m.Boot}) // strings only
	return commands.Command{
		Intent: events.IntentID(uuid.NewString()), Actor: commands.ActorLiveness, Kind: events.KindMachine, Verb: verb, Args: args,
	}
}

package commands

import (
	"fmt"
	"time"

	"cloudengine/events"
)

// A machine that lies, or whose agent is broken, must not fill the log, which is kept for ever. What it may have recorded in one hour is
// far above what a host with a thousand VMs needs; what is above is answered and not stored. An enrolment is never refused for that: its
// token is proof enough, and the netboot service bounds tokens.
const (
	maxContradictions = 12       // in an hour of the log, of one machine
	maxReports        = 20000    // that changed something
	maxReportBytes    = 64 << 20 // of their arguments
)

// spent is what a machine has had recorded in an hour of the log.
type spent struct {
	hour                           int64
	contradictions, reports, bytes int
}

func (s *spent) roll(now time.Time) {
	if h := now.Unix() / 3600; h != s.hour {
		*s = spent{hour: h}
	}
}

// add folds a recorded decision of the machine.
func (s *spent) add(r events.Recorded) {
	s.roll(r.Time)
	s.bytes += len(r.Args)
	if isContradiction(r.Outcome) {
		s.contradictions++
	} else if r.Verb == "report" {
		s.reports++
	}
}

func isContradiction(o events.Outcome) bool {
	return o.Code == events.CodeContradicts || o.Code == events.CodeTwoMachines
}

// bounded gives a decision of a machine as it may be recorded: itself, or an answer that is not stored. The first that is too much in an
// hour is recorded as a contradiction, so that somebody hears of it.
func (s *State) bounded(out events.Decision, now time.Time) events.Decision {
	m, ok := s.machines[machineOfActor(out.Actor)]
	if !ok || !Stored(out) {
		return out
	}
	have := m.spent
	have.roll(now)
	over := out.Verb == "report" && (have.reports >= maxReports || have.bytes+len(out.Args) > maxReportBytes)
	if over {
		text := fmt.Sprintf("machine %s reports more changes in an hour than a host can have: no more are taken until the next", m.Name)
		out.Events = nil
		out.Outcome = events.Outcome{Status: events.Refused, Code: events.CodeContradicts, Message: text}
		if m.complaint == text || len(out.Args) > maxReportBytes/64 {
			out.Outcome.Code = events.CodeBusy
		}
	}
	if isContradiction(out.Outcome) && have.contradictions >= maxContradictions {
		out.Outcome.Code = events.CodeStale
		if over {
			out.Outcome.Code = events.CodeBusy
		}
		out.Outcome.Message += " (not recorded: too many contradictions of this machine in an hour)"
	}
	return out
}

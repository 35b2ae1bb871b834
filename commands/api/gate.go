package api

import (
	"strings"
	"sync"
	"time"

	"cloudengine/events"

	"golang.org/x/time/rate"
)

// How much of the server one sender may keep busy at a time, so that who sends without end makes himself wait and not the others.
const (
	mostIntents = 256 // intents under way of one user
	mostReads   = 128 // questions
	mostScans   = 4   // questions that read the log
	mostOthers  = 32  // uploads, consoles, reports
	toldPerSec  = 500 // answers that only say "busy"; what comes on top is dropped, and asked again by its sender
	idleSender  = time.Minute
)

// noLimit is the rate from which on nobody is held back.
const noLimit rate.Limit = 1e9

// Refusals are stored, for ever. Who is refused more often than this waits; each request of an honest user may be refused.
const (
	refusalsPerSec  = 200
	refusalsAtATime = 5000
)

// gate knows what each sender has under way. It is safe for concurrent use.
type gate struct {
	mu      sync.Mutex
	senders map[string]*sender
	swept   time.Time
}

// sender is one user or one machine.
type sender struct {
	underWay map[string]int // by class of request
	rate     *rate.Limiter
	told     *rate.Limiter
	refused  *rate.Limiter
	last     time.Time
}

type verdict int

const (
	pass verdict = iota
	busy         // answer that it is too much
	drop         // do not even answer
)

func newGate() *gate { return &gate{senders: map[string]*sender{}} }

// who gives the sender and the class of a request by its subject, and how many of the class he may have under way.
func classOf(subject string) (who, class string, most int) {
	kind, rest, _ := strings.Cut(subject, ".")
	who, rest, _ = strings.Cut(rest, ".")
	switch {
	case kind == "rep":
		return "machine:" + who, kind, mostOthers
	case kind == "do":
		return who, kind, mostIntents
	case kind == "read" && (strings.HasPrefix(rest, "log.") || strings.HasPrefix(rest, "cloud.")):
		return who, "log", mostScans
	case kind == "read":
		return who, kind, mostReads
	}
	return who, kind, mostOthers
}

// enter asks whether a request may be worked on now. After pass, leave must be called once.
func (g *gate) enter(who, class string, most int, perSecond rate.Limit) verdict {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sender(who, perSecond, now)
	s.last = now
	if s.underWay[class] >= most || s.refused.TokensAt(now) < 1 || !s.rate.AllowN(now, 1) {
		if s.told.AllowN(now, 1) {
			return busy
		}
		return drop
	}
	s.underWay[class]++
	return pass
}

func (g *gate) sender(who string, perSecond rate.Limit, now time.Time) *sender {
	s := g.senders[who]
	if s != nil {
		return s
	}
	if now.Sub(g.swept) > idleSender {
		g.swept = now
		for name, old := range g.senders {
			if now.Sub(old.last) > idleSender && old.idle() {
				delete(g.senders, name)
			}
		}
	}
	s = &sender{
		underWay: map[string]int{}, rate: rate.NewLimiter(perSecond, int(min(perSecond, 1e9))), told: rate.NewLimiter(toldPerSec, toldPerSec),
		refused: rate.NewLimiter(refusalsPerSec, refusalsAtATime),
	}
	g.senders[who] = s
	return s
}

func (s *sender) idle() bool {
	for _, n := range s.underWay {
		if n > 0 {
			return false
		}
	}
	return true
}

// leave ends a request; answer is what it was told.
func (g *gate) leave(who, class string, answer any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.senders[who]
	if s == nil {
		return
	}
	s.underWay[class]--
	if a, ok := answer.(events.Answer); ok && class == "do" && a.Number > 0 && a.Outcome.Status == events.Refused {
		s.refused.Allow()
	}
}

// admit answers what is too much, and says whether to go on.
func (s *Service) admit(subject string, answerBusy func(text string)) (leave func(answer any), ok bool) {
	who, class, most := classOf(subject)
	if class == "own" || s.cfg.ActorRate >= noLimit { // the control plane's own; a benchmark
		return func(any) {}, true
	}
	limit := s.cfg.ActorRate
	if strings.HasPrefix(who, "machine:") {
		limit = s.cfg.MachineRate
	}
	switch s.gate.enter(who, class, most, limit) {
	case drop:
		return nil, false
	case busy:
		answerBusy("too much at once of " + who + ": ask again with the same id")
		return nil, false
	}
	return func(answer any) { s.gate.leave(who, class, answer) }, true
}

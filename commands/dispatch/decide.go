package dispatch

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"cloudengine/commands"
	"cloudengine/events"
)

// decideOwn decides what is to be decided before anything new: reactions, deadlines, and commands whose block was not stored.
func (l *lead) decideOwn() {
	for len(l.own) > 0 && !l.full() {
		c := l.own[0]
		l.own = l.own[1:]
		if !l.decide(&pending{cmd: c}) {
			l.own = append([]commands.Command{c}, l.own...)
			return
		}
	}
	for len(l.own) == 0 && len(l.again) > 0 && !l.full() {
		p := l.again[0]
		l.again = l.again[1:]
		l.take(p)
	}
}

// take decides a command that came in.
func (l *lead) take(p *pending) {
	if !p.until.IsZero() && time.Now().After(p.until) {
		p.reply(events.Answer{}, context.DeadlineExceeded)
		return
	}
	l.current = p
	if !l.decide(p) {
		l.again = append([]*pending{p}, l.again...)
	}
	l.current = nil
}

// decide decides one command on the live fold. False: it must begin a block of its own, and the open one is sealed.
func (l *lead) decide(p *pending) bool {
	if !p.dry {
		if n, o, reused, found := l.core.Seen(p.cmd); found {
			if reused {
				l.answer(p, refuse(p.cmd, events.CodeIDReused, fmt.Sprintf("this id was used for another request, which is decision %d", n)))
			} else {
				l.answer(p, events.Answer{ID: p.cmd.Intent, Number: n, Outcome: o})
			}
			return true
		}
	}
	term := l.term(p.cmd)
	if !l.open.empty() && term != l.open.term {
		l.open.sealed = true
		return false
	}
	if l.open.empty() {
		l.open.time, l.open.term = l.now(), term
	}
	decision := l.core.Decide(p.cmd, l.open.time)
	answer := events.Answer{ID: p.cmd.Intent, Outcome: decision.Outcome}
	if p.dry {
		answer.Events = decision.Events
		l.answer(p, answer)
		return true
	}
	if !commands.Stored(decision) {
		l.answer(p, answer)
		return true
	}
	l.record(p, decision)
	return true
}

// record folds a decision and takes it into the open block.
func (l *lead) record(p *pending, decision events.Decision) {
	encoded, err := l.enc.decision(&decision)
	if err == nil && len(encoded) > maxDecision {
		err = fmt.Errorf("what follows from it has %d bytes, and %d are allowed", len(encoded), maxDecision)
	}
	if err != nil {
		l.answer(p, refuse(p.cmd, events.CodeInvalid, err.Error()))
		return
	}
	r := events.Recorded{Number: l.core.Next(), Term: l.open.term, Time: l.open.time, Decision: decision}
	l.mu.Lock()
	l.core.Evolve(r)
	l.mu.Unlock()
	l.own, l.folded = append(l.own, l.core.React(r)...), true
	l.open.add(r, encoded)
	l.open.waiting = append(l.open.waiting, waiting{p, events.Answer{ID: p.cmd.Intent, Number: r.Number, Time: r.Time, Outcome: decision.Outcome}})
}

// answer answers when everything that was decided so far is stored: the answer may rest on it.
func (l *lead) answer(p *pending, a events.Answer) {
	switch {
	case !l.open.empty():
		l.open.waiting = append(l.open.waiting, waiting{p, a})
	case l.inflight != nil:
		l.inflight.waiting = append(l.inflight.waiting, waiting{p, a})
	default:
		p.reply(a, nil)
	}
}

// term is the term of the block that the command may be in.
func (l *lead) term(c commands.Command) uint64 {
	if c.Kind == events.KindLog && c.Verb == "open" {
		var a commands.OpenLog
		if json.Unmarshal(c.Args, &a) == nil && a.Term > l.core.Term() {
			return a.Term
		}
	}
	return l.core.Term()
}

// now is the time of a block that begins now: never before that of the block before.
func (l *lead) now() time.Time {
	now, last := l.o.Clock().UTC().Truncate(time.Microsecond), l.pos.Time
	if l.inflight != nil {
		last = l.inflight.time
	}
	if now.Before(last) {
		return last
	}
	return now
}

// due gives the commands of the deadlines that have passed.
func (l *lead) due() []commands.Command {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.core.Due(l.now())
}

func (l *lead) look() []commands.Command {
	if len(l.own) > 0 {
		return nil
	}
	return l.liveness.look(l.core, l.o.Clock())
}

// setTimer arms the timer for the next deadline, at most a millisecond from now when it has passed.
func (l *lead) setTimer(t *time.Timer) {
	l.mu.Lock()
	at, ok := l.core.NextDeadline()
	l.mu.Unlock()
	wait := time.Hour
	if ok {
		wait = max(at.Sub(l.o.Clock()), time.Millisecond)
	}
	t.Reset(wait)
	l.folded = len(l.own) > 0
}

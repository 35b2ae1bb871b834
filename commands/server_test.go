package commands

import (
	"strings"
	"testing"

	"cloudengine/events"
)

// leveled is a world whose program knows level 2, at which accounts are created.
func leveled(t *testing.T) *world {
	w := newWorld(t)
	w.s.levels = levels{2, map[string]int{"account.created.v1": 2}}
	return w
}

func (w *world) announce(name string, level int) events.Decision {
	return w.as(ActorServer, "server.announce", AnnounceServer{name, "9.9", level})
}

func TestALevelIsRaisedWhenEveryServerKnowsIt(t *testing.T) {
	w := leveled(t)
	w.must(w.announce("s1", 2))
	w.must(w.announce("s2", 1))
	d := w.do("log.raise_level", RaiseLevel{2})
	w.refused(d, events.CodeConflict, "")
	if !strings.Contains(d.Outcome.Message, "s2 (9.9) up to 1") || strings.Contains(d.Outcome.Message, "s1") {
		t.Errorf("it does not name who cannot: %s", d.Outcome.Message)
	}
	w.refused(w.do("account.create", CreateAccount{Name: "new"}), events.CodeConflict, "")
	if len(w.s.accounts) > 1 {
		t.Fatalf("an event of level 2 was written at level %d", w.s.Level())
	}
	w.must(w.announce("s2", 2))
	w.must(w.do("log.raise_level", RaiseLevel{2}))
	if w.s.Level() != 2 {
		t.Fatalf("level %d after it was raised to 2", w.s.Level())
	}
	w.must(w.do("account.create", CreateAccount{Name: "new"}))
	if d := w.do("log.raise_level", RaiseLevel{2}); d.Outcome.Status != events.Nothing {
		t.Errorf("raised again: %+v", d.Outcome)
	}
	w.refused(w.announce("s3", 1), events.CodeConflict, "")
}

func TestAServerThatIsGoneIsNotWaitedFor(t *testing.T) {
	w := leveled(t)
	w.must(w.announce("old", 1))
	w.must(w.announce("s1", 2))
	w.refused(w.do("log.raise_level", RaiseLevel{2}), events.CodeConflict, "")
	w.must(w.do("server.remove", ServerRef{"old"}))
	w.refused(w.do("server.remove", ServerRef{"old"}), events.CodeNotFound, "")
	w.must(w.do("log.raise_level", RaiseLevel{2}))
	w.refused(w.do("log.raise_level", RaiseLevel{3}), events.CodeConflict, "") // the program that decides does not know it
}

func TestAServerIsRecordedWhenItIsNew(t *testing.T) {
	w := newWorld(t)
	w.must(w.announce("s1", 1))
	if d := w.announce("s1", 1); len(d.Events) > 0 || Stored(d) {
		t.Errorf("the same again: %+v", d)
	}
	w.must(w.as(ActorServer, "server.announce", AnnounceServer{"s1", "10.0", 1}))
	if all := w.s.Servers(); len(all) != 1 || all[0].Release != "10.0" {
		t.Errorf("servers %+v", all)
	}
	for _, a := range []AnnounceServer{{"", "1", 1}, {"S 1", "1", 1}, {"s1", "", 1}, {"s1", strings.Repeat("x", 101), 1}, {"s1", "1", 0}} {
		w.refused(w.as(ActorServer, "server.announce", a), events.CodeInvalid, "")
	}
	w.refused(w.do("log.raise_level", RaiseLevel{1}), events.CodeInvalid, "")
}

func TestANewLogBeginsAtTheHighestLevel(t *testing.T) {
	s := NewState()
	s.levels = levels{knows: 3}
	d := s.Decide(Command{Kind: events.KindLog, Verb: "open", Args: mustArgs(OpenLog{1, events.CauseCreated}), Actor: ActorBootstrap, Intent: events.FreeFormID("a", "b")}, s.Time())
	s.Evolve(events.Recorded{Number: 1, Term: 1, Decision: d})
	if s.Level() != 3 {
		t.Fatalf("level %d, want 3: %+v", s.Level(), d)
	}
}

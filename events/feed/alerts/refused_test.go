package alerts

import (
	"context"
	"errors"
	"testing"
	"time"

	"cloudengine/events"
)

// replay is a log that ends.
type replay []events.Recorded

var errEnd = errors.New("the log ends here")

func (r replay) Follow(_ context.Context, from uint64, each func([]events.Recorded) error) error {
	for _, d := range r {
		if d.Number > from {
			if err := each([]events.Recorded{d}); err != nil {
				return err
			}
		}
	}
	return errEnd
}

// TestRefusedContradictions: FEED does not tell of what was refused, so the log is looked through, each part of it once or again.
func TestRefusedContradictions(t *testing.T) {
	js := startStream(t)
	refused := func(n uint64, actor, code string) events.Recorded {
		return events.Recorded{Number: n, Term: 1, Time: time.Now(), Decision: events.Decision{
			Actor: actor, Outcome: events.Outcome{Status: events.Refused, Code: code, Message: "two of them"}}}
	}
	log := replay{
		refused(3, "machine:old", events.CodeTwoMachines), // before the book was there
		refused(5, "machine:m1", events.CodeTwoMachines), refused(6, "ann", events.CodeContradicts), refused(7, "machine:m1", events.CodeStale),
		refused(8, "machine:m2", events.CodeContradicts), refused(9, "machine:m1", events.CodeTwoMachines),
	}
	for range 3 { // it is killed, and begins again
		b := open(t, js)
		if err := b.Contradictions(t.Context(), log, 4); !errors.Is(err, errEnd) {
			t.Fatal(err)
		}
	}
	b := open(t, js)
	list := b.List(false)
	if len(list) != 2 || list[0].Key != "contradiction/machine/m2/contradicts" || list[1].Key != "contradiction/machine/m1/two_machines" || list[1].Times != 2 {
		t.Errorf("%+v", list)
	}
	// a restored log is shorter, and goes on otherwise
	if err := b.Contradictions(t.Context(), replay{refused(5, "machine:m3", events.CodeTwoMachines)}, 4); !errors.Is(err, errEnd) || len(b.List(false)) != 3 {
		t.Errorf("%v: %+v", err, b.List(false))
	}
}

// TestThePastIsNotToldAgain: FEED was made anew, and tells of months.
func TestThePastIsNotToldAgain(t *testing.T) {
	js, s := startStream(t), &told{}
	b := open(t, js, s)
	old := func(m events.FeedMessage, age time.Duration) events.FeedMessage {
		m.Time = time.Now().Add(-age).UTC().Format(time.RFC3339Nano)
		return m
	}
	term := message(9, events.KindLog, events.LogOpened{Term: 2, Cause: events.CauseReopened})
	b.tell(t, old(unknown, 48*time.Hour), old(known, 47*time.Hour), old(term, 25*time.Hour), old(again, time.Hour))
	fresh := message(15, events.KindMachine, events.MachineSilent{})
	b.tell(t, fresh)
	await(t, "the fresh one", func() bool { return len(s.list()) > 0 })
	if got := s.list(); len(got) != 1 || got[0] != idOf(Of(fresh)[0])+".raised" {
		t.Errorf("told: %v", got)
	}
	list := b.List(false)
	if len(list) != 2 {
		t.Fatalf("open: %+v", list)
	}
	if held := list[1]; held.Rule != RuleUnknown || held.Sent[0].Next.IsZero() {
		t.Errorf("what is open for an hour is not told of later: %+v", held)
	}
}

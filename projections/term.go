package projections

import (
	"encoding/json"
	"fmt"
	"time"

	"cloudengine/events"
)

// Term is a row of terms: from when on the log is in a term, and why.
type Term struct {
	ID         string          `json:"id"`
	Cause      string          `json:"cause"`
	OpenedAt   time.Time       `json:"opened_at"`
	Level      int             `json:"level"`
	Settled    bool            `json:"settled"`
	SettledAt  *time.Time      `json:"settled_at"`
	Unreported json.RawMessage `json:"unreported"`
	ChangedBy  uint64          `json:"changed_by"`
	ChangedAt  time.Time       `json:"changed_at"`
}

var termTable = newTable[Term]("terms")

var terms = &Model{
	Kind: events.KindLog, Table: termTable, Scope: ScopeNone, event: termEvent,
	Reads: []string{"log.opened.v1", "log.settled.v1", "log.level_raised.v1"},
}

// termID sorts as the terms do.
func termID(term uint64) string { return fmt.Sprintf("%06d", term) }

func termEvent(f *fold, e events.Event) error {
	switch d := e.Data.(type) {
	case events.LogOpened:
		t := &Term{ID: termID(d.Term), Cause: d.Cause, OpenedAt: f.now(), Level: 1}
		before, err := lookup[Term](f, termTable, termID(d.Term-1))
		if err != nil {
			return err
		}
		if before != nil {
			t.Level = before.Level
		}
		if d.Cause == events.CauseCreated {
			t.Settled, t.SettledAt = true, &t.OpenedAt
		}
		f.put(termTable, t.ID, t)
	case events.LogLevelRaised:
		return change(f, termTable, termID(f.rec.Term), func(t *Term) { t.Level = d.Level })
	case events.LogSettled:
		return change(f, termTable, termID(d.Term), func(t *Term) {
			now := f.now()
			t.Settled, t.SettledAt = true, &now
			if len(d.Unreported) > 0 {
				t.Unreported = asJSON(d.Unreported)
			}
		})
	}
	return nil
}

package workers_test

import (
	"encoding/json"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
)

// Documents of a log that was given up end with the first of the next term: what still holds is said again.
func TestI1AHigherTermEndsAllOfLowerOnes(t *testing.T) {
	w := workers.NewWishes("m", "b")
	doc := func(kind events.Kind, id string, term, number uint64) desired.Document {
		return desired.Document{Version: desired.Version, Machine: "m", Boot: "b", Kind: kind, ID: id,
			Generation: events.Generation{Term: term, Number: number}, Body: json.RawMessage("{}")}
	}
	offer := func(d desired.Document, want workers.Verdict, left int, term uint64) {
		t.Helper()
		if v := w.Take(d); v != want {
			t.Fatalf("%s of %v: %s, want %s", d.ID, d.Generation, v, want)
		}
		if docs, is := w.Present(); len(docs) != left || is != term {
			t.Fatalf("after %s of %v: %d documents in term %d, want %d in %d", d.ID, d.Generation, len(docs), is, left, term)
		}
	}
	offer(doc(desired.KindDomain, "x", 1, 7), workers.Taken, 1, 1)
	offer(doc(desired.KindDomain, "y", 1, 9), workers.Taken, 2, 1)
	offer(doc(desired.KindTerm, "m", 2, 5), workers.Taken, 1, 2)
	offer(doc(desired.KindDomain, "x", 1, 8), workers.LowerTerm, 1, 2)
	offer(doc(desired.KindDomain, "y", 2, 6), workers.Taken, 2, 2)
	kept := workers.NewWishes("m", "b")
	kept.Restore([]desired.Document{doc(desired.KindTerm, "m", 2, 5), doc(desired.KindDomain, "x", 1, 7), doc(desired.KindDomain, "y", 2, 6)})
	if docs, term := kept.Present(); len(docs) != 2 || term != 2 {
		t.Fatalf("after a restart of the agent: %v in term %d", docs, term)
	}
}

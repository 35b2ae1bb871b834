package workers

import (
	"sort"
	"sync"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// Verdict is what became of a document that was offered.
type Verdict string

// The verdicts.
const (
	Taken     Verdict = "taken"
	Same      Verdict = "same"       // this generation is held already
	Older     Verdict = "older"      // a newer generation of the object is held
	LowerTerm Verdict = "lower_term" // a document of a higher term was seen: it comes from a log that was given up
	OtherBoot Verdict = "other_boot"
	NotOurs   Verdict = "not_ours" // for another machine
)

// Wishes holds the newest document of every object for one boot of one machine. It is safe for concurrent use.
type Wishes struct {
	machine events.MachineID
	boot    string

	mu   sync.Mutex
	docs map[events.Ref]desired.Document
	term uint64
}

// NewWishes makes an empty set for one boot.
func NewWishes(machine events.MachineID, boot string) *Wishes {
	return &Wishes{machine: machine, boot: boot, docs: map[events.Ref]desired.Document{}}
}

// Judge says what would become of d, and changes nothing.
func (w *Wishes) Judge(d desired.Document) Verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.judge(d)
}

func (w *Wishes) judge(d desired.Document) Verdict {
	switch {
	case d.Machine != w.machine:
		return NotOurs
	case d.Boot != w.boot:
		return OtherBoot
	}
	if have, ok := w.docs[ref(d)]; ok {
		switch c := d.Generation.Compare(have.Generation); {
		case c == 0:
			return Same
		case c < 0:
			return Older
		}
	}
	if d.Generation.Term < w.term {
		return LowerTerm
	}
	return Taken
}

// Take keeps d if it is the newest of its object, and says so. The first document of a higher term ends all of lower ones: the log that
// they came from was given up, and what still holds is said again.
func (w *Wishes) Take(d desired.Document) Verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.judge(d)
	if v != Taken {
		return v
	}
	if d.Generation.Term > w.term {
		clear(w.docs)
		w.term = d.Generation.Term
	}
	w.docs[ref(d)] = d
	return v
}

// Generation gives the generation that is held for an object.
func (w *Wishes) Generation(o events.Ref) (events.Generation, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := w.docs[o]
	return d.Generation, ok
}

// All lists the documents, by kind and id.
func (w *Wishes) All() []desired.Document {
	docs, _ := w.Present()
	return docs
}

// Present is All, with the term that all of them are of.
func (w *Wishes) Present() (docs []desired.Document, term uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]desired.Document, 0, len(w.docs))
	for _, d := range w.docs {
		out = append(out, d)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Kind != out[j].Kind {
			return out[i].Kind < out[j].Kind
		}
		return out[i].ID < out[j].ID
	})
	return out, w.term
}

func ref(d desired.Document) events.Ref { return events.Ref{Kind: d.Kind, ID: d.ID} }

// Restore takes documents that were kept, in whatever order.
func (w *Wishes) Restore(docs []desired.Document) {
	sort.SliceStable(docs, func(i, j int) bool { return docs[i].Generation.Compare(docs[j].Generation) < 0 })
	for _, d := range docs {
		w.Take(d)
	}
}

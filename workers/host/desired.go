package host

import (
	"encoding/json"
	"sync"

	"cloudengine/events"
	"cloudengine/events/desired"
)

// Wish is what one document wants of one VM.
type Wish struct {
	desired.Domain
	Generation events.Generation
}

// OrphanWish says that a domain which is not ours shall go.
type OrphanWish struct {
	UUID       string
	Generation events.Generation
}

// read is one document, read: a wish, an orphan's end, or neither if it cannot be read or has no opinion.
type read struct {
	generation events.Generation
	wish       *Wish
	orphan     *OrphanWish
}

// Decode sorts documents into wishes. For a document that it cannot read nothing is done.
func Decode(docs []desired.Document) ([]Wish, []OrphanWish) {
	return decode(docs, func(d desired.Document) read { return readDocument(d) })
}

func decode(docs []desired.Document, readOne func(desired.Document) read) (wishes []Wish, orphans []OrphanWish) {
	for _, d := range docs {
		switch r := readOne(d); {
		case r.wish != nil:
			wishes = append(wishes, *r.wish)
		case r.orphan != nil:
			orphans = append(orphans, *r.orphan)
		}
	}
	return wishes, orphans
}

func readDocument(d desired.Document) read {
	r := read{generation: d.Generation}
	switch d.Kind {
	case desired.KindDomain:
		if w, err := d.Domain(); err == nil && string(w.VM) == d.ID {
			r.wish = &Wish{w, d.Generation}
		}
	case desired.KindOrphan:
		var o desired.Orphan
		if err := json.Unmarshal(d.Body, &o); err == nil && o.UUID == d.ID && o.Want == desired.Absent {
			r.orphan = &OrphanWish{o.UUID, d.Generation}
		}
	}
	return r
}

// reader reads each generation of a document once.
type reader struct {
	mu    sync.Mutex
	known map[events.Ref]read
}

func (r *reader) decode(docs []desired.Document) ([]Wish, []OrphanWish) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = map[events.Ref]read{}
	}
	return decode(docs, func(d desired.Document) read {
		ref := events.Ref{Kind: d.Kind, ID: d.ID}
		have, ok := r.known[ref]
		if !ok || have.generation != d.Generation {
			have = readDocument(d)
			r.known[ref] = have
		}
		return have
	})
}

func (w Wish) object() events.Ref { return events.Ref{Kind: desired.KindDomain, ID: string(w.VM)} }

// wantsDomain says whether there should be a domain.
func (w Wish) wantsDomain() bool { return w.Want == desired.Running || w.Want == desired.Paused }

// wantsEnd says whether there should be none in the end. Any other wish, one that this version does not know, asks for nothing.
func (w Wish) wantsEnd() bool { return w.Want == desired.Shutdown || w.Want == desired.Absent }

package host

import (
	"encoding/json"

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

// Decode sorts documents into wishes. A document that it cannot read is no wish: nothing is done for its object.
func Decode(docs []desired.Document) (wishes []Wish, orphans []OrphanWish, unread []desired.Document) {
	for _, d := range docs {
		switch d.Kind {
		case desired.KindDomain:
			w, err := d.Domain()
			if err != nil || string(w.VM) != d.ID {
				unread = append(unread, d)
				continue
			}
			wishes = append(wishes, Wish{w, d.Generation})
		case desired.KindOrphan:
			var o desired.Orphan
			if err := json.Unmarshal(d.Body, &o); err != nil || o.UUID != d.ID || o.Want != desired.Absent {
				unread = append(unread, d)
				continue
			}
			orphans = append(orphans, OrphanWish{o.UUID, d.Generation})
		default:
			unread = append(unread, d)
		}
	}
	return wishes, orphans, unread
}

func (w Wish) object() events.Ref { return events.Ref{Kind: desired.KindDomain, ID: string(w.VM)} }

// wantsDomain says whether there should be a domain.
func (w Wish) wantsDomain() bool { return w.Want == desired.Running || w.Want == desired.Paused }

// wantsEnd says whether there should be none in the end. Any other wish, one that this version does not know, asks for nothing.
func (w Wish) wantsEnd() bool { return w.Want == desired.Shutdown || w.Want == desired.Absent }

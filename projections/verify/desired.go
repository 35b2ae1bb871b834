package verify

import (
	"bytes"
	"fmt"
	"sort"
	"strings"

	"cloudengine/events"
	document "cloudengine/events/desired"
	"cloudengine/projections/desired"
)

// What to do about documents that are wrong. The publisher compares all of them when a server becomes the active one.
const (
	nextPublish = "restart the active server: who becomes active publishes what differs; if it comes back, look for who writes the DESIRED stream"
	nextAhead   = "machines refuse what is older: do not delete it; raise the term (\"cloudengine log reopen\"), which outranks every document"
	nextStrange = "find out who wrote it: only servers may; machines obey it as long as their boot is the one that it names"
)

// Documents compares the documents on DESIRED with those that follow from the log. held has the bytes of the last message of every
// subject; it must have been read before the log was folded to its end.
func (c *Cloud) Documents(held map[string][]byte) []Finding {
	var out List
	subjects := make([]string, 0, len(held))
	c.Docs.Each(func(s string, _ document.Document) { subjects = append(subjects, s) })
	for s := range held {
		if _, ok := c.Docs.Document(s); !ok {
			subjects = append(subjects, s)
		}
	}
	sort.Strings(subjects)
	for _, s := range subjects {
		want, wanted := c.Docs.Document(s)
		have, there := held[s]
		switch {
		case !wanted:
			out.Add(c.document(s, "document_extra", nextStrange, "a document is published of which the log knows nothing", "none", short(have)))
		case !there:
			out.Add(c.document(s, "document_missing", nextPublish, "the document is not published", gen(want.Generation), "none"))
		case !bytes.Equal(have, desired.Encode(want)):
			out.Add(c.differs(s, want, have))
		}
	}
	return out.All
}

func (c *Cloud) document(subject, check, next, what, want, have string) Finding {
	f := Finding{Section: Desired, Severity: Wrong, Check: check, Kind: "document", ID: subject, What: what, Want: want, Have: have, Next: next}
	if parts := strings.SplitN(subject, ".", 4); len(parts) == 4 {
		f.Name = fmt.Sprintf("%s on %s", c.object(events.Kind(parts[2]), parts[3]), c.host(parts[1]))
	}
	return f
}

// differs says in what a published document is not the one that follows from the log.
func (c *Cloud) differs(subject string, want document.Document, have []byte) Finding {
	d, err := document.Decode(have)
	if err != nil {
		return c.document(subject, "document_unreadable", nextPublish, "the published document cannot be read: "+err.Error(), gen(want.Generation), short(have))
	}
	order := d.Generation.Compare(want.Generation)
	wg, hg := gen(want.Generation), gen(d.Generation)
	switch {
	case order > 0 && d.Generation.Number > c.Docs.At():
		return c.document(subject, "document_ahead", nextAhead, fmt.Sprintf("its generation is beyond the end of the log (decision %d)", c.Docs.At()), wg, hg)
	case order > 0:
		return c.document(subject, "document_ahead", nextAhead, "its generation is newer than the log's", wg, hg)
	case order < 0:
		return c.document(subject, "document_behind", nextPublish, "an older document is published than the log wants", wg, hg)
	case d.Boot != want.Boot:
		return c.document(subject, "document_boot", nextPublish, "it is bound to another boot than the log says: the machine ignores it, or another boot obeys it", want.Boot, d.Boot)
	case d.Machine != want.Machine || d.Kind != want.Kind || d.ID != want.ID:
		return c.document(subject, "document_misplaced", nextPublish, "it is of another machine or object than its subject", fmt.Sprintf("%s %s/%s", want.Machine, want.Kind, want.ID), fmt.Sprintf("%s %s/%s", d.Machine, d.Kind, d.ID))
	}
	return c.document(subject, "document_changed", nextPublish, "its content is not what follows from the log, under the same generation", short(want.Body), short(d.Body))
}

func short(b []byte) string {
	if len(b) > 200 {
		return string(b[:197]) + "…"
	}
	return string(b)
}

func gen(g events.Generation) string { return fmt.Sprintf("generation %d.%d", g.Term, g.Number) }

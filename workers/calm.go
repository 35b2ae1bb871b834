package workers

import (
	"reflect"
	"time"

	"cloudengine/events/desired"
)

// calmAfter is how long nothing may have happened before a loop looks more rarely. It is longer than what plans wait for by themselves: legs
// that are late, documents that are missing (10 s).
const calmAfter = 20 * time.Second

// Restless is a worker that knows of things which change by the clock, or which nothing tells of: then its loop is never calm.
type Restless[O any] interface {
	Restless(docs []desired.Document, seen O) bool
}

// calm is what a loop remembers of its last looks. Only Run's goroutine uses it.
type calm struct {
	last  Snapshot
	since time.Time // since when every look was as the one before; zero: the last one was not
}

// after takes what one look has given, and says whether nothing has happened for so long that the next one may wait.
func (c *calm) after(now time.Time, quiet bool, s Snapshot) bool {
	same := quiet && reflect.DeepEqual(c.last, s)
	c.last = s
	switch {
	case !same:
		c.since = time.Time{}
	case c.since.IsZero():
		c.since = now
	}
	return same && now.Sub(c.since) >= calmAfter
}

// longest says how long the next look may wait, after one that planned nothing while nothing was under way (quiet), or something else.
func (l *Loop[O]) longest(quiet bool, docs []desired.Document, seen O, s Snapshot) time.Duration {
	if l.stirred.Swap(false) {
		quiet = false
	}
	if r, ok := l.worker.(Restless[O]); ok && quiet && r.Restless(docs, seen) {
		quiet = false
	}
	if l.calm.after(l.opt.now(), quiet, s) {
		return max(l.opt.Interval, l.opt.Calm)
	}
	return l.opt.Interval
}

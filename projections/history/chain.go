package history

import "cloudengine/events"

// Target is what is to be explained: the decision with a number, the intent with an id, or the last decision that changed an object.
// The first of them that is given counts.
type Target struct {
	Number uint64
	Intent events.IntentID
	Object events.Ref
}

// Chain collects, over a whole log, what leads to the target and what follows from it.
type Chain struct {
	want   Target
	linker *Linker
	edges  []edge // in the order of child; parents are always smaller
	found  uint64
}

type edge struct{ child, parent uint64 }

// NewChain begins before the first decision.
func NewChain(want Target) *Chain { return &Chain{want: want, linker: NewLinker()} }

// Add takes the next decision.
func (c *Chain) Add(e *Entry) {
	for _, l := range c.linker.Add(e) {
		c.edges = append(c.edges, edge{e.Number, l.Number})
	}
	switch {
	case c.want.Number > 0:
		if e.Number == c.want.Number {
			c.found = e.Number
		}
	case c.want.Intent != "":
		if e.Intent == c.want.Intent && c.found == 0 {
			c.found = e.Number
		}
	case len(e.Of(c.want.Object)) > 0:
		c.found = e.Number
	}
}

// Found gives the number of the decision that is explained; 0: there is none.
func (c *Chain) Found() uint64 { return c.found }

// Numbers gives the decisions of the explanation: the target, all that it follows from, and all that follows from it.
func (c *Chain) Numbers() map[uint64]bool {
	all, after := map[uint64]bool{c.found: true}, map[uint64]bool{c.found: true}
	for i := len(c.edges) - 1; i >= 0; i-- {
		if x := c.edges[i]; all[x.child] {
			all[x.parent] = true
		}
	}
	for _, x := range c.edges {
		if after[x.parent] {
			after[x.child], all[x.child] = true, true
		}
	}
	return all
}

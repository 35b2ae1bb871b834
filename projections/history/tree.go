package history

import (
	"fmt"
	"sort"
	"strings"
	"time"
)

// Line is one line of an explanation. Its text is not cleaned: guests and machines may have written parts of it.
type Line struct {
	Depth  int    // 0: a decision that follows from none of the others
	Number uint64 // of the decision that the line begins; 0: the line is part of the decision above
	Text   string
}

// Explain puts the decisions of a chain under those that they follow from, by their strongest link. A decision's other links are named.
func Explain(entries []Entry) []Line {
	there := map[uint64]*Entry{}
	for i := range entries {
		there[entries[i].Number] = &entries[i]
	}
	below := map[uint64][]*Entry{}
	var roots []*Entry
	for i := range entries {
		e := &entries[i]
		if up := parent(e, there); up > 0 {
			below[up] = append(below[up], e)
		} else {
			roots = append(roots, e)
		}
	}
	x := &explainer{below: below, there: there}
	for _, e := range roots {
		x.add(e, 0)
	}
	return x.lines
}

// parent gives the decision under which e is shown; 0: none of those that are there.
func parent(e *Entry, there map[uint64]*Entry) uint64 {
	for _, l := range e.From {
		if there[l.Number] != nil {
			return l.Number
		}
	}
	return 0
}

type explainer struct {
	below map[uint64][]*Entry
	there map[uint64]*Entry
	lines []Line
}

func (x *explainer) add(e *Entry, depth int) {
	x.lines = append(x.lines, Line{depth, e.Number, x.head(e)})
	part := func(text string) { x.lines = append(x.lines, Line{depth + 1, 0, text}) }
	if e.Reason != "" {
		part("reason: " + e.Reason)
	}
	if len(e.Override) > 0 {
		part("overrides the guards: " + strings.Join(e.Override, ", "))
	}
	if len(e.Events) == 0 && len(e.Args) > 0 {
		part("asked: " + string(e.Args))
	}
	for _, ev := range e.Events {
		part(strings.TrimSuffix(fmt.Sprintf("%s of %s: %s", ev.Type, ev.Aggregate, Words(ev)), ": "))
		for _, line := range Scores(ev) {
			x.lines = append(x.lines, Line{depth + 2, 0, line})
		}
	}
	if e.Withheld {
		part("(parts of this decision are not shown)")
	}
	next := x.below[e.Number]
	sort.Slice(next, func(i, j int) bool { return next[i].Number < next[j].Number })
	for _, c := range next {
		x.add(c, depth+1)
	}
}

func (x *explainer) head(e *Entry) string {
	text := fmt.Sprintf("%s  %s  %s.%s  %s  intent %s", e.Time.UTC().Format(time.RFC3339), e.Actor, e.Kind, e.Verb, Verdict(e.Outcome), e.Intent)
	var by []string
	for _, l := range e.From {
		by = append(by, said[l.By]+fmt.Sprint(l.Number)+x.missing(l.Number))
	}
	if len(by) > 0 {
		text += "  [" + strings.Join(by, "; ") + "]"
	}
	return text
}

// said is how a link is told.
var said = map[string]string{
	ByCause: "reaction to ", BySaid: "the actor names as cause ", ByOperation: "operation of ", ByEpoch: "run granted by ",
	ByToken: "boot served by ", ByBoot: "boot enrolled by ",
}

func (x *explainer) missing(number uint64) string {
	if x.there[number] == nil {
		return " (not shown)"
	}
	return ""
}

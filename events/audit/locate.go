package audit

import (
	"fmt"
	"slices"
	"sort"
)

// Locate names how the decisions of a log differ from those that it held: was are the hashes of all that it held, is of all that it
// holds. What was appended after them is no difference.
func Locate(was, is []Hash) []Finding {
	p := 0
	for p < len(was) && p < len(is) && was[p] == is[p] {
		p++
	}
	if p == len(was) {
		return nil
	}
	pairs := match(was, is, p)
	kept := rising(pairs)
	l := locator{was: was, is: is, moved: map[int]bool{}}
	in := make(map[int]bool, len(kept))
	for _, k := range kept {
		in[k.was] = true
	}
	for _, k := range pairs {
		if !in[k.was] {
			l.moved[k.is] = true
			l.found = append(l.found, at(Reordered, k.was, k.is,
				fmt.Sprintf("decision %d stands at place %d: the order was changed", k.was+1, k.is+1)))
		}
	}
	movedFrom := map[int]bool{}
	for _, k := range pairs {
		movedFrom[k.was] = !in[k.was]
	}
	l.movedFrom = movedFrom
	i, j := p, p
	for _, k := range append(kept, pair{len(was), len(is)}) {
		l.between(i, k.was, j, k.is)
		i, j = k.was+1, k.is+1
	}
	return l.found
}

// pair is a decision that is in both, by its places.
type pair struct{ was, is int }

// match pairs equal hashes after a common beginning, the first with the first.
func match(was, is []Hash, from int) []pair {
	places := map[Hash][]int{}
	for j := from; j < len(is); j++ {
		places[is[j]] = append(places[is[j]], j)
	}
	var out []pair
	for i := from; i < len(was); i++ {
		if free := places[was[i]]; len(free) > 0 {
			out = append(out, pair{i, free[0]})
			places[was[i]] = free[1:]
		}
	}
	return out
}

// rising gives the longest part of pairs whose places rise in both: what was not moved.
func rising(pairs []pair) []pair {
	var ends []int // of the best run of each length: index into pairs
	before := make([]int, len(pairs))
	for k, p := range pairs {
		n := sort.Search(len(ends), func(n int) bool { return pairs[ends[n]].is >= p.is })
		before[k] = -1
		if n > 0 {
			before[k] = ends[n-1]
		}
		if n == len(ends) {
			ends = append(ends, k)
		} else {
			ends[n] = k
		}
	}
	if len(ends) == 0 {
		return nil
	}
	var out []pair
	for k := ends[len(ends)-1]; k >= 0; k = before[k] {
		out = append(out, pairs[k])
	}
	slices.Reverse(out)
	return out
}

type locator struct {
	was, is          []Hash
	moved, movedFrom map[int]bool // places in is and in was
	found            []Finding
}

func at(what string, was, is int, message string) Finding {
	return Finding{What: what, First: uint64(was + 1), Last: uint64(was + 1), Now: uint64(is + 1), Message: message}
}

// between names what is wrong between two decisions that are in order: was[i:iEnd] became is[j:jEnd].
func (l *locator) between(i, iEnd, j, jEnd int) {
	var gone, come []int
	for ; i < iEnd; i++ {
		if !l.movedFrom[i] {
			gone = append(gone, i)
		}
	}
	for ; j < jEnd; j++ {
		if !l.moved[j] {
			come = append(come, j)
		}
	}
	tail := iEnd == len(l.was) // what is left over there came after, or was cut off
	for len(gone) > 0 && len(come) > 0 {
		message := fmt.Sprintf("decision %d was changed", gone[0]+1)
		if tail { // nothing that is known follows
			message += ", or removed, and what came after the last that is known stands there"
		}
		if gone[0] != come[0] {
			message += fmt.Sprintf(" (it stands at place %d now)", come[0]+1)
		}
		l.found = append(l.found, at(Changed, gone[0], come[0], message))
		gone, come = gone[1:], come[1:]
	}
	switch {
	case len(gone) > 0 && tail && jEnd == len(l.is):
		first, last := uint64(gone[0]+1), uint64(gone[len(gone)-1]+1)
		l.found = append(l.found, Finding{What: Truncated, First: first, Last: last,
			Message: fmt.Sprintf("the log ends at decision %d: %s cut off", len(l.is), wereOr(first, last))})
	case len(gone) > 0:
		for _, g := range gone {
			l.found = append(l.found, Finding{What: Removed, First: uint64(g + 1), Last: uint64(g + 1), Message: fmt.Sprintf("decision %d was removed", g+1)})
		}
	case len(come) > 0 && !tail:
		for _, c := range come {
			l.found = append(l.found, Finding{What: Inserted, First: uint64(c + 1), Last: uint64(c + 1), Now: uint64(c + 1),
				Message: fmt.Sprintf("what is decision %d now was inserted", c+1)})
		}
	}
}

func wereOr(first, last uint64) string {
	if first == last {
		return decisions(first, last) + " was"
	}
	return decisions(first, last) + " were"
}

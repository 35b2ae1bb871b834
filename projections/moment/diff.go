package moment

import (
	"encoding/json"
	"errors"
	"sort"
	"strconv"
	"strings"

	"cloudengine/projections"
)

// Diff gives the rows of a table that are not the same at two moments, in the order of their ids, until f says that it is enough: was is
// nil for a row that appeared, is for one that is gone. Only ids after one, and only those that begin so, are compared. What both moments
// share is not read.
func Diff(from, to *Moment, t *projections.Table, after, begin string, f func(id string, was, is any) (more bool, err error)) error {
	ids := map[string]bool{}
	for _, l := range []*layer{from.l, to.l} {
		for id := range l.rows[t] {
			ids[id] = true
		}
	}
	err := from.l.pages.differ(from.l.base[t.Name], to.l.base[t.Name], func(id string) { ids[id] = true })
	if err != nil {
		return to.fail(err)
	}
	for _, id := range sortedKeys(ids) {
		if id <= after || !strings.HasPrefix(id, begin) {
			continue
		}
		was, err := from.Get(t, id)
		if err != nil {
			return err
		}
		is, err := to.Get(t, id)
		if err != nil {
			return err
		}
		if alike(was, is) {
			continue
		}
		if more, err := f(id, was, is); err != nil || !more {
			return err
		}
	}
	return nil
}

// alike says whether two rows are the same.
func alike(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// differ gives the keys of all entries that two trees do not share, some of them twice: entries of equal pages are shared.
func (s *pages) differ(a, b ref, f func(key string)) error {
	var err error
	left, right := fresh(refsOf(a), refsOf(b))
	for err == nil && len(left)+len(right) > 0 {
		depthA, depthB := 0, 0
		if depthA, err = s.depth(left); err == nil {
			depthB, err = s.depth(right)
		}
		deeper := max(depthA, depthB)
		if err == nil && deeper == 0 {
			return s.keys(append(left, right...), f)
		}
		if err == nil && depthA == deeper {
			left, err = s.below(left)
		}
		if err == nil && depthB == deeper {
			right, err = s.below(right)
		}
		left, right = fresh(left, right)
	}
	return err
}

func refsOf(r ref) []ref {
	if r.Size == 0 {
		return nil
	}
	return []ref{r}
}

// fresh leaves out the pages that are in both.
func fresh(a, b []ref) (left, right []ref) {
	in := func(all []ref) map[ref]bool {
		out := make(map[ref]bool, len(all))
		for _, r := range all {
			out[r] = true
		}
		return out
	}
	inA, inB := in(a), in(b)
	for _, r := range a {
		if !inB[r] {
			left = append(left, r)
		}
	}
	for _, r := range b {
		if !inA[r] {
			right = append(right, r)
		}
	}
	return left, right
}

// depth gives the level of pages, which all have the same.
func (s *pages) depth(all []ref) (int, error) {
	if len(all) == 0 {
		return 0, nil
	}
	p, err := s.load(all[0])
	if err != nil {
		return 0, err
	}
	return p.level, nil
}

func (s *pages) below(all []ref) ([]ref, error) {
	var out []ref
	for _, r := range all {
		p, err := s.load(r)
		if err != nil {
			return nil, err
		}
		for _, i := range p.items {
			below, err := unpackRef(i.value)
			if err != nil {
				return nil, &damaged{r.File, err}
			}
			out = append(out, below)
		}
	}
	return out, nil
}

func (s *pages) keys(all []ref, f func(key string)) error {
	for _, r := range all {
		p, err := s.load(r)
		if err != nil {
			return err
		}
		for _, i := range p.items {
			f(i.key)
		}
	}
	return nil
}

// Place is a decision and its block.
type Place struct{ Number, Seq uint64 }

// About gives the decisions up to the moment that are about an object (kind/id), the last first, until f says that it is enough: those
// with events of it, of an operation its intent, and of those that changed nothing the ones that name it in their arguments.
func (m *Moment) About(object string, f func(Place) (more bool, err error)) error {
	return m.marked(object, f)
}

// Gone gives the decision that last removed a row, up to the moment; 0: none did.
func (m *Moment) Gone(t *projections.Table, id string) (uint64, error) {
	var number uint64
	err := m.marked(goneMark(t, id), func(p Place) (bool, error) {
		number = p.Number
		return false, nil
	})
	return number, err
}

func goneMark(t *projections.Table, id string) string { return "-" + t.Name + "/" + id }

func (m *Moment) marked(object string, f func(Place) (bool, error)) error {
	each := func(all []Place) (bool, error) {
		sort.Slice(all, func(i, j int) bool { return all[i].Number > all[j].Number })
		for _, p := range all {
			if more, err := f(p); err != nil || !more {
				return false, err
			}
		}
		return true, nil
	}
	var found []Place
	for _, k := range m.l.marks {
		if k.object == object {
			found = append(found, Place{k.number, k.seq})
		}
	}
	more, err := each(found)
	for i := len(m.marks) - 1; i >= 0 && err == nil && more; i-- {
		if found, err = m.l.pages.places(m.marks[i], object); err == nil {
			more, err = each(found)
		}
	}
	return m.fail(err)
}

// places gives the entries of an index of decisions that are about an object.
func (s *pages) places(root ref, object string) ([]Place, error) {
	var out []Place
	begin := object + "\x00"
	err := s.prefix(root, begin, func(key, value string) error {
		number, err1 := strconv.ParseUint(key[len(begin):], 16, 64)
		seq, err2 := strconv.ParseUint(value, 10, 64)
		out = append(out, Place{number, seq})
		if err := errors.Join(err1, err2); err != nil {
			return &damaged{root.File, err}
		}
		return nil
	})
	return out, err
}

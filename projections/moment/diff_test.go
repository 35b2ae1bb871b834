package moment_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/moment"
)

// TestDiff: what differs between two moments is what differs between all of their rows.
func TestDiff(t *testing.T) {
	log := chain(8, 2600)
	k, _ := keep(t, t.TempDir(), log, "v")
	makeAll(t, k)
	last := len(log.Recorded())
	choose := rand.New(rand.NewPCG(3, 3)).IntN
	for range 25 {
		a, err := k.Moment(t.Context(), uint64(1+choose(last)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := k.Moment(t.Context(), uint64(1+choose(last)))
		if err != nil {
			t.Fatal(err)
		}
		wasAll, isAll := texts(t, a), texts(t, b)
		for _, m := range projections.Models() {
			var got []string
			err := moment.Diff(a, b, m.Table, "", "", func(id string, was, is any) (bool, error) {
				got = append(got, fmt.Sprintf("%s %v %v", id, was != nil, is != nil))
				return true, nil
			})
			if want := differences(wasAll[m.Table.Name], isAll[m.Table.Name]); err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s from %d to %d: %d rows, want %d, %v", m.Kind, a.Number(), b.Number(), len(got), len(want), err)
			}
		}
	}
}

// texts gives the JSON of all rows, by table and id.
func texts(t *testing.T, m *moment.Moment) map[string]map[string]string {
	t.Helper()
	all, err := rowsAt(m)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]string{}
	for line := range strings.Lines(all) {
		words := strings.SplitN(line, " ", 3)
		if out[words[0]] == nil {
			out[words[0]] = map[string]string{}
		}
		out[words[0]][words[1]] = words[2]
	}
	return out
}

func differences(was, is map[string]string) []string {
	var out []string
	for id, text := range was {
		if is[id] != text {
			out = append(out, fmt.Sprintf("%s true %v", id, is[id] != ""))
		}
	}
	for id := range is {
		if was[id] == "" {
			out = append(out, id+" false true")
		}
	}
	slices.Sort(out)
	return out
}

// TestAbout: the index of decisions finds what a look at every decision finds, and which decision removed a row.
func TestAbout(t *testing.T) {
	log := chain(9, 1800)
	k, _ := keep(t, t.TempDir(), log, "v")
	makeAll(t, k)
	want := map[string][]uint64{}
	gone := map[string]uint64{}
	memory := projections.NewMemory()
	all := log.Recorded()
	before := map[string]bool{}
	for i := range all {
		r := &all[i]
		for _, e := range r.Events {
			if o := e.Aggregate.String(); !slices.Contains(want[o], r.Number) {
				want[o] = append(want[o], r.Number)
			}
		}
		if err := memory.Apply(r); err != nil {
			t.Fatal(err)
		}
		now := map[string]bool{}
		for _, kind := range []events.Kind{events.KindVM, projections.KindOrphan} {
			m := projections.ByKind(kind)
			for _, row := range memory.Rows(m.Table) {
				now[m.Table.Name+"/"+m.Table.ID(row)] = true
			}
		}
		for id := range before {
			if !now[id] {
				gone[id] = r.Number
			}
		}
		before = now
	}
	m, err := k.At(t.Context(), "now")
	if err != nil {
		t.Fatal(err)
	}
	for o, numbers := range want {
		var got []uint64
		err := m.About(o, func(p moment.Place) (bool, error) {
			r := all[p.Number-1]
			if ends := log.Blocks(); p.Seq == 0 || ends[p.Seq-1].Number < p.Number || p.Seq > 1 && ends[p.Seq-2].Number >= p.Number {
				t.Errorf("decision %d is not in block %d", p.Number, p.Seq)
			}
			if len(r.Events) > 0 && slices.ContainsFunc(r.Events, func(e events.Event) bool { return e.Aggregate.String() == o }) {
				got = append(got, p.Number)
			}
			return true, nil
		})
		slices.Reverse(got)
		if err != nil || !slices.Equal(got, numbers) {
			t.Fatalf("%s: decisions %v, want %v, %v", o, got, numbers, err)
		}
	}
	if len(gone) < 5 {
		t.Fatalf("only %d rows went", len(gone))
	}
	for id, number := range gone {
		name, row, _ := strings.Cut(id, "/")
		for _, model := range projections.Models() {
			if model.Table.Name == name {
				if got, err := m.Gone(model.Table, row); err != nil || got != number {
					t.Errorf("%s went with decision %d, want %d, %v", id, got, number, err)
				}
			}
		}
	}
}

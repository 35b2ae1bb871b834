package moment_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/moment"
	"cloudengine/projections/projectionstest"
)

const small = 300 // decisions between snapshots in tests

func chain(seed uint64, steps int) *projectionstest.Chain {
	r := rand.New(rand.NewPCG(seed, 7))
	return projectionstest.NewChain(projectionstest.New(r.IntN, 3).Steps(steps).All(), func() int { return 1 + r.IntN(9) })
}

// keep opens a keeper of a log; said collects what it logs.
func keep(t *testing.T, dir string, log moment.Log, version string) (k *moment.Keeper, said *strings.Builder) {
	t.Helper()
	said = &strings.Builder{}
	k, err := moment.Open(moment.Options{Dir: dir, Log: log, Every: small, Version: version, Logger: slog.New(slog.NewTextHandler(said, nil)),
		Now: func() time.Time { return time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k, said
}

func makeAll(t *testing.T, k *moment.Keeper) {
	t.Helper()
	for made := true; made; {
		var err error
		if made, err = k.Make(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// rowsAt gives all rows of a moment as text.
func rowsAt(m *moment.Moment) (string, error) {
	var out strings.Builder
	for _, model := range projections.Models() {
		err := m.Scan(model.Table, "", nil, func(id string, row any) (bool, error) {
			b, err := json.Marshal(row)
			fmt.Fprintln(&out, model.Table.Name, id, string(b))
			return true, err
		})
		if err != nil {
			return "", err
		}
	}
	return out.String(), nil
}

// folded gives all rows of a fold in memory as text.
func folded(t *testing.T, m *projections.Memory) string {
	t.Helper()
	var out strings.Builder
	for _, model := range projections.Models() {
		for _, row := range m.Rows(model.Table) {
			b, err := json.Marshal(row)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&out, model.Table.Name, model.Table.ID(row), string(b))
		}
	}
	return out.String()
}

func first(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return "- " + x[i] + "\n+ " + y[i]
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// TestMomentsAreTheFold: a moment shows exactly the rows of the fold from the beginning, with snapshots and without, in one keeper and in
// the next that finds its files.
func TestMomentsAreTheFold(t *testing.T) {
	log := chain(1, 2500)
	all := log.Recorded()
	dir := t.TempDir()
	for _, step := range []struct {
		name string
		make bool
	}{{"without snapshots", false}, {"with snapshots", true}, {"with snapshots that are found", false}} {
		k, _ := keep(t, dir, log, "v")
		if step.make {
			makeAll(t, k)
		}
		if n := uint64(len(all)); step.name != "without snapshots" && (k.Reached() > n || n-k.Reached() > 2*small) {
			t.Fatalf("%s: the snapshots have reached %d of %d", step.name, k.Reached(), n)
		}
		memory := projections.NewMemory()
		last := len(all)
		if step.name == "without snapshots" {
			last = 3 * small
		}
		for i := range all[:last] {
			if err := memory.Apply(&all[i]); err != nil {
				t.Fatal(err)
			}
			if n := all[i].Number; n%97 == 0 || n%small < 2 || int(n) == last {
				check(t, k, fmt.Sprint(n), n, folded(t, memory))
			}
		}
	}
}

func check(t *testing.T, k *moment.Keeper, at string, number uint64, want string) {
	t.Helper()
	m, err := k.At(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	got, err := rowsAt(m)
	if err != nil || m.Number() != number || got != want {
		t.Fatalf("at %s: decision %d, want %d, %v: %s", at, m.Number(), number, err, first(want, got))
	}
}

func TestRowsByIdAndName(t *testing.T) {
	log := chain(2, 1500)
	k, _ := keep(t, t.TempDir(), log, "v")
	makeAll(t, k)
	for _, at := range []string{"50", "299", "700", "811", "now"} {
		m, err := k.At(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		for _, model := range projections.Models() {
			byName := map[string][]string{}
			err := m.Scan(model.Table, "", nil, func(id string, row any) (bool, error) {
				got, err := m.Get(model.Table, id)
				if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", row); err == nil && len(a) != len(b) {
					t.Errorf("at %s: %s %s: by id %s, in the list %s", at, model.Kind, id, a, b)
				}
				if model.Named != "" {
					byName[nameOf(model, row)] = append(byName[nameOf(model, row)], id)
				}
				return true, err
			})
			if err != nil {
				t.Fatal(err)
			}
			for name, ids := range byName {
				rows, err := m.Named(model, name)
				var got []string
				for _, row := range rows {
					got = append(got, model.Table.ID(row))
				}
				if err != nil || strings.Join(got, " ") != strings.Join(ids, " ") {
					t.Errorf("at %s: %s %q: by name %v, in the list %v, %v", at, model.Kind, name, got, ids, err)
				}
			}
			if rows, err := m.Named(model, "no such name"); err != nil || len(rows) > 0 {
				t.Errorf("a name that nobody has: %v, %v", rows, err)
			}
		}
	}
}

func nameOf(m *projections.Model, row any) string {
	for i, c := range m.Table.Columns {
		if c == m.Named {
			return m.Table.Values(nil, row)[i].(string)
		}
	}
	return ""
}

func TestTimes(t *testing.T) {
	log := chain(3, 900)
	k, _ := keep(t, t.TempDir(), log, "v")
	ends := log.Blocks()
	text := func(at time.Time) string { return at.Format(time.RFC3339Nano) }
	for i, b := range ends {
		last := b.Number
		for _, later := range ends[i+1:] { // of blocks with the same time the last one counts
			if later.Time.Equal(b.Time) {
				last = later.Number
			}
		}
		if n, err := k.Resolve(t.Context(), text(b.Time)); err != nil || n != last {
			t.Fatalf("%s: decision %d, want %d, %v", text(b.Time), n, last, err)
		}
		before := b.Time.Add(-time.Nanosecond)
		want := uint64(0)
		for _, x := range ends {
			if !x.Time.After(before) {
				want = x.Number
			}
		}
		if n, err := k.Resolve(t.Context(), text(before)); want > 0 && (err != nil || n != want) {
			t.Fatalf("just before %s: decision %d, want %d, %v", text(b.Time), n, want, err)
		}
	}
	last := ends[len(ends)-1]
	for at, want := range map[string]uint64{"now": last.Number, text(last.Time.Add(time.Hour)): last.Number, "7": 7} {
		if n, err := k.Resolve(t.Context(), at); err != nil || n != want {
			t.Errorf("%s: decision %d, want %d, %v", at, n, want, err)
		}
	}
	for at, say := range map[string]string{
		"0": "before the log", fmt.Sprint(last.Number + 1): "in the future", "99999999999999999999": "neither", "-1": "neither", "": "neither",
		"yesterday": "neither", "2030-01-01T00:00:00Z": "in the future", "2001-01-01T00:00:00Z": "before the log, which begins",
		text(ends[0].Time.Add(-time.Nanosecond)): "before the log",
	} {
		if n, err := k.Resolve(t.Context(), at); !errors.Is(err, moment.ErrNoMoment) || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: decision %d, %v; want an error with %q", at, n, err, say)
		}
	}
	behind, err := moment.Open(moment.Options{Dir: t.TempDir(), Log: log, Now: func() time.Time { return ends[0].Time.Add(-time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	defer behind.Close()
	if n, err := behind.Resolve(t.Context(), text(last.Time)); err != nil || n != last.Number { // a clock that went back
		t.Errorf("the last block's time, with a clock before it: decision %d, %v", n, err)
	}
	if _, err := behind.Resolve(t.Context(), text(last.Time.Add(time.Second))); !errors.Is(err, moment.ErrNoMoment) {
		t.Errorf("after the last block and after the clock: %v", err)
	}
	empty, _ := keep(t, t.TempDir(), projectionstest.NewChain(nil, nil), "v")
	if _, err := empty.At(t.Context(), "now"); !errors.Is(err, moment.ErrNoMoment) {
		t.Errorf("an empty log: %v", err)
	}
}

// TestAnotherLog: a snapshot of another log, or of a tail that was lost, is refused, also where both logs begin alike.
func TestAnotherLog(t *testing.T) {
	one, other := chain(5, 2000), chain(6, 2000)
	begin := one.Recorded()[:1000]
	n := 0
	forked := projectionstest.NewChain(append(append([]events.Recorded{}, begin...), other.Recorded()[1000:]...), func() int { n++; return n%5 + 1 })
	short := projectionstest.NewChain(begin[:400], func() int { return 3 })
	for name, log := range map[string]*projectionstest.Chain{"another": other, "forked": forked, "shorter": short} {
		dir := t.TempDir()
		made, _ := keep(t, dir, one, "v")
		makeAll(t, made)
		if err := made.Close(); err != nil {
			t.Fatal(err)
		}
		k, said := keep(t, dir, log, "v")
		all := log.Recorded()
		if name != "forked" { // its decisions do not fit together, but nothing of the first log may be seen
			memory := projections.NewMemory()
			for i := range all {
				if err := memory.Apply(&all[i]); err != nil {
					t.Fatal(err)
				}
			}
			makeAll(t, k)
			check(t, k, "now", uint64(len(all)), folded(t, memory))
		} else {
			makeAll(t, k)
		}
		if !strings.Contains(said.String(), "another log") {
			t.Errorf("%s: it was said: %s", name, said)
		}
	}
}

func TestAnotherVersion(t *testing.T) {
	log, dir := chain(7, 1500), t.TempDir()
	old, _ := keep(t, dir, log, "v1")
	makeAll(t, old)
	before := files(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("not ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, said := keep(t, dir, log, "v2")
	if k.Reached() != 0 || !strings.Contains(said.String(), "another version") {
		t.Fatalf("reached %d; it was said: %s", k.Reached(), said)
	}
	makeAll(t, k)
	if after := files(t, dir); len(after) != len(before)+1 {
		t.Fatalf("%d files, and before %d", len(after), len(before))
	}
}

package read_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/read"
)

// diff asks in pages of a size.
func diff(t *testing.T, s read.Scope, q read.DiffQuestion) []read.RowDiff {
	t.Helper()
	var out []read.RowDiff
	for {
		d, err := reader.Diff(t.Context(), s, q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		out = append(out, d.Items...)
		if q.After = d.Next; q.After == "" {
			return out
		}
	}
}

// TestDiffIsWhatTheListsDiffer: rows that appeared, are gone or changed are those of the lists at both moments, for every scope.
func TestDiffIsWhatTheListsDiffer(t *testing.T) {
	mine := events.AccountID(list(t, admin, events.KindAccount, events.ReadRequest{})[0]["id"].(string))
	whole := func(s read.Scope, at string) map[string]string {
		out := map[string]string{}
		for _, m := range projections.Models() {
			a := reader.List(t.Context(), s, m.Kind, events.ReadRequest{Limit: 1000, At: at})
			if code(a) == events.CodeForbidden {
				continue
			}
			for i, row := range parse(t, a) {
				out[fmt.Sprintf("%s/%v", m.Kind, row["id"])] = string(a.Items[i])
			}
		}
		return out
	}
	for _, c := range [][2]int{{1, len(history)}, {100, 101}, {150, 390}, {300, 300}, {len(history) - 40, len(history)}} {
		for name, s := range map[string]read.Scope{"all": admin, "own": read.Within("user0", mine)} {
			q := read.DiffQuestion{From: fmt.Sprint(c[0]), To: fmt.Sprint(c[1]), Limit: 7}
			was, is := whole(s, q.From), whole(s, q.To)
			want, got := []string{}, []string{}
			for id, row := range was {
				switch {
				case is[id] == "":
					want = append(want, "gone "+id)
				case is[id] != row:
					want = append(want, "changed "+id)
				}
			}
			for id := range is {
				if was[id] == "" {
					want = append(want, "appeared "+id)
				}
			}
			for _, r := range diff(t, s, q) {
				got = append(got, fmt.Sprintf("%s %s/%s", r.What, r.Kind, r.ID))
				for _, f := range r.Fields {
					if private := slices.Contains(projections.ByKind(r.Kind).Private, f.Field); private && name == "own" {
						t.Errorf("%s %s shows an account column %s", r.Kind, r.ID, f.Field)
					}
				}
				if r.Number <= uint64(c[0]) || r.Number > uint64(c[1]) {
					t.Errorf("%s %s %s was changed by decision %d, which is not between %d and %d", r.What, r.Kind, r.ID, r.Number, c[0], c[1])
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s, %d to %d: %d rows differ, want %d", name, c[0], c[1], len(got), len(want))
			}
		}
	}
}

func TestDiffOfOneObject(t *testing.T) {
	for _, r := range list(t, admin, events.KindVM, events.ReadRequest{Limit: 50}) {
		id := r["id"].(string)
		for _, d := range diff(t, admin, read.DiffQuestion{Kind: events.KindVM, ID: id, From: "12"}) {
			if !strings.HasPrefix(d.ID, id) || d.Kind != events.KindVM && d.Kind != projections.KindGrant {
				t.Fatalf("%s %s in the diff of VM %s", d.Kind, d.ID, id)
			}
		}
	}
	account := events.AccountID(list(t, admin, events.KindAccount, events.ReadRequest{})[0]["id"].(string))
	rows := diff(t, admin, read.DiffQuestion{Account: account, From: "12"})
	kinds := map[events.Kind]int{}
	for _, d := range rows {
		kinds[d.Kind]++
	}
	if kinds[events.KindVM] == 0 || kinds[projections.KindGrant] == 0 || kinds[events.KindHost] > 0 {
		t.Fatalf("diff of an account: %v", kinds)
	}
}

func TestDiffsThatThereAreNot(t *testing.T) {
	mine := events.AccountID(list(t, admin, events.KindAccount, events.ReadRequest{})[0]["id"].(string))
	for name, c := range map[string]struct {
		s    read.Scope
		q    read.DiffQuestion
		code string
	}{
		"without from":      {admin, read.DiffQuestion{To: "5"}, events.CodeInvalid},
		"from the future":   {admin, read.DiffQuestion{From: "999999"}, events.CodeInvalid},
		"to the future":     {admin, read.DiffQuestion{From: "1", To: "999999"}, events.CodeInvalid},
		"backwards":         {admin, read.DiffQuestion{From: "9", To: "5"}, events.CodeInvalid},
		"limit":             {admin, read.DiffQuestion{From: "1", Limit: 1001}, events.CodeInvalid},
		"not for the asker": {read.Within("user0", mine), read.DiffQuestion{From: "1", Kind: events.KindMachine, ID: "x"}, events.CodeForbidden},
	} {
		if _, err := reader.Diff(t.Context(), c.s, c.q); err == nil || reader.Refused(err).Code != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

package read_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/mysql"
	"cloudengine/projections/read"
)

func text(t *testing.T, a events.ReadAnswer) string {
	t.Helper()
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// asked are questions about a kind, made from its rows: by each column's values, in pages, for each way to name an object.
func asked(t *testing.T, kind events.Kind) (lists, gets []events.ReadRequest) {
	t.Helper()
	model := projections.ByKind(kind)
	lists = []events.ReadRequest{{}, {Limit: 1}, {Limit: 3, After: "5"}, {Limit: 1000}, {After: "zzz"}, {Account: "nobody"}, {Limit: 1001}, {Filter: map[string]string{"castle": "1"}}}
	rows := list(t, admin, kind, events.ReadRequest{Limit: 1000})
	for i, row := range rows {
		if i%(len(rows)/4+1) != 0 {
			continue
		}
		id := row["id"].(string)
		gets = append(gets, events.ReadRequest{ID: id}, events.ReadRequest{ID: id[:min(8, len(id))]}, events.ReadRequest{ID: id[:min(5, len(id))]}, events.ReadRequest{ID: id + " "}, events.ReadRequest{ID: strings.ToUpper(id)})
		if model.Named != "" {
			name := fmt.Sprint(row[model.Named])
			gets = append(gets, events.ReadRequest{ID: name}, events.ReadRequest{ID: name + "  "}, events.ReadRequest{ID: name, Account: fmt.Sprint(row["account"])}, events.ReadRequest{ID: name, Account: "nobody"})
		}
		lists = append(lists, events.ReadRequest{Limit: 4, After: id}, events.ReadRequest{Account: fmt.Sprint(row["account"])})
		for _, column := range model.Table.Columns {
			value := ""
			if row[column] != nil {
				value = strings.TrimSuffix(fmt.Sprintf("%v", row[column]), ".0")
			}
			lists = append(lists, events.ReadRequest{Limit: 50, Filter: map[string]string{column: value}}, events.ReadRequest{Filter: map[string]string{column: value, "changed_by": fmt.Sprint(row["changed_by"])}},
				events.ReadRequest{Filter: map[string]string{column: value + " "}}, events.ReadRequest{Filter: map[string]string{column: ""}})
		}
	}
	gets = append(gets, events.ReadRequest{ID: "nobody"}, events.ReadRequest{}, events.ReadRequest{ID: "%"}, events.ReadRequest{ID: "имя"}, events.ReadRequest{ID: "00000000"}, events.ReadRequest{ID: "0"})
	return lists, gets
}

// TestNowIsWhatTheDatabaseSays: the fold of the log and the database give the same bytes, for every kind, scope, filter, page and name.
func TestNowIsWhatTheDatabaseSays(t *testing.T) {
	accounts := list(t, admin, events.KindAccount, events.ReadRequest{})
	scopes := map[string]read.Scope{"all": admin, "nobody": {}}
	for i, a := range accounts {
		scopes[a["name"].(string)] = read.Within(fmt.Sprintf("user%d", i), events.AccountID(a["id"].(string)))
	}
	found, asks := 0, 0
	for _, m := range projections.Models() {
		lists, gets := asked(t, m.Kind)
		for name, s := range scopes {
			compare := func(what string, ask func(context.Context, read.Scope, events.Kind, events.ReadRequest) events.ReadAnswer, q events.ReadRequest) {
				now := ask(t.Context(), s, m.Kind, q)
				q.At = "now"
				then := ask(t.Context(), s, m.Kind, q)
				if now.Error != nil && then.Error != nil {
					now.Error.Message, then.Error.Message = "", ""
				}
				if a, b := text(t, now), text(t, then); a != b {
					t.Errorf("%s %s for %s, %+v:\n- %.600s\n+ %.600s", what, m.Kind, name, q, a, b)
				}
				found, asks = found+len(then.Items), asks+1
			}
			for _, q := range lists {
				compare("list", reader.List, q)
			}
			for _, q := range gets {
				compare("get", reader.Get, q)
			}
		}
	}
	if found < 5000 {
		t.Fatalf("only %d rows in %d answers", found, asks)
	}
}

// TestThenIsWhatTheDatabaseSaid: the answer about a decision is that of a database which was filled up to it.
func TestThenIsWhatTheDatabaseSaid(t *testing.T) {
	base := server.Private()
	db, err := base.Open(t.Context(), "then")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	engine, err := mysql.OpenEngine(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	then := read.New(db, nil, slog.New(slog.DiscardHandler))
	mine := list(t, admin, events.KindAccount, events.ReadRequest{})[0]["id"].(string)
	for at := 0; at < len(history); {
		n := min(at+23, len(history))
		if _, err := engine.Apply(t.Context(), history[at:n]); err != nil {
			t.Fatal(err)
		}
		at = n
		for _, m := range projections.Models() {
			for _, s := range []read.Scope{admin, read.Within("user0", events.AccountID(mine))} {
				q := events.ReadRequest{Limit: 1000}
				want := then.List(t.Context(), s, m.Kind, q)
				q.At = fmt.Sprint(at)
				if a, b := text(t, want), text(t, reader.List(t.Context(), s, m.Kind, q)); a != b {
					t.Fatalf("%s at %d:\n- %.2000s\n+ %.2000s", m.Kind, at, a, b)
				}
			}
		}
	}
}

func TestMomentsThatThereAreNot(t *testing.T) {
	for at, say := range map[string]string{
		"0": "before the log", fmt.Sprint(len(history) + 1): "in the future", "yesterday": "neither", "1999-01-01T00:00:00Z": "before the log",
		time.Now().Add(time.Hour).Format(time.RFC3339): "in the future",
	} {
		for _, a := range []events.ReadAnswer{
			reader.List(t.Context(), admin, events.KindVM, events.ReadRequest{At: at}), reader.Get(t.Context(), admin, events.KindVM, events.ReadRequest{At: at, ID: "x"}),
		} {
			if code(a) != events.CodeInvalid || !strings.Contains(a.Error.Message, say) {
				t.Errorf("at %s: %+v; want %q", at, a.Error, say)
			}
		}
	}
	if a := reader.List(t.Context(), admin, events.KindVM, events.ReadRequest{At: "now", WaitFor: 3}); code(a) != events.CodeInvalid || !strings.Contains(a.Error.Message, "wait_for") {
		t.Errorf("wait_for with at: %+v", a.Error)
	}
	none := read.New(server.DB, nil, slog.New(slog.DiscardHandler))
	if a := none.List(t.Context(), admin, events.KindVM, events.ReadRequest{At: "now"}); code(a) != events.CodeNotSupported {
		t.Errorf("a reader without a past: %+v", a.Error)
	}
}

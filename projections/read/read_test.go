package read_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/moment"
	"cloudengine/projections/mysql"
	"cloudengine/projections/projectionstest"
	"cloudengine/projections/read"
)

// What all tests of this package ask: a history in a database of its own.
var (
	reader  *read.Reader
	history []events.Recorded
	past    *moment.Keeper
	server  *mysql.Database
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "ce-read-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	quiet := slog.New(slog.DiscardHandler)
	db, err := mysql.Open(ctx, mysql.Config{Dir: dir, Pool: 64, Log: quiet})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer db.Close()
	choose := rand.New(rand.NewPCG(1, 2)).IntN
	chain := projectionstest.NewChain(projectionstest.New(choose, 3).Steps(600).All(), func() int { return 1 + choose(6) })
	history, server = chain.Recorded(), db
	if past, err = moment.Open(moment.Options{Dir: dir + "/snapshots", Log: chain, Every: 130}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer past.Close()
	for made := true; made; {
		if made, err = past.Make(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	p := mysql.NewProjector(db.DB, quiet)
	running, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(running, projectionstest.NewLog(history...)) }()
	defer func() { stop(); <-done }()
	if err := p.Wait(ctx, uint64(len(history))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	reader = read.New(db.DB, p, quiet)
	reader.SetPast(past)
	return m.Run()
}

var admin = read.Everything("admin")

func list(t *testing.T, s read.Scope, kind events.Kind, q events.ReadRequest) []map[string]any {
	t.Helper()
	a := reader.List(t.Context(), s, kind, q)
	if a.Error != nil {
		t.Fatalf("list %s: %+v", kind, a.Error)
	}
	if a.Applied != uint64(len(history)) {
		t.Fatalf("list %s: applied %d, want %d", kind, a.Applied, len(history))
	}
	return parse(t, a)
}

func parse(t *testing.T, a events.ReadAnswer) []map[string]any {
	t.Helper()
	out := make([]map[string]any, len(a.Items))
	for i, b := range a.Items {
		if err := json.Unmarshal(b, &out[i]); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func code(a events.ReadAnswer) string {
	if a.Error == nil {
		return ""
	}
	return a.Error.Code
}

func TestEveryKindIsListed(t *testing.T) {
	for _, m := range projections.Models() {
		rows := list(t, admin, m.Kind, events.ReadRequest{})
		rare := slices.Contains([]events.Kind{projections.KindOrphan, events.KindBootimage, events.KindDiscovered, events.KindFabric, projections.KindMember, events.KindPool,
			events.KindDisk, events.KindArray, events.KindVolume, events.KindNetwork, events.KindSubnet, events.KindNIC, projections.KindAddress, events.KindServer}, m.Kind) // the random histories have none
		if len(rows) == 0 && !rare {
			t.Errorf("no rows of %s", m.Kind)
		}
		for _, r := range rows {
			if r["changed_by"].(float64) == 0 {
				t.Errorf("%s %v was changed by no decision", m.Kind, r["id"])
			}
		}
	}
}

func TestGet(t *testing.T) {
	vm := list(t, admin, events.KindVM, events.ReadRequest{Limit: 1})[0]
	id, name := vm["id"].(string), vm["name"].(string)
	for _, c := range []struct{ ref, code string }{
		{id, ""}, {name, ""}, {id[:13], ""}, {"nobody", events.CodeNotFound}, {"ffffffff", events.CodeNotFound}, {"", events.CodeInvalid},
		{"%", events.CodeNotFound}, {"' OR 1=1 -- ", events.CodeNotFound}, {"имя", events.CodeNotFound}, {strings.Repeat("a", 5000), events.CodeNotFound},
	} {
		a := reader.Get(t.Context(), admin, events.KindVM, events.ReadRequest{ID: c.ref})
		if code(a) != c.code {
			t.Errorf("get %.20q: %+v, want %q", c.ref, a.Error, c.code)
		}
		if c.code == "" && (len(a.Items) != 1 || parse(t, a)[0]["id"] != id) {
			t.Errorf("get %q: %s", c.ref, a.Items)
		}
	}
	if a := reader.Get(t.Context(), admin, "castle", events.ReadRequest{ID: "x"}); code(a) != events.CodeInvalid {
		t.Errorf("an unknown kind: %+v", a)
	}
	op := list(t, admin, events.KindOperation, events.ReadRequest{Limit: 1})[0]
	if a := reader.Get(t.Context(), admin, events.KindOperation, events.ReadRequest{ID: op["intent"].(string)}); code(a) != "" {
		t.Errorf("get an operation by its intent: %+v", a.Error)
	}
}

func TestPagesAndFilters(t *testing.T) {
	whole := list(t, admin, events.KindOperation, events.ReadRequest{Limit: 1000})
	var paged []map[string]any
	for q := (events.ReadRequest{Limit: 7}); ; {
		a := reader.List(t.Context(), admin, events.KindOperation, q)
		paged = append(paged, parse(t, a)...)
		if q.After = a.Next; q.After == "" {
			break
		}
	}
	if len(paged) != len(whole) || len(whole) < 100 {
		t.Fatalf("%d rows in pages, %d at once", len(paged), len(whole))
	}
	for i := range whole {
		if whole[i]["id"] != paged[i]["id"] {
			t.Fatalf("row %d: %v at once, %v in pages", i, whole[i]["id"], paged[i]["id"])
		}
	}
	states := map[string]int{}
	for _, r := range whole {
		states[r["state"].(string)]++
	}
	for state, n := range states {
		if rows := list(t, admin, events.KindOperation, events.ReadRequest{Limit: 1000, Filter: map[string]string{"state": state}}); len(rows) != n {
			t.Errorf("%d operations %s by filter, want %d", len(rows), state, n)
		}
	}
	if n := len(list(t, admin, events.KindVM, events.ReadRequest{Limit: 1000, Filter: map[string]string{"host": ""}})); n == 0 {
		t.Error("no VM without host")
	}
	for _, f := range []map[string]string{{"size": "1"}, {"memory_mib": "many"}, {"created_at": "now"}, {"id` OR 1=1 -- ": "x"}} {
		if a := reader.List(t.Context(), admin, events.KindVM, events.ReadRequest{Filter: f}); code(a) != events.CodeInvalid {
			t.Errorf("filter %v: %+v", f, a.Error)
		}
	}
	if a := reader.List(t.Context(), admin, events.KindVM, events.ReadRequest{Limit: 1001}); code(a) != events.CodeInvalid {
		t.Errorf("limit 1001: %+v", a.Error)
	}
}

// A user of an account sees its own rows and nothing else, whatever he asks.
func TestAccountScope(t *testing.T) {
	accounts := list(t, admin, events.KindAccount, events.ReadRequest{})
	mine, other := accounts[0]["id"].(string), accounts[1]["id"].(string)
	me := read.Within("user1", events.AccountID(mine))
	var others string
	for _, r := range list(t, admin, events.KindVM, events.ReadRequest{Limit: 1000}) {
		if r["account"] == other {
			others = r["id"].(string)
		}
	}
	for _, q := range []events.ReadRequest{{Limit: 1000}, {Limit: 1000, Account: other}, {Limit: 1000, Filter: map[string]string{"account": other}}} {
		for _, kind := range []events.Kind{events.KindVM, projections.KindGrant, events.KindUser} {
			rows := list(t, me, kind, q)
			if len(rows) == 0 && q.Account == "" && q.Filter == nil {
				t.Errorf("no %s of my own", kind)
			}
			for _, r := range rows {
				if r["account"] != mine {
					t.Fatalf("%s %v of account %v", kind, r["id"], r["account"])
				}
			}
		}
	}
	for _, r := range list(t, me, events.KindOperation, events.ReadRequest{Limit: 1000}) {
		if r["account"] != mine && r["actor"] != "user1" {
			t.Fatalf("operation %v of account %v by %v", r["id"], r["account"], r["actor"])
		}
	}
	if rows := list(t, me, events.KindAccount, events.ReadRequest{}); len(rows) != 1 || rows[0]["id"] != mine {
		t.Fatalf("accounts: %v", rows)
	}
	for _, ref := range []string{others, others[:13]} {
		if a := reader.Get(t.Context(), me, events.KindVM, events.ReadRequest{ID: ref}); code(a) != events.CodeNotFound {
			t.Fatalf("another's VM by %q: %s %+v", ref, a.Items, a.Error)
		}
	}
	for _, kind := range []events.Kind{events.KindMachine, events.KindHost, events.KindSecret, projections.KindOrphan} {
		if a := reader.List(t.Context(), me, kind, events.ReadRequest{}); code(a) != events.CodeForbidden || len(a.Items) > 0 {
			t.Fatalf("%s: %s %+v", kind, a.Items, a.Error)
		}
	}
	var nobody read.Scope
	for _, kind := range []events.Kind{events.KindVM, events.KindOperation, events.KindAccount} {
		if rows := list(t, nobody, kind, events.ReadRequest{}); len(rows) > 0 {
			t.Fatalf("%d of %s for the zero scope", len(rows), kind)
		}
	}
}

func TestWaitFor(t *testing.T) {
	n := uint64(len(history))
	if a := reader.List(t.Context(), admin, events.KindVM, events.ReadRequest{WaitFor: n}); code(a) != "" || a.Applied < n {
		t.Fatalf("a decision that is applied: %+v", a.Error)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if a := reader.List(ctx, admin, events.KindVM, events.ReadRequest{WaitFor: n + 1}); code(a) != events.CodeUnavailable {
		t.Fatalf("a decision to come: %+v", a)
	}
}

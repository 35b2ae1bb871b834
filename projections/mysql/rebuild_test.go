package mysql_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/mysql"
	"cloudengine/projections/projectionstest"
	"cloudengine/projections/read"
)

// books gives the tables beside the models' own as text, but for the times at which this program wrote.
func books(t *testing.T, db *sql.DB) string {
	t.Helper()
	var out strings.Builder
	at, err := mysql.ReadCheckpoint(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	parked, err := mysql.ReadParked(t.Context(), db, events.Ref{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	dropped, err := mysql.ReadDropped(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "%+v\n%+v\n%+v\n", at, parked, dropped)
	return out.String()
}

// tables lists all tables of a database.
func tables(t *testing.T, db *sql.DB) string {
	t.Helper()
	var all sql.NullString
	if err := db.QueryRowContext(t.Context(), "SELECT GROUP_CONCAT(table_name ORDER BY table_name) FROM information_schema.tables WHERE table_schema = DATABASE()").Scan(&all); err != nil {
		t.Fatal(err)
	}
	return all.String
}

func rebuild(t *testing.T, p *mysql.Projector, log mysql.Reader, o mysql.RebuildOptions) mysql.Built {
	t.Helper()
	built, err := p.Rebuild(t.Context(), log, o)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// A rebuild gives the rows, parked events and checkpoint that were there, byte for byte, and leaves nothing else behind.
func TestRebuildBesideTheLiveTables(t *testing.T) {
	all := history(21, 3000)
	vm, at := busiest(all)
	all = spoil(all, at[2], vm, func(e *events.Event) {
		e.Type, e.Data = "vm.moved.v1", events.Unknown{Type: "vm.moved.v1", Raw: json.RawMessage(`{}`)}
	})
	db := open(t)
	log := projectionstest.NewLog(all...)
	p := follow(t, db, log)
	await(t, p, uint64(len(all)))
	rows, rest, names := dump(t, db), books(t, db), tables(t, db)
	var last mysql.Progress
	built := rebuild(t, p, log, mysql.RebuildOptions{Progress: func(now mysql.Progress) { last = now }})
	if got := dump(t, db); got != rows {
		t.Fatal(diff(rows, got))
	}
	if got := books(t, db); got != rest {
		t.Fatal(diff(rest, got))
	}
	if got := tables(t, db); got != names {
		t.Fatalf("tables before and after:\n%s\n%s", names, got)
	}
	if n := strings.Count(rows, "\n"); built.Rows < uint64(n) || built.Number != uint64(len(all)) || built.Parked != 1 {
		t.Errorf("built %+v of %d rows", built, n)
	}
	if last.Phase != mysql.PhaseDone || last.Decisions != uint64(len(all)) || last.Loaded != built.Rows {
		t.Errorf("last progress %+v", last)
	}
	checkTables(t, db)
}

// checkTables has the server check every table with its indexes.
func checkTables(t *testing.T, db *sql.DB) {
	t.Helper()
	for _, m := range projections.Models() {
		var name, op, kind, text string
		if err := db.QueryRowContext(t.Context(), "CHECK TABLE "+m.Table.Name+" EXTENDED").Scan(&name, &op, &kind, &text); err != nil || text != "OK" {
			t.Errorf("%s: %s %v", m.Table.Name, text, err)
		}
	}
}

// Texts that are hard to carry arrive as they are.
func TestRebuildKeepsHardTexts(t *testing.T) {
	all := history(22, 300)
	vm, at := busiest(all)
	for at[1] < len(all) && len(all[at[1]].Events) > 1 {
		at = at[1:]
	}
	hard := "tab\t line\n return\r back\\slash \\N nul\x00 quote' \" `emoji 😀 ende\\"
	all = spoil(all, at[1], vm, func(e *events.Event) {
		e.Data = events.VMStepFailed{Step: hard}
		e.Type = e.Data.EventType()
	})
	db := open(t)
	log := projectionstest.NewLog(all[:at[1]+1]...)
	p := follow(t, db, log)
	await(t, p, uint64(at[1]+1))
	rows := dump(t, db)
	if !strings.Contains(rows, "emoji") {
		t.Fatal("the text is not in the rows")
	}
	rebuild(t, p, log, mysql.RebuildOptions{})
	if got := dump(t, db); got != rows {
		t.Fatal(diff(rows, got))
	}
}

// Readers that never stop see no gap, no older moment than before, and rows and checkpoint of one moment, while the read models are
// rebuilt again and again under a log that grows.
func TestReadersSeeNoSwap(t *testing.T) {
	all := history(23, 3000)
	db := open(t)
	start := len(all) / 3
	log := projectionstest.NewLog(all[:start]...)
	p := follow(t, db, log)
	await(t, p, uint64(start))
	oracle := newOracle(all)

	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var asked atomic.Uint64
	for i := range 6 {
		running.Go(func() { hammer(ctx, t, db, p, oracle, i, &asked) })
	}
	for i := range 2 {
		running.Go(func() { dashboard(ctx, t, db, i, &asked) })
	}
	const rounds = 5
	for i := range rounds {
		n := start + (len(all)-start)*i/rounds
		m := start + (len(all)-start)*(i+1)/rounds
		done := make(chan struct{})
		go func() {
			defer close(done)
			for at := n; at < m; at += 5 {
				log.Append(all[at:min(at+5, m)]...)
			}
		}()
		rebuild(t, p, log, mysql.RebuildOptions{})
		<-done
	}
	await(t, p, uint64(len(all)))
	cancel()
	running.Wait()
	t.Logf("%d questions", asked.Load())
	if got, want := dump(t, db), oracle.dump(len(all)); got != want {
		t.Fatal(diff(want, got))
	}
}

// oracle tells what the VMs of a history were at any decision, by the number of VMs and the latest decision among them.
type oracle struct {
	vms    []int
	newest []uint64
	last   *projections.Memory
}

func newOracle(all []events.Recorded) *oracle {
	o := &oracle{vms: []int{0}, newest: []uint64{0}, last: projections.NewMemory()}
	table := projections.ByKind(events.KindVM).Table
	by := map[string]uint64{}
	for i := range all {
		if err := o.last.Apply(&all[i]); err != nil {
			panic(err)
		}
		touched := false
		for _, e := range all[i].Events {
			touched = touched || e.Aggregate.Kind == events.KindVM || e.Aggregate.Kind == events.KindMachine || e.Aggregate.Kind == events.KindHost
		}
		if touched {
			clear(by)
			for _, r := range o.last.Rows(table) {
				vm := r.(*projections.VM)
				by[vm.ID] = vm.ChangedBy
			}
		}
		newest := uint64(0)
		for _, n := range by {
			newest = max(newest, n)
		}
		o.vms, o.newest = append(o.vms, len(by)), append(o.newest, newest)
	}
	return o
}

func (o *oracle) dump(int) string {
	var out strings.Builder
	for _, m := range projections.Models() {
		for _, r := range o.last.Rows(m.Table) {
			b, err := json.Marshal(r)
			if err != nil {
				panic(err)
			}
			fmt.Fprintln(&out, m.Table.Name, string(b))
		}
	}
	return out.String()
}

// hammer asks for all VMs, as the bus does, and compares the answer with what they were at the decision that it says.
func hammer(ctx context.Context, t *testing.T, db *sql.DB, p *mysql.Projector, o *oracle, i int, asked *atomic.Uint64) {
	r := read.New(db, p, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	before := uint64(0)
	for ctx.Err() == nil {
		wait := p.Applied()
		a := r.List(context.WithoutCancel(ctx), read.Everything("test"), events.KindVM, events.ReadRequest{Limit: 1000, WaitFor: wait})
		if a.Error != nil {
			t.Errorf("reader %d: %s", i, a.Error.Message)
			return
		}
		newest := uint64(0)
		for _, raw := range a.Items {
			var vm projections.VM
			if err := json.Unmarshal(raw, &vm); err != nil {
				t.Errorf("reader %d: %v", i, err)
				return
			}
			newest = max(newest, vm.ChangedBy)
		}
		if a.Applied < before || a.Applied < wait || len(a.Items) != min(o.vms[a.Applied], 1000) || newest != o.newest[a.Applied] {
			t.Errorf("reader %d at %d (before %d, waited for %d): %d VMs, the newest by %d; want %d, %d", i, a.Applied, before, wait,
				len(a.Items), newest, o.vms[a.Applied], o.newest[a.Applied])
			return
		}
		before = a.Applied
		asked.Add(1)
		// tables whose names sort before the checkpoint's are locked by a swap while it waits for the checkpoint
		for _, kind := range []events.Kind{events.KindHost, events.KindAccount, events.KindOperation} {
			b := r.List(context.WithoutCancel(ctx), read.Everything("test"), kind, events.ReadRequest{Limit: 5})
			if b.Error != nil || b.Applied < before || len(b.Items) == 0 {
				t.Errorf("reader %d asks for %s: %+v after %d", i, kind, b, before)
				return
			}
			before = b.Applied
			asked.Add(1)
		}
	}
}

// dashboard is a MySQL client that knows nothing of us: single statements over several tables.
func dashboard(ctx context.Context, t *testing.T, db *sql.DB, i int, asked *atomic.Uint64) {
	for ctx.Err() == nil {
		var seq, newest uint64
		err := db.QueryRowContext(context.WithoutCancel(ctx), "SELECT c.seq, GREATEST((SELECT MAX(changed_by) FROM vms), (SELECT MAX(changed_by) FROM hosts), (SELECT MAX(changed_by) FROM operations)) FROM projection_checkpoint c").Scan(&seq, &newest)
		if err != nil {
			t.Errorf("dashboard %d: %v", i, err)
			return
		}
		if newest > seq {
			t.Errorf("dashboard %d: a row of decision %d beside checkpoint %d", i, newest, seq)
			return
		}
		asked.Add(1)
	}
}

package mysql_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/mysql"
	"cloudengine/projections/projectionstest"
)

// server is the private server that all tests of this package share; each test has its own database in it.
var server *mysql.Private

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if spec := os.Getenv(childEnv); spec != "" {
		return rebuildChild(spec)
	}
	dir, err := os.MkdirTemp("", "ce-mysql-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if server, err = mysql.StartPrivate(ctx, dir, 64, slog.New(slog.DiscardHandler)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Close()
	mysql.LoadEarly()
	return m.Run()
}

// open gives a database of this test's own.
func open(t *testing.T) *sql.DB {
	t.Helper()
	sum := sha256.Sum256([]byte(t.Name() + time.Now().String()))
	db, err := server.Open(t.Context(), "t_"+hex.EncodeToString(sum[:8]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func history(seed uint64, steps int) []events.Recorded {
	r := rand.New(rand.NewPCG(seed, 1))
	return projectionstest.New(r.IntN, 3).Steps(steps).All()
}

// apply applies decisions with a fresh engine in batches of a size.
func apply(t *testing.T, db *sql.DB, all []events.Recorded, size int) []projections.Parked {
	t.Helper()
	e, err := mysql.OpenEngine(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	var parked []projections.Parked
	for len(all) > 0 {
		n := min(size, len(all))
		p, err := e.Apply(t.Context(), all[:n])
		if err != nil {
			t.Fatal(err)
		}
		parked, all = append(parked, p...), all[n:]
	}
	return parked
}

// dump gives the rows of all read models as text.
func dump(t *testing.T, db *sql.DB) string {
	t.Helper()
	var out strings.Builder
	for _, m := range projections.Models() {
		rows, err := db.QueryContext(t.Context(), "SELECT `"+strings.Join(m.Table.Columns, "`,`")+"` FROM "+m.Table.Name+" ORDER BY id")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			row := m.Table.New()
			if err := rows.Scan(m.Table.Pointers(row)...); err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(row)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&out, m.Table.Name, string(b))
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestTablesAreTheRows(t *testing.T) {
	db := open(t)
	for _, m := range projections.Models() {
		rows, err := db.QueryContext(t.Context(), "SELECT column_name, column_comment FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position", m.Table.Name)
		if err != nil {
			t.Fatal(err)
		}
		var columns []string
		for rows.Next() {
			var name, comment string
			if err := rows.Scan(&name, &comment); err != nil {
				t.Fatal(err)
			}
			if comment == "" {
				t.Errorf("%s.%s has no comment", m.Table.Name, name)
			}
			columns = append(columns, name)
		}
		rows.Close()
		if got, want := strings.Join(columns, " "), strings.Join(m.Table.Columns, " "); got != want {
			t.Errorf("%s has the columns\n %s\nand its rows\n %s", m.Table.Name, got, want)
		}
	}
}

func TestBatchesOfAnySizeGiveEqualRows(t *testing.T) {
	all := history(1, 1500)
	want := ""
	for _, size := range []int{1, 7, 500} {
		db := open(t)
		if parked := apply(t, db, all, size); len(parked) > 0 {
			t.Fatalf("parked: %+v", parked)
		}
		got := dump(t, db)
		if want == "" {
			want = got
		}
		if got != want {
			t.Fatalf("batches of %d give other rows:\n%s", size, diff(want, got))
		}
	}
	if n := strings.Count(want, "\n"); n < 500 {
		t.Fatalf("only %d rows", n)
	}
}

func TestRebuildGivesEqualRows(t *testing.T) {
	db := open(t)
	all := history(2, 800)
	apply(t, db, all, 100)
	want := dump(t, db)
	if err := mysql.Clear(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, db); got != "" {
		t.Fatalf("rows after the tables were made anew:\n%s", got)
	}
	apply(t, db, all, 500)
	if got := dump(t, db); got != want {
		t.Fatal(diff(want, got))
	}
}

func diff(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return "- " + x[i] + "\n+ " + y[i]
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// follow runs a projector until the test ends, and waits for it.
func follow(t *testing.T, db *sql.DB, log *projectionstest.Log) *mysql.Projector {
	t.Helper()
	return keepUp(t, mysql.NewProjector(db, slog.New(slog.DiscardHandler)), log)
}

// followAnew is follow that builds the read models anew first, whatever they say.
func followAnew(t *testing.T, db *sql.DB, log *projectionstest.Log) *mysql.Projector {
	t.Helper()
	p := mysql.NewProjector(db, slog.New(slog.DiscardHandler))
	p.Anew()
	return keepUp(t, p, log)
}

func keepUp(t *testing.T, p *mysql.Projector, log *projectionstest.Log) *mysql.Projector {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, log) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func await(t *testing.T, p *mysql.Projector, n uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := p.Wait(ctx, n); err != nil {
		t.Fatalf("wait for decision %d, at %d: %v", n, p.Applied(), err)
	}
}

// The server is killed again and again while decisions come in: rows and checkpoint stay together, and the end is the same.
func TestServerIsKilledMidStream(t *testing.T) {
	all := history(3, 8000)
	calm := open(t)
	apply(t, calm, all, 500)
	want := dump(t, calm)

	straight := open(t)
	await(t, follow(t, straight, projectionstest.NewLog(all...)), uint64(len(all)))
	if got := dump(t, straight); got != want {
		t.Fatal("folding ahead gives other rows: " + diff(want, got))
	}

	db := open(t)
	log := projectionstest.NewLog(all[:10]...)
	log.Chunk = 20
	p := follow(t, db, log)
	for at, kills := 10, 0; at < len(all); {
		n := min(at+len(all)/12, len(all))
		log.Append(all[at:n]...)
		if kills < 4 {
			await(t, p, uint64(at))
			pid := server.PID()
			if pid != 0 {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
					t.Fatal(err)
				}
				kills++
			}
		}
		at = n
	}
	await(t, p, uint64(len(all)))
	if got := dump(t, db); got != want {
		t.Fatal(diff(want, got))
	}
	at, err := mysql.ReadCheckpoint(t.Context(), db)
	if err != nil || at.Number != uint64(len(all)) {
		t.Fatalf("checkpoint %+v, %v; want %d", at, err, len(all))
	}
}

func TestOneOwner(t *testing.T) {
	db := open(t)
	all := history(4, 50)
	one, err := mysql.OpenEngine(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	two, err := mysql.OpenEngine(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.Apply(t.Context(), all[:10]); err != nil {
		t.Fatal(err)
	}
	want := dump(t, db)
	if _, err := two.Apply(t.Context(), all[:5]); !errors.Is(err, mysql.ErrOtherOwner) {
		t.Fatalf("a second owner: %v", err)
	}
	if got := dump(t, db); got != want {
		t.Fatal("the second owner changed rows: " + diff(want, got))
	}
	if _, err := one.Apply(t.Context(), all[11:12]); !errors.Is(err, mysql.ErrGap) {
		t.Fatalf("a gap: %v", err)
	}
}

func TestLogThatIsNotOurs(t *testing.T) {
	db := open(t)
	all := history(5, 50)
	apply(t, db, all, 500)
	run := func(log *projectionstest.Log) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return mysql.NewProjector(db, slog.New(slog.DiscardHandler)).Run(ctx, log)
	}
	if err := run(projectionstest.NewLog(all[:20]...)); !errors.Is(err, mysql.ErrAhead) {
		t.Errorf("a shorter log: %v", err)
	}
	other := append([]events.Recorded{}, all...)
	other[len(other)-1].Intent = "00000000-0000-0000-0000-000000000000"
	if err := run(projectionstest.NewLog(other...)); !errors.Is(err, mysql.ErrOtherLog) {
		t.Errorf("another log: %v", err)
	}
}

package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloudengine/projections/mysql"
	"cloudengine/projections/projectionstest"
)

// The database is killed at any moment of a rebuild: what was live serves on or the new tables do, never some of both, and the next
// rebuild succeeds and leaves nothing behind.
func TestDatabaseKilledWhileRebuilding(t *testing.T) { databaseKilled(t, 3) }

func databaseKilled(t *testing.T, kills int) {
	all := history(31, 4000)
	db := open(t)
	log := projectionstest.NewLog(all...)
	p := follow(t, db, log)
	await(t, p, uint64(len(all)))
	rows, rest, names := dump(t, db), books(t, db), tables(t, db)
	began := time.Now()
	rebuild(t, p, log, mysql.RebuildOptions{})
	usual := time.Since(began)
	r := rand.New(rand.NewPCG(uint64(kills), 5))
	failed := 0
	for i := range kills {
		done := make(chan error, 1)
		go func() {
			_, err := p.Rebuild(context.Background(), log, mysql.RebuildOptions{})
			done <- err
		}()
		kill := time.NewTimer(time.Duration(r.Float64() * 1.1 * float64(usual)))
		<-kill.C
		if pid := server.PID(); pid != 0 {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			failed++
		}
		answers(t, db)
		if got := dump(t, db); got != rows {
			t.Fatalf("kill %d: %s", i, diff(rows, got))
		}
		if got := books(t, db); got != rest {
			t.Fatalf("kill %d: %s", i, diff(rest, got))
		}
	}
	t.Logf("%d of %d rebuilds of %s failed", failed, kills, usual)
	rebuild(t, p, log, mysql.RebuildOptions{})
	if got := tables(t, db); got != names {
		t.Fatalf("tables before and after:\n%s\n%s", names, got)
	}
	if got := dump(t, db); got != rows {
		t.Fatal(diff(rows, got))
	}
}

// answers waits until the database does.
func answers(t *testing.T, db *sql.DB) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if _, err = mysql.ReadCheckpoint(t.Context(), db); err == nil {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatal(err)
}

// childEnv tells this test's program to be a rebuild that is going to be killed: seed, steps and DSN.
const childEnv = "CE_REBUILD_CHILD"

// rebuildChild rebuilds, and tells when it has begun to load.
func rebuildChild(spec string) int {
	part := strings.SplitN(spec, " ", 3)
	seed, _ := strconv.ParseUint(part[0], 10, 64)
	steps, _ := strconv.Atoi(part[1])
	d, err := mysql.Open(context.Background(), mysql.Config{DSN: part[2], Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	p := mysql.NewProjector(d.DB, slog.New(slog.DiscardHandler))
	_, err = p.Rebuild(context.Background(), projectionstest.NewLog(history(seed, steps)...), mysql.RebuildOptions{
		Progress: func(now mysql.Progress) { fmt.Println(now.Phase) },
	})
	fmt.Println(err)
	return 1
}

// A process that is killed in the middle of a rebuild leaves tables behind; the live ones serve on, and the next start removes the rest.
func TestProcessKilledWhileRebuilding(t *testing.T) {
	all := history(32, 5000)
	db := open(t)
	apply(t, db, all, 500)
	rows, names := dump(t, db), tables(t, db)
	var name string
	if err := db.QueryRowContext(t.Context(), "SELECT DATABASE()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	dsn := strings.Replace(server.DSN(), "/"+mysql.DefaultDatabase, "/"+name, 1)
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), childEnv+"=32 5000 "+dsn)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); !strings.Contains(tables(t, db), "vms__new"); {
		if time.Now().After(end) {
			t.Fatal("the child makes no tables")
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	if got := dump(t, db); got != rows {
		t.Fatal(diff(rows, got))
	}
	if err := migrated(t, db, names); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, db); got != rows {
		t.Fatal(diff(rows, got))
	}
}

// migrated starts again until only the tables are left that were there: the dead child's lock lasts until the server has missed it.
func migrated(t *testing.T, db *sql.DB, names string) error {
	for end := time.Now().Add(30 * time.Second); ; {
		if err := mysql.Migrate(t.Context(), db); err != nil {
			return err
		}
		got := tables(t, db)
		if got == names {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("tables: %s, want %s", got, names)
		}
	}
}

// A swap that a server without atomic DDL left half done is noticed, and the log fills new tables.
func TestHalfSwap(t *testing.T) {
	all := history(33, 400)
	db := open(t)
	apply(t, db, all, 500)
	rows := dump(t, db)
	for _, q := range []string{"CREATE TABLE vms__new LIKE vms", "CREATE TABLE hosts__new LIKE hosts", "RENAME TABLE vms TO vms__old, vms__new TO vms"} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if err := mysql.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	await(t, follow(t, db, projectionstest.NewLog(all...)), uint64(len(all)))
	if got := dump(t, db); got != rows {
		t.Fatal(diff(rows, got))
	}
}

// Two rebuilds of one database at a time are one too many, and a reader's transaction that does not end keeps a swap away but not the
// projector.
func TestRebuildWaitsForReaders(t *testing.T) {
	all := history(34, 800)
	db := open(t)
	log := projectionstest.NewLog(all[:300]...)
	p := follow(t, db, log)
	await(t, p, 300)
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var seq, again uint64
	if err := tx.QueryRowContext(t.Context(), "SELECT MAX(changed_by) FROM vms").Scan(&seq); err != nil {
		t.Fatal(err)
	}
	swapping := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		told := false
		_, err := p.Rebuild(context.Background(), log, mysql.RebuildOptions{Progress: func(now mysql.Progress) {
			if now.Phase == mysql.PhaseSwap && !told {
				told = true
				close(swapping)
			}
		}})
		done <- err
	}()
	select {
	case <-swapping:
	case err := <-done:
		t.Fatalf("the swap did not wait: %v", err)
	}
	if _, err := p.Rebuild(t.Context(), log, mysql.RebuildOptions{}); !errors.Is(err, mysql.ErrBuilding) {
		t.Errorf("a second rebuild: %v", err)
	}
	log.Append(all[300:400]...)
	await(t, p, 400)
	if err := tx.QueryRowContext(t.Context(), "SELECT MAX(changed_by) FROM vms").Scan(&again); err != nil || again != seq {
		t.Errorf("the reader's snapshot moved from %d to %d: %v", seq, again, err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	calm := open(t)
	apply(t, calm, all[:400], 500)
	if got, want := dump(t, db), dump(t, calm); got != want {
		t.Fatal(diff(want, got))
	}
}

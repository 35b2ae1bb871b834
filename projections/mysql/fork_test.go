package mysql_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cloudengine/events"
	"cloudengine/projections/mysql"
	"cloudengine/projections/projectionstest"
)

// nameOf gives the name of a test's database.
func nameOf(t *testing.T, db *sql.DB) string {
	t.Helper()
	var name string
	if err := db.QueryRowContext(t.Context(), "SELECT DATABASE()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}

func dsn(schema string) string {
	return strings.Replace(server.DSN(), "/"+mysql.DefaultDatabase, "/"+schema, 1)
}

// database opens a test's database as the program does.
func database(t *testing.T, schema string) *mysql.Database {
	t.Helper()
	d, err := mysql.Open(t.Context(), mysql.Config{DSN: dsn(schema), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// A fork has the rows of its moment, and the live schema stays what it is; schemas that are no forks are left alone.
func TestFork(t *testing.T) {
	all := history(41, 1500)
	db := open(t)
	apply(t, db, all, 500)
	rows, rest, names := dump(t, db), books(t, db), tables(t, db)
	name := nameOf(t, db)
	d, log := database(t, name), projectionstest.NewLog(all...)
	schema := "f_" + name[2:]
	fork := func(schema string, until uint64) error {
		_, err := d.Fork(t.Context(), log, mysql.ForkOptions{Schema: schema, Until: until, Log: slog.New(slog.DiscardHandler)})
		return err
	}
	for _, until := range []int{len(all) / 2, 1, len(all)} {
		if err := fork(schema, uint64(until)); err != nil {
			t.Fatal(err)
		}
		calm := open(t)
		apply(t, calm, all[:until], 500)
		f := database(t, schema)
		if got, want := dump(t, f.DB), dump(t, calm); got != want {
			t.Fatalf("at %d: %s", until, diff(want, got))
		}
		if got, want := books(t, f.DB), books(t, calm); got != want {
			t.Fatalf("at %d: %s", until, diff(want, got))
		}
		forks, err := d.Forks(t.Context())
		if err != nil || len(forks) != 1 || forks[0].Schema != schema || forks[0].Until != uint64(until) || time.Since(forks[0].Made) > time.Minute {
			t.Fatalf("forks %+v, %v", forks, err)
		}
	}
	if dump(t, db) != rows || books(t, db) != rest || tables(t, db) != names {
		t.Error("forks changed the live schema")
	}

	other := open(t) // the live read models of another program
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE x_"+name); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE x_"+name+".wages (id INT)"); err != nil {
		t.Fatal(err)
	}
	for schema, want := range map[string]error{
		name: mysql.ErrNotOurs, nameOf(t, other): mysql.ErrNotOurs, "x_" + name: mysql.ErrNotOurs, "mysql": mysql.ErrNoSchema,
		"information_schema": mysql.ErrNoSchema, "a`b": mysql.ErrNoSchema, "": mysql.ErrNoSchema, strings.Repeat("x", 61): mysql.ErrNoSchema,
	} {
		if err := fork(schema, 5); !errors.Is(err, want) {
			t.Errorf("fork into %q: %v, want %v", schema, err, want)
		}
		if err := d.DropFork(t.Context(), schema); !errors.Is(err, mysql.ErrNotOurs) && !errors.Is(err, mysql.ErrNoSchema) {
			t.Errorf("drop %q: %v", schema, err)
		}
	}
	for _, until := range []uint64{0, uint64(len(all)) + 1} {
		if err := fork(schema, until); !errors.Is(err, mysql.ErrFuture) {
			t.Errorf("fork at %d: %v", until, err)
		}
	}
	foreign := database(t, nameOf(t, other)) // a fork belongs to the read models that it was forked from
	if err := foreign.DropFork(t.Context(), schema); !errors.Is(err, mysql.ErrNotOurs) {
		t.Errorf("drop another's fork: %v", err)
	}
	if err := d.DropFork(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	if err := d.DropFork(t.Context(), schema); !errors.Is(err, mysql.ErrNoSchema) {
		t.Errorf("drop it again: %v", err)
	}
}

// Tables of another version serve until those of this one take their place; what they lack can be read then.
func TestOtherVersionIsRebuiltAtStart(t *testing.T) {
	all := history(42, 1200)
	for name, change := range map[string]string{
		"other events":   "SELECT 1",
		"column missing": "ALTER TABLE hosts DROP COLUMN xen_version",
		"table missing":  "DROP TABLE dropped_events",
		"all missing":    "DROP TABLE projection_checkpoint",
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			apply(t, db, all, 500)
			want, rest := dump(t, db), books(t, db)
			for _, q := range []string{change, "UPDATE projection_schema SET version = 'another'"} {
				if _, err := db.ExecContext(t.Context(), q); err != nil {
					t.Fatal(err)
				}
			}
			if err := mysql.Migrate(t.Context(), db); err != nil {
				t.Fatal(err)
			}
			var vms int
			if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM vms").Scan(&vms); err != nil || vms == 0 {
				t.Fatalf("the old tables serve %d VMs, %v", vms, err)
			}
			await(t, follow(t, db, projectionstest.NewLog(all...)), uint64(len(all)))
			for end := time.Now().Add(30 * time.Second); ; { // the old tables may have had the last decision too
				if v, err := mysql.ReadStatus(t.Context(), db); err == nil && v.Version != "another" {
					break
				} else if time.Now().After(end) {
					t.Fatal(v.Version, err)
				}
			}
			if got := dump(t, db); got != want {
				t.Fatal(diff(want, got))
			}
			if got := books(t, db); got != rest {
				t.Fatal(diff(rest, got))
			}
		})
	}
}

// A log that is not the one of the tables is noticed in a rebuild too, unless it is said to be right.
func TestAnew(t *testing.T) {
	all, other := history(43, 300), history(44, 500)
	db := open(t)
	apply(t, db, all, 500)
	want := dump(t, db)
	if _, err := db.ExecContext(t.Context(), "UPDATE projection_schema SET version = 'another'"); err != nil {
		t.Fatal(err)
	}
	for log, why := range map[*projectionstest.Log]error{
		projectionstest.NewLog(other...):   mysql.ErrOtherLog,
		projectionstest.NewLog(all[:9]...): mysql.ErrAhead,
	} {
		if err := mysql.NewProjector(db, slog.New(slog.DiscardHandler)).Run(t.Context(), log); !errors.Is(err, why) {
			t.Fatalf("%v, want %v", err, why)
		}
		if got := dump(t, db); got != want {
			t.Fatal(diff(want, got))
		}
	}
	calm := open(t)
	apply(t, calm, other, 500)
	want = dump(t, calm)
	await(t, followAnew(t, db, projectionstest.NewLog(other...)), uint64(len(other)))
	if got := dump(t, db); got != want {
		t.Fatal(diff(want, got))
	}
}

// An event of a type that a newer version knows is applied in its place when that version takes over, or given up by a person.
func TestRetryAndDrop(t *testing.T) {
	all := history(45, 2500)
	vm, at := busiest(all)
	ref := events.Ref{Kind: events.KindVM, ID: vm}
	older := spoil(all, at[2], vm, func(e *events.Event) {
		e.Type, e.Data = "vm.moved.v1", events.Unknown{Type: "vm.moved.v1", Raw: json.RawMessage(`{}`)}
	})
	without := spoil(all, at[2], vm, func(e *events.Event) {}) // the same without the event
	for i, e := range without[at[2]].Events {
		if e.Aggregate.ID == vm {
			without[at[2]].Events = append(without[at[2]].Events[:i:i], without[at[2]].Events[i+1:]...)
			break
		}
	}
	calm, less := open(t), open(t)
	apply(t, calm, all, 500)
	apply(t, less, without, 500)

	db := open(t)
	log := projectionstest.NewLog(older...)
	p := follow(t, db, log)
	await(t, p, uint64(len(older)))
	before, rest := dump(t, db), books(t, db)
	parked, err := mysql.ReadParked(t.Context(), db, ref, 0)
	if err != nil || len(parked) < 2 || !parked[0].First || parked[1].First || parked[0].Type != "vm.moved.v1" {
		t.Fatalf("parked %+v, %v", parked, err)
	}
	for _, word := range []string{"vm.moved.v1", "newer version"} {
		if !strings.Contains(parked[0].Error, word) {
			t.Errorf("%q does not say %q", parked[0].Error, word)
		}
	}
	if _, err := p.Rebuild(t.Context(), log, mysql.RebuildOptions{Lift: ref}); !errors.Is(err, mysql.ErrStillParked) {
		t.Fatalf("retry by a version that does not know the event: %v", err)
	}
	if _, err := p.Rebuild(t.Context(), log, mysql.RebuildOptions{Lift: events.Ref{Kind: events.KindVM, ID: "nobody"}}); !errors.Is(err, mysql.ErrNotParked) {
		t.Fatalf("retry what is not parked: %v", err)
	}
	if dump(t, db) != before || books(t, db) != rest {
		t.Fatal("a retry that fails changes nothing")
	}

	newer := projectionstest.NewLog(all...) // as a newer version reads it
	rebuild(t, p, newer, mysql.RebuildOptions{Lift: ref})
	if got, want := dump(t, db), dump(t, calm); got != want {
		t.Fatal(diff(want, got))
	}
	rebuild(t, p, log, mysql.RebuildOptions{}) // parked again
	if dump(t, db) != before || books(t, db) != rest {
		t.Fatal("parked again, it is not as before")
	}

	rebuild(t, p, log, mysql.RebuildOptions{Drop: ref, Reason: "the machine is gone", By: "ann"})
	if got, want := dump(t, db), dump(t, less); got != want {
		t.Fatal(diff(want, got))
	}
	dropped, err := mysql.ReadDropped(t.Context(), db)
	if err != nil || len(dropped) != 1 || dropped[0].Reason != "the machine is gone" || dropped[0].By != "ann" || dropped[0].Object != ref || dropped[0].Error != parked[0].Error {
		t.Fatalf("dropped %+v, %v", dropped, err)
	}
	rest = books(t, db)
	rebuild(t, p, log, mysql.RebuildOptions{}) // it stays given up
	if got, want := dump(t, db), dump(t, less); got != want || books(t, db) != rest {
		t.Fatal(diff(want, got))
	}
	if err := func() error {
		_, err := p.Rebuild(t.Context(), log, mysql.RebuildOptions{Drop: ref, Reason: "again", By: "ann"})
		return err
	}(); !errors.Is(err, mysql.ErrNotParked) {
		t.Errorf("drop what is not parked: %v", err)
	}
	s, err := mysql.ReadStatus(t.Context(), db)
	if err != nil || s.Dropped != 1 || s.Parked != 0 || s.At.Number != uint64(len(all)) || len(s.Models) < 10 {
		t.Errorf("status %+v, %v", s, err)
	}
}

// Rows that the database does not take as they are, here because it sees no difference between two ids, are written as the projector
// writes them.
func TestRebuildWhenTheDatabaseRefusesARow(t *testing.T) {
	all := history(46, 500)
	for i, id := range []string{"short", "short "} {
		last := all[len(all)-1]
		made := events.AccountCreated{Name: []string{"one", "twin"}[i]}
		last.Number, last.Actor, last.Kind, last.Verb = last.Number+1, "admin", events.KindAccount, "create"
		last.Intent = events.IntentID([]string{"0199aaaa-0000-7000-8000-000000000001", "0199aaaa-0000-7000-8000-000000000002"}[i])
		last.Events = []events.Event{{Aggregate: events.Ref{Kind: events.KindAccount, ID: id}, Version: 1, Type: made.EventType(), Data: made}}
		all = append(all, last)
	}
	db := open(t)
	log := projectionstest.NewLog(all...)
	var said bytes.Buffer
	p := keepUp(t, mysql.NewProjector(db, slog.New(slog.NewTextHandler(&said, nil))), log)
	await(t, p, uint64(len(all)))
	want := dump(t, db)
	if !strings.Contains(want, "twin") {
		t.Fatal("the event was not applied")
	}
	rebuild(t, p, log, mysql.RebuildOptions{})
	if got := dump(t, db); got != want {
		t.Fatal(diff(want, got))
	}
	if !strings.Contains(said.String(), "does not fit its table") {
		t.Errorf("the rows were loaded as they are: %s", &said)
	}
}

// A server that takes no files from clients gets INSERTs.
func TestRebuildWithoutLocalFiles(t *testing.T) {
	all := history(47, 2000)
	db := open(t)
	log := projectionstest.NewLog(all...)
	p := follow(t, db, log)
	await(t, p, uint64(len(all)))
	want := dump(t, db)
	if _, err := db.ExecContext(t.Context(), "SET GLOBAL local_infile = 0"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := db.ExecContext(context.Background(), "SET GLOBAL local_infile = 1"); err != nil {
			t.Error(err)
		}
	}()
	built := rebuild(t, p, log, mysql.RebuildOptions{})
	if got := dump(t, db); got != want || built.Rows == 0 {
		t.Fatal(diff(want, got))
	}
}

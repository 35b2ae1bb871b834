package mysql_test

import (
	"database/sql"
	"fmt"
	"testing"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/mysql"
	"cloudengine/projections/verify"
)

// compared gives what is found in a database, held against a log.
func compared(t *testing.T, db *sql.DB, all []events.Recorded) []verify.Finding {
	t.Helper()
	s, err := mysql.OpenSnapshot(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m := projections.NewMemory()
	var at *events.Recorded
	for i := range all {
		if all[i].Number > s.Checkpoint().Number {
			break
		}
		if err := m.Apply(&all[i]); err != nil {
			t.Fatal(err)
		}
		if at = &all[i]; at.Number < s.Checkpoint().Number {
			at = nil
		}
	}
	var out verify.List
	out.Add(verify.CompareCheckpoint(s.Checkpoint(), at, all[len(all)-1].Number)...)
	n, err := s.Compare(t.Context(), m, &out)
	if err != nil {
		t.Fatal(err)
	}
	if rows := len(m.Rows(projections.ByKind(events.KindVM).Table)); n < rows {
		t.Fatalf("%d rows were compared, and there are %d VMs alone", n, rows)
	}
	return out.All
}

// TestCompareFindsWhatIsPlanted: each of these faults is found, under its name, and a database that was let alone has none.
func TestCompareFindsWhatIsPlanted(t *testing.T) {
	all := history(5, 300)
	for _, c := range []struct{ name, plant, want, id string }{
		{"nothing", "DO 1", "", ""},
		{"a state changed", "UPDATE vms SET state = 'elsewhere' ORDER BY id LIMIT 1", "row_changed", ""},
		{"a null where is a value", "UPDATE operations SET account = NULL WHERE account IS NOT NULL ORDER BY id LIMIT 1", "row_changed", ""},
		{"a value where is null", "UPDATE machines SET power_error = 'none' ORDER BY id LIMIT 1", "row_changed", ""},
		{"one microsecond", "UPDATE vms SET created_at = created_at + INTERVAL 1 MICROSECOND ORDER BY id LIMIT 1", "row_changed", ""},
		{"one letter's case", "UPDATE vms SET name = CONCAT('W', SUBSTRING(name, 2)) ORDER BY id LIMIT 1", "row_changed", ""},
		{"within JSON", "UPDATE hosts SET types = '[\"pv\"]' ORDER BY id LIMIT 1", "row_changed", ""},
		{"a row deleted", "DELETE FROM vm_grants ORDER BY id LIMIT 1", "row_missing", ""},
		{"a row of the newest decision deleted", "DELETE FROM operations ORDER BY number DESC LIMIT 1", "row_missing", ""},
		{"a row inserted", "INSERT INTO accounts SELECT 'ffffffff-0000-4000-8000-000000000000', CONCAT(name, '2'), created_at, changed_by, changed_at FROM accounts LIMIT 1",
			"row_extra", "accounts/ffffffff-0000-4000-8000-000000000000"},
		{"an id changed", "UPDATE templates SET id = 'ffffffff-0000-4000-8000-000000000000' LIMIT 1", "row_extra", ""},
		{"all rows deleted", "DELETE FROM hosts", "row_missing", ""},
		{"checkpoint beyond the end", "UPDATE projection_checkpoint SET seq = seq + 7", "checkpoint_ahead", "readmodels"},
		{"checkpoint moved back", "UPDATE projection_checkpoint SET seq = seq - 20", "checkpoint_other", "readmodels"},
		{"checkpoint of another log", "UPDATE projection_checkpoint SET intent = 'ffffffff-0000-4000-8000-000000000000'", "checkpoint_other", "readmodels"},
		{"checkpoint of another term", "UPDATE projection_checkpoint SET term = term + 1", "checkpoint_other", "readmodels"},
		{"parked and need not be", "INSERT INTO parked_events VALUES (3, 0, 'vm', 'x', 'vm.created.v1', 'planted', TRUE, NOW())", "parked_extra", "3/0"},
		{"a strange column", "ALTER TABLE vms ADD COLUMN mine INT NULL", "column_extra", "vms"},
		{"a column dropped", "ALTER TABLE vms DROP COLUMN message", "column_missing", "vms"},
		{"a column made smaller", "ALTER TABLE accounts MODIFY name VARCHAR(99) NOT NULL", "column_changed", "accounts"},
		{"an index dropped", "ALTER TABLE vms DROP INDEX by_host", "index_missing", "vms"},
		{"a table dropped", "DROP TABLE secrets", "table_missing", "secrets"},
		{"a strange table", "CREATE TABLE notes (id INT)", "table_extra", "notes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := open(t)
			apply(t, db, all, 100)
			if c.want != "" { // else this is the case itself
				if found := compared(t, db, all); len(found) > 0 {
					t.Fatalf("before anything was planted: %+v", found[0])
				}
			}
			if _, err := db.Exec(c.plant); err != nil {
				t.Fatal(err)
			}
			found := compared(t, db, all)
			if c.want == "" {
				if len(found) > 0 {
					t.Fatalf("found %+v", found)
				}
				return
			}
			hit := false
			for _, f := range found {
				if f.What == "" || f.Next == "" || f.Section != verify.Rows {
					t.Errorf("a finding that does not help: %+v", f)
				}
				hit = hit || f.Check == c.want && (c.id == "" || c.id == f.ID)
			}
			if !hit {
				t.Fatalf("want %s %s, found %s", c.want, c.id, fmt.Sprintf("%+v", found))
			}
		})
	}
}

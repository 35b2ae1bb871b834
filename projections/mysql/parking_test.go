package mysql_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/projectionstest"
)

// vmEvents gives the positions of the events of the VM that has the most of them.
func busiest(all []events.Recorded) (vm string, at []int) {
	by := map[string][]int{}
	for i, r := range all {
		for _, e := range r.Events {
			if e.Aggregate.Kind == events.KindVM && (len(by[e.Aggregate.ID]) == 0 || by[e.Aggregate.ID][len(by[e.Aggregate.ID])-1] != i) {
				by[e.Aggregate.ID] = append(by[e.Aggregate.ID], i)
			}
		}
	}
	for id, list := range by {
		if len(list) > len(at) || len(list) == len(at) && id < vm {
			vm, at = id, list
		}
	}
	return vm, at
}

// spoil copies a history and changes the first event of a VM in one decision.
func spoil(all []events.Recorded, at int, vm string, change func(*events.Event)) []events.Recorded {
	out := slices.Clone(all)
	out[at].Events = slices.Clone(out[at].Events)
	for i := range out[at].Events {
		if out[at].Events[i].Aggregate.ID == vm {
			change(&out[at].Events[i])
			break
		}
	}
	return out
}

// An event that cannot be applied parks its object: in order, nothing skipped, and everything else goes on.
func TestParking(t *testing.T) {
	all := history(11, 4000)
	vm, at := busiest(all)
	clean := open(t)
	apply(t, clean, all, 500)
	before := open(t)
	apply(t, before, all[:at[2]], 500)
	cases := map[string]func(*events.Event){
		"unknown_type": func(e *events.Event) {
			e.Type = "vm.moved.v1"
			e.Data = events.Unknown{Type: e.Type, Raw: json.RawMessage(`{}`)}
		},
		"does_not_fit": func(e *events.Event) {
			e.Data = events.VMRunGranted{Host: "h", HostName: strings.Repeat("x", 256)}
			e.Type = e.Data.EventType()
		},
		"bad_text": func(e *events.Event) {
			e.Data = events.VMRunWanted{Want: "жить"} // the column is ASCII
			e.Type = e.Data.EventType()
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			spoiled := spoil(all, at[2], vm, change)
			want := ""
			for _, size := range []int{1, 500} {
				db := open(t)
				parked := apply(t, db, spoiled, size)
				if len(parked) == 0 || parked[0].Object.ID != vm || parked[0].Number != spoiled[at[2]].Number || errors.Is(parked[0].Err, projections.ErrParked) {
					t.Fatalf("parked first: %+v", parked[:min(1, len(parked))])
				}
				for _, p := range parked[1:] {
					if !errors.Is(p.Err, projections.ErrParked) || p.Object.ID != vm {
						t.Fatalf("parked too: %+v", p)
					}
				}
				var rows, first int
				if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*), SUM(first) FROM parked_events WHERE kind = 'vm' AND object = ?", vm).Scan(&rows, &first); err != nil {
					t.Fatal(err)
				}
				if rows != len(parked) || first != 1 {
					t.Fatalf("%d rows of %d parked events, %d first", rows, len(parked), first)
				}
				got := dump(t, db)
				if row(got, "vms", vm) != row(dump(t, before), "vms", vm) {
					t.Fatalf("the parked row moved on:\n%s", row(got, "vms", vm))
				}
				if want == "" {
					want = got
				} else if got != want {
					t.Fatal(diff(want, got))
				}
			}
			db := open(t) // and while one batch is written and the next one folded
			await(t, follow(t, db, projectionstest.NewLog(spoiled...)), uint64(len(spoiled)))
			if got := dump(t, db); got != want {
				t.Fatal(diff(want, got))
			}
		})
	}
}

func row(dump, table, id string) string {
	for l := range strings.SplitSeq(dump, "\n") {
		if strings.HasPrefix(l, table+` {"id":"`+id) {
			return l
		}
	}
	return ""
}

// What only the database finds not to fit parks its object too.
func TestParkingByTheDatabase(t *testing.T) {
	all := history(12, 600)
	db := open(t)
	vm, at := busiest(all)
	for len(all[at[1]].Events) > 1 { // an event of the same decision could write over it
		at = at[1:]
	}
	if _, err := db.ExecContext(t.Context(), "ALTER TABLE vms MODIFY message VARCHAR(100) NULL"); err != nil {
		t.Fatal(err)
	}
	spoiled := spoil(all, at[1], vm, func(e *events.Event) {
		e.Data = events.VMStepFailed{Step: strings.Repeat("x", 200)}
		e.Type = e.Data.EventType()
	})
	parked := apply(t, db, spoiled[:at[1]+1], 500)
	if len(parked) == 0 || parked[0].Object.ID != vm || parked[0].Number != spoiled[at[1]].Number {
		t.Fatalf("parked: %+v", parked)
	}
	for _, p := range apply(t, db, spoiled[at[1]+1:], 500) {
		if p.Object.ID != vm || !errors.Is(p.Err, projections.ErrParked) {
			t.Fatalf("parked later: %+v", p)
		}
	}
}

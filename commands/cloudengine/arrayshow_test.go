package main

import (
	"strings"
	"testing"

	"cloudengine/events"
)

func TestLegsAreDrawnByNode(t *testing.T) {
	array := row{"leg_states": []string{"in_sync", "faulty", "in_sync"}}
	disks := []row{
		{"slot": 3, "node_name": "node2", "serial": "d"}, {"slot": 0, "node_name": "node1", "serial": "a", "health": events.DiskFailing},
		{"slot": 1, "node_name": "node2", "serial": "b", "gone": true}, {"slot": 2, "node_name": "node1", "serial": "c"}, {"serial": "no leg"},
	}
	legs := legsOf(array, disks)
	columns, rows := legGrid(legs, 2)
	var out strings.Builder
	if err := table(&out, columns, rows, withHeads); err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"SET", "NODE1", "NODE2"},
		{"0", "in_sync (a, failing)", "faulty (b, gone)"},
		{"1", "in_sync (c)", "? (d)"},
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(want) {
		t.Fatalf("drawn is\n%s", out.String())
	}
	for i, cells := range want {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != strings.Join(cells, " ") {
			t.Errorf("line %d is %q", i, got)
		}
	}
}

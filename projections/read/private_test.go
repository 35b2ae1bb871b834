package read

import (
	"encoding/json"
	"strings"
	"testing"

	"cloudengine/projections"
)

// TestPrivateColumns shows a grant to an account without the table of all hosts, and leaves the row, which others read too, as it is.
func TestPrivateColumns(t *testing.T) {
	m := projections.ByKind(projections.KindGrant)
	row := &projections.Grant{ID: "x.1", HostName: "host1", Scores: json.RawMessage(`[{"name":"host2"}]`)}
	for all, want := range map[bool]bool{true: true, false: false} {
		raw, err := json.Marshal(question{all: all}.shown(m, row))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(raw), "host2"); got != want || !strings.Contains(string(raw), "host1") {
			t.Errorf("all %t: %s", all, raw)
		}
	}
	if len(row.Scores) == 0 {
		t.Error("the row was changed for all")
	}
}

package benchplan

import (
	"slices"
	"testing"
)

// TestMachinesAreAsTheirDocumentsSay: what is measured is a look at which nothing is to be done, and each line has its sizes and a growth.
func TestMachinesAreAsTheirDocumentsSay(t *testing.T) {
	for _, l := range lines() {
		once, err := l.made(t.Context(), 20)
		if err != nil {
			t.Fatalf("%s: %v", l.id, err)
		}
		if err := once(); err != nil {
			t.Errorf("%s: %v", l.id, err)
		}
	}
	all, err := Run(t.Context(), func(id string) bool { return id == "P13-disks-10" })
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range all {
		ids = append(ids, r.ID)
		if r.Ours <= 0 {
			t.Errorf("%+v", r)
		}
	}
	if want := []string{"P13-disks-10", "P13-disks-100", "P13-disks-1000", "P13-disks"}; !slices.Equal(ids, want) {
		t.Errorf("measured are %v, want %v", ids, want)
	}
}

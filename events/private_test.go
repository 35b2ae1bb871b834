package events

import "testing"

func TestAccountsSeeNoScores(t *testing.T) {
	g := VMRunGranted{HostName: "host1", Scores: []Score{{Name: "host2", FreeMiB: 7}}, Rest: 3}
	if got := ForAccounts(g).(VMRunGranted); got.Scores != nil || got.Rest != 0 || got.HostName != "host1" {
		t.Errorf("shown: %+v", got)
	}
	if got := ForAccounts(VMDeleted{}); got != (VMDeleted{}) {
		t.Errorf("shown: %+v", got)
	}
}

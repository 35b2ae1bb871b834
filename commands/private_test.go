package commands

import (
	"strings"
	"testing"

	"cloudengine/events"
)

// TestAccountsAreNotToldOfHosts refuses a start for want of room: operators of the platform are told why for each host, users of an
// account are not told what hosts there are.
func TestAccountsAreNotToldOfHosts(t *testing.T) {
	w := newWorld(t)
	w.addHost("secrethost", 300)
	w.createVM("a", 200)
	w.createVM("b", 200)
	w.must(w.do("user.create", CreateUser{Name: "ann", Key: newTestKey(), Role: events.RoleOperate, Account: events.AccountID(w.ids["demo"])}))
	w.must(w.as("ann", "vm.start", StartVM{VM: w.vm("a")}))
	d := w.as("ann", "vm.start", StartVM{VM: w.vm("b")})
	w.refused(d, events.CodeNoCapacity, "")
	if strings.Contains(d.Outcome.Message, "secrethost") || strings.Contains(d.Outcome.Message, "MiB") {
		t.Errorf("a user of an account is told: %s", d.Outcome.Message)
	}
	d = w.do("vm.start", StartVM{VM: w.vm("b")})
	w.refused(d, events.CodeNoCapacity, "")
	if !strings.Contains(d.Outcome.Message, "secrethost: needs") {
		t.Errorf("an operator is told: %s", d.Outcome.Message)
	}
}

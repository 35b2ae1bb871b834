package commands

import (
	"testing"

	"cloudengine/events"
)

// right is the least role that a command needs, and whether users of one account have it within their account. An empty role: no user.
type right struct {
	role   string
	member bool
}

// rights says again, apart from the table of verbs, who may do what. A new command must be written here too: who may do it is a decision
// of its own.
var rights = map[string]right{
	"account.create":             {events.RoleAdmin, false},
	"account.delete":             {events.RoleAdmin, false},
	"bootimage.register":         {events.RoleOperate, false},
	"bootimage.remove":           {events.RoleAdmin, false},
	"bootimage.set_default":      {events.RoleOperate, false},
	"discovered.drop":            {events.RoleOperate, false},
	"host.adopt_orphan":          {events.RoleOperate, false},
	"host.cordon":                {events.RoleOperate, false},
	"host.stop_orphan":           {events.RoleOperate, false},
	"host.uncordon":              {events.RoleOperate, false},
	"log.open":                   {events.RoleAdmin, false},
	"log.settle":                 {events.RoleAdmin, false},
	"log.raise_level":            {events.RoleAdmin, false},
	"server.announce":            {},
	"server.remove":              {events.RoleAdmin, false},
	"machine.add":                {events.RoleOperate, false},
	"machine.enrol":              {},
	"machine.power":              {events.RoleOperate, false},
	"machine.remove":             {events.RoleAdmin, false},
	"machine.report":             {},
	"machine.report_bmc":         {},
	"machine.report_boot_served": {},
	"machine.report_discovered":  {},
	"machine.report_power":       {},
	"machine.report_returned":    {},
	"machine.report_silent":      {},
	"machine.set_image":          {events.RoleOperate, false},
	"operation.expire":           {},
	"secret.set":                 {events.RoleAdmin, false},
	"template.create":            {events.RoleOperate, true},
	"template.delete":            {events.RoleOperate, true},
	"template.import":            {events.RoleOperate, false},
	"user.create":                {events.RoleAdmin, false},
	"user.revoke":                {events.RoleAdmin, false},
	"fabric.create":              {events.RoleAdmin, false},
	"fabric.delete":              {events.RoleAdmin, false},
	"fabric.join":                {events.RoleOperate, false},
	"fabric.leave":               {events.RoleOperate, false},
	"pool.create":                {events.RoleOperate, false},
	"pool.delete":                {events.RoleAdmin, false},
	"array.create":               {events.RoleOperate, false},
	"array.delete":               {events.RoleAdmin, false},
	"array.failover":             {events.RoleOperate, false},
	"array.place":                {},
	"array.replace_leg":          {events.RoleOperate, false},
	"array.cancel_replacement":   {events.RoleOperate, false},
	"machine.drain":              {events.RoleOperate, false},
	"machine.undrain":            {events.RoleOperate, false},
	"machine.drain_next":         {},
	"array.take_over":            {},
	"array.turn":                 {},
	"array.check_due":            {},
	"array.check":                {events.RoleOperate, false},
	"array.set_resync":           {events.RoleOperate, false},
	"pool.set":                   {events.RoleOperate, false},
	"machine.report_storage":     {},
	"volume.create":              {events.RoleOperate, true},
	"volume.grow":                {events.RoleOperate, true},
	"volume.limit":               {events.RoleOperate, false},
	"volume.attach":              {events.RoleOperate, true},
	"volume.detach":              {events.RoleOperate, true},
	"volume.delete":              {events.RoleOperate, true},
	"network.create":             {events.RoleOperate, true},
	"network.delete":             {events.RoleOperate, true},
	"subnet.create":              {events.RoleOperate, true},
	"subnet.delete":              {events.RoleOperate, true},
	"subnet.reserve":             {events.RoleOperate, true},
	"subnet.release":             {events.RoleOperate, true},
	"nic.create":                 {events.RoleOperate, true},
	"nic.limit":                  {events.RoleOperate, false},
	"nic.delete":                 {events.RoleOperate, true},
	"volume.drop_golden":         {},
	"vm.create":                  {events.RoleOperate, true},
	"vm.delete":                  {events.RoleOperate, true},
	"vm.expire_shutdown":         {},
	"vm.pause":                   {events.RoleOperate, true},
	"vm.place":                   {},
	"vm.reboot":                  {events.RoleOperate, true},
	"vm.resize":                  {events.RoleOperate, true},
	"vm.resume":                  {events.RoleOperate, true},
	"vm.shutdown":                {events.RoleOperate, true},
	"vm.start":                   {events.RoleOperate, true},
	"vm.stop":                    {events.RoleOperate, true},
}

// TestRoles asks for every command as a user of every role, of the platform and of an account, revoked and not, as nobody, and as every
// component that is no user.
func TestRoles(t *testing.T) {
	w := newWorld(t)
	order := []string{"", events.RoleRead, events.RoleOperate, events.RoleAdmin}
	level := map[string]int{}
	type actor struct {
		name, role       string
		account, revoked bool
	}
	var actors []actor
	for i, role := range order {
		level[role] = i
		if role == "" {
			continue
		}
		for _, account := range []bool{false, true} {
			for _, revoked := range []bool{false, true} {
				a := actor{"u-" + role + map[bool]string{true: "-of-account"}[account] + map[bool]string{true: "-gone"}[revoked], role, account, revoked}
				c := CreateUser{Name: a.name, Key: newTestKey(), Role: role}
				if account {
					c.Account = events.AccountID(w.ids["demo"])
				}
				id := w.must(w.do("user.create", c)).Intent
				if revoked {
					w.must(w.do("user.revoke", RevokeUser{events.UserID(id)}))
				}
				actors = append(actors, a)
			}
		}
	}
	actors = append(actors, actor{name: "nobody"}, actor{name: "*"}, actor{name: ""})
	internals := []string{ActorBootstrap, ActorReaction, ActorNetboot, ActorPower, ActorLiveness, ActorDeadline, MachineActor("m1"), "machine:", "system:other", "system:"}
	all := Verbs()
	if len(all) != len(rights) {
		t.Errorf("there are %d commands, and the table of this test has %d", len(all), len(rights))
	}
	for _, v := range all {
		want, ok := rights[v.Name]
		if !ok {
			t.Errorf("%s is not in this test's table: who may do it?", v.Name)
			continue
		}
		ask := func(name string, override ...string) error {
			d := &decision{s: w.s, c: Command{Actor: name, Kind: "k", Verb: "v", Override: override}, now: w.now}
			return verbs[v.Name].may.allow(d)
		}
		for _, a := range actors {
			may := want.role != "" && a.role != "" && level[a.role] >= level[want.role] && !a.revoked && (!a.account || want.member)
			if err := ask(a.name); (err == nil) != may {
				t.Errorf("%s by %q: %v, want it allowed: %t", v.Name, a.name, err, may)
			}
			if err := ask(a.name, GuardEndProof); (err == nil) != (may && a.role == events.RoleAdmin && !a.account) {
				t.Errorf("%s by %q with an override: %v", v.Name, a.name, err)
			}
		}
		for _, name := range internals {
			may := false
			for _, in := range v.Internal {
				may = may || in == name || in == machinePrefix && len(name) >= len(machinePrefix) && name[:len(machinePrefix)] == machinePrefix
			}
			if err := ask(name); (err == nil) != may {
				t.Errorf("%s by %q: %v, want it allowed: %t", v.Name, name, err, may)
			}
		}
	}
}

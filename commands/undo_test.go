package commands

import (
	"encoding/json"
	"strings"
	"testing"

	"cloudengine/events"
)

const undoID = "0190b6a4-0000-7000-8000-000000000001"

func rowOf(t *testing.T, text string) map[string]any {
	t.Helper()
	if text == "" {
		return nil
	}
	var row map[string]any
	if err := json.Unmarshal([]byte(text), &row); err != nil {
		t.Fatal(err)
	}
	return row
}

func TestUndo(t *testing.T) {
	const stopped, running, paused = `{"name":"web","state":"stopped","wanted":"stopped","memory_mib":512,"vcpus":2}`, `{"name":"web","state":"running","wanted":"running","memory_mib":1024,"vcpus":2}`,
		`{"name":"web","state":"paused","wanted":"paused"}`
	const template = `{"name":"t","type":"kernel","min_memory_mib":64,"kernel_sha256":"` + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + `","kernel_size":10,"ramdisk_sha256":null,"account":null,"cmdline":"quiet"}`
	const diskTemplate = `{"name":"t","type":"disk","min_memory_mib":64,"kernel_sha256":null,"kernel_size":null,"ramdisk_sha256":null,"account":null,"cmdline":null,"disk_sha256":"` +
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + `","disk_size":10,"disk_bytes":512}`
	const machine = `{"name":"host1","macs":["52:54:00:00:00:01"],"roles":["host"],"serial":null,"bmc_address":"10.0.0.1:623","bmc_user":"admin","bmc_secret":"bmc"}`
	for name, c := range map[string]struct {
		verb, args, before, now string
		want                    string // verbs of the steps
		why                     string
	}{
		"a VM was made":              {"vm.create", `{}`, "", stopped, "vm.delete", ""},
		"a VM was made with a disk":  {"vm.create", `{"pool":"` + undoID + `"}`, "", stopped, "volume.detach vm.delete volume.delete", ""},
		"a VM was made and runs":     {"vm.create", `{}`, "", running, "vm.shutdown vm.delete", ""},
		"a VM was made and deleted":  {"vm.create", `{}`, "", "", "", "not there any more"},
		"a VM was deleted":           {"vm.delete", `{"vm":"` + undoID + `"}`, stopped, "", "", "does not come back"},
		"a VM was started":           {"vm.start", `{"vm":"` + undoID + `"}`, stopped, running, "vm.shutdown", ""},
		"started, stopped since":     {"vm.start", `{"vm":"` + undoID + `"}`, stopped, stopped, "", "wanted stopped already"},
		"started again":              {"vm.start", `{"vm":"` + undoID + `"}`, running, running, "", "wanted running before"},
		"a VM was stopped":           {"vm.stop", `{"vm":"` + undoID + `"}`, running, stopped, "vm.start", ""},
		"stopped, started since":     {"vm.stop", `{"vm":"` + undoID + `"}`, running, running, "", "again already"},
		"told to stop twice":         {"vm.stop", `{"vm":"` + undoID + `"}`, stopped, stopped, "", "stopped before already"},
		"a VM was shut down":         {"vm.shutdown", `{"vm":"` + undoID + `"}`, running, stopped, "vm.start", ""},
		"a VM was paused":            {"vm.pause", `{"vm":"` + undoID + `"}`, running, paused, "vm.resume", ""},
		"paused, resumed since":      {"vm.pause", `{"vm":"` + undoID + `"}`, running, running, "", "already"},
		"a VM was resumed":           {"vm.resume", `{"vm":"` + undoID + `"}`, paused, running, "vm.pause", ""},
		"a VM was rebooted":          {"vm.reboot", `{"vm":"` + undoID + `"}`, running, running, "", "over when it is done"},
		"a VM was resized":           {"vm.resize", `{"vm":"` + undoID + `","memory_mib":1024}`, stopped, running, "vm.resize", ""},
		"resized back since":         {"vm.resize", `{"vm":"` + undoID + `"}`, stopped, stopped, "", "size of before"},
		"an account was made":        {"account.create", `{"name":"a"}`, "", `{"name":"a"}`, "account.delete", ""},
		"an account was deleted":     {"account.delete", `{"account":"` + undoID + `"}`, `{"name":"a"}`, "", "account.create", ""},
		"a user was made":            {"user.create", `{"name":"ann"}`, "", `{"name":"ann","revoked":false}`, "user.revoke", ""},
		"made and revoked":           {"user.create", `{"name":"ann"}`, "", `{"name":"ann","revoked":true}`, "", "revoked already"},
		"a user was revoked":         {"user.revoke", `{"user":"` + undoID + `"}`, `{"name":"ann","revoked":false}`, `{"name":"ann","revoked":true}`, "", "stays revoked"},
		"a secret was set":           {"secret.set", `{"name":"s"}`, "", "", "", "not in the log"},
		"a template was made":        {"template.create", `{}`, "", template, "template.delete", ""},
		"a disk's was deleted":       {"template.delete", `{"template":"` + undoID + `"}`, diskTemplate, "", "template.create", ""},
		"a template was deleted":     {"template.delete", `{"template":"` + undoID + `"}`, template, "", "template.create", ""},
		"a machine was added":        {"machine.add", `{}`, "", machine, "machine.remove", ""},
		"a machine was removed":      {"machine.remove", `{"machine":"` + undoID + `"}`, machine, "", "machine.add", ""},
		"a machine was switched on":  {"machine.power", `{"machine":"` + undoID + `","action":"on"}`, `{"power_state":"off"}`, `{"power_state":"on"}`, "machine.power", ""},
		"it was on before":           {"machine.power", `{"machine":"` + undoID + `","action":"on"}`, `{"power_state":"on"}`, `{"power_state":"on"}`, "", "on before already"},
		"a machine was reset":        {"machine.power", `{"machine":"` + undoID + `","action":"cycle"}`, machine, machine, "", "nothing that could be undone"},
		"a machine's image was set":  {"machine.set_image", `{"machine":"` + undoID + `"}`, `{"image_wanted":null}`, `{"image_wanted":"b"}`, "machine.set_image", ""},
		"a fabric was joined":        {"fabric.join", `{"fabric":"` + undoID + `","machine":"` + undoID + `"}`, "", `{"name":"san"}`, "fabric.leave", ""},
		"a volume was attached":      {"volume.attach", `{"volume":"` + undoID + `"}`, `{"vm":null}`, `{"vm":"` + undoID + `","slot":"xvda"}`, "volume.detach", ""},
		"attached, detached since":   {"volume.attach", `{"volume":"` + undoID + `"}`, `{"vm":null}`, `{"vm":null}`, "", "undone already"},
		"a volume was detached":      {"volume.detach", `{"volume":"` + undoID + `"}`, `{"vm":"` + undoID + `","slot":"xvdb"}`, `{"vm":null}`, "volume.attach", ""},
		"a volume was limited":       {"volume.limit", `{"volume":"` + undoID + `"}`, `{"read_bps":0}`, `{"read_bps":2097152}`, "volume.limit", ""},
		"a NIC was limited":          {"nic.limit", `{"nic":"` + undoID + `"}`, `{"in_bps":0}`, `{"in_bps":125000}`, "nic.limit", ""},
		"limited back since":         {"volume.limit", `{"volume":"` + undoID + `"}`, `{"read_iops":20}`, `{"read_iops":20}`, "", "limits of before"},
		"a host was cordoned":        {"host.cordon", `{"host":"` + undoID + `"}`, `{"cordoned":false}`, `{"cordoned":true}`, "host.uncordon", ""},
		"cordoned, uncordoned since": {"host.cordon", `{"host":"` + undoID + `"}`, `{"cordoned":false}`, `{"cordoned":false}`, "", "undone already"},
		"a host was uncordoned":      {"host.uncordon", `{"host":"` + undoID + `"}`, `{"cordoned":true}`, `{"cordoned":false}`, "host.cordon", ""},
		"an orphan was destroyed":    {"host.stop_orphan", `{"host":"` + undoID + `"}`, "", "", "", "does not come back"},
		"by a machine":               {"machine.report", `{}`, "", "", "", "no intent of a user"},
	} {
		t.Run(name, func(t *testing.T) {
			kind, verb, _ := strings.Cut(c.verb, ".")
			u := Undoing{events.Decision{Intent: undoID, Kind: events.Kind(kind), Verb: verb, Args: json.RawMessage(c.args), Outcome: events.Outcome{Status: events.Accepted}},
				rowOf(t, c.before), rowOf(t, c.now)}
			steps, why := u.Undo()
			var got []string
			for _, s := range steps {
				got = append(got, string(s.Kind)+"."+s.Verb)
				args, err := json.Marshal(s.Args)
				if err != nil {
					t.Fatal(err)
				}
				if err := Check(Command{Intent: undoID, Actor: "admin", Kind: s.Kind, Verb: s.Verb, Args: args}); err != nil {
					t.Errorf("%s.%s %s: %v", s.Kind, s.Verb, args, err)
				}
				if s.Note == "" {
					t.Errorf("%s.%s says nothing", s.Kind, s.Verb)
				}
			}
			if strings.Join(got, " ") != c.want || !strings.Contains(why, c.why) || (len(steps) == 0) != (why != "") {
				t.Errorf("got %v, %q; want %q, %q", got, why, c.want, c.why)
			}
			for _, status := range []events.Status{events.Refused, events.Nothing} {
				u.Decision.Outcome.Status = status
				if steps, why := u.Undo(); len(steps) > 0 || why == "" {
					t.Errorf("%s: %v %q", status, steps, why)
				}
			}
		})
	}
}

// TestEveryVerbHasAnInverse, or a reason why there is none.
func TestEveryVerbHasAnInverse(t *testing.T) {
	known := map[string]bool{}
	for _, v := range Verbs() {
		known[v.Name] = true
		if _, ok := inverses[v.Name]; !ok && v.Role != "" {
			t.Errorf("%s can be asked for by users: say in undo.go what undoes it, or why nothing does", v.Name)
		}
	}
	for name := range inverses {
		if !known[name] {
			t.Errorf("there is no %s", name)
		}
	}
	u := Undoing{Decision: events.Decision{Intent: undoID, Outcome: events.Outcome{Status: events.Accepted}}}
	for name := range inverses { // nothing known of the object, and no arguments
		kind, verb, _ := strings.Cut(name, ".")
		u.Decision.Kind, u.Decision.Verb = events.Kind(kind), verb
		if steps, why := u.Undo(); len(steps) > 0 || why == "" {
			t.Errorf("%s with nothing known: %v %q", name, steps, why)
		}
	}
}

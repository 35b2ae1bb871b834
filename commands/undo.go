package commands

import (
	"encoding/json"
	"fmt"

	"cloudengine/events"
)

// Undoing is an intent that was decided, with the row of its object before it and now; nil: there was none, there is none.
type Undoing struct {
	Decision events.Decision
	Before   map[string]any
	Now      map[string]any
}

// Step is an intent that would compensate another, with a sentence about it.
type Step struct {
	Kind events.Kind    `json:"kind"`
	Verb string         `json:"verb"`
	Args map[string]any `json:"args"`
	Note string         `json:"note"`
}

// Undo gives the intents that would compensate one, in order, or says why there are none. It judges by what is known of the object: whether
// the steps are accepted is decided when they are sent. What was done in between by others is theirs, and stays.
func (u Undoing) Undo() (steps []Step, why string) {
	d := u.Decision
	switch d.Outcome.Status {
	case events.Refused:
		return nil, "it was refused and changed nothing"
	case events.Nothing:
		return nil, "it was so already: the intent changed nothing"
	}
	rule, ok := inverses[string(d.Kind)+"."+d.Verb]
	if !ok {
		return nil, fmt.Sprintf("%s.%s is no intent of a user", d.Kind, d.Verb)
	}
	return rule(u)
}

// inverse gives the steps that compensate one verb.
type inverse func(u Undoing) ([]Step, string)

// inverses holds a rule for every verb of users. A test finds those that are missing.
var inverses = map[string]inverse{
	"log.open":              never("a term of the log is for ever"),
	"log.settle":            never("what was settled of a restored log is for ever"),
	"log.raise_level":       never("the log may hold events of its level already, which older servers cannot read"),
	"server.remove":         never("a server that runs makes itself known again within half a minute"),
	"account.create":        created("delete"),
	"account.delete":        undoDeleteAccount,
	"user.create":           undoCreateUser,
	"user.revoke":           never("a revoked user stays revoked, and the name is not given again: create a user with another name"),
	"secret.set":            never("values of secrets are not in the log: set the earlier value again, if you have it"),
	"template.create":       created("delete"),
	"template.delete":       undoDeleteTemplate,
	"machine.add":           created("remove"),
	"machine.remove":        undoRemoveMachine,
	"machine.power":         undoPower,
	"machine.set_image":     undoSetImage,
	"bootimage.register":    undoRegisterImage,
	"bootimage.remove":      never("the log does not have the image's files: register it again, if you have them"),
	"bootimage.set_default": never("which image was the default before is told by \"cloudengine bootimage ls --at\" with the number before: make it the default again"),
	"discovered.drop":       never("nothing was lost: a machine that boots again is found again"),
	"host.cordon":           opposite("uncordon", "cordoned", true, "the host takes no VMs"),
	"host.uncordon":         opposite("cordon", "cordoned", false, "the host takes VMs"),
	"host.stop_orphan":      never("a domain that was destroyed does not come back"),
	"host.adopt_orphan":     never("the domain belongs to the VM now: stop the VM if it shall not run"),
	"vm.create":             undoCreateVM,
	"vm.delete":             never("a deleted VM does not come back; \"cloudengine vm show ID --at\" with the number before tells what it was, to create another like it"),
	"vm.start":              undoStart,
	"vm.shutdown":           undoStop,
	"vm.stop":               undoStop,
	"vm.reboot":             never("a reboot is over when it is done"),
	"vm.pause":              undoPause,
	"vm.resume":             undoResume,
	"vm.resize":             undoResize,
}

func never(why string) inverse {
	return func(Undoing) ([]Step, string) { return nil, why }
}

// id gives the object's id: what the intent created has its own.
func (u Undoing) id() string {
	var args map[string]any
	if json.Unmarshal(u.Decision.Args, &args) == nil {
		if id, ok := args[string(u.Decision.Kind)].(string); ok {
			return id
		}
	}
	return string(u.Decision.Intent)
}

func (u Undoing) step(verb, note string, more map[string]any) Step {
	args := map[string]any{string(u.Decision.Kind): u.id()}
	for k, v := range more {
		args[k] = v
	}
	return Step{u.Decision.Kind, verb, args, note}
}

func text(row map[string]any, column string) string {
	s, _ := row[column].(string)
	return s
}

// gone says that there is nothing to compensate on.
func (u Undoing) gone() string {
	return fmt.Sprintf("the %s is not there any more", u.Decision.Kind)
}

// created undoes what made an object.
func created(verb string) inverse {
	return func(u Undoing) ([]Step, string) {
		if u.Now == nil {
			return nil, u.gone()
		}
		return []Step{u.step(verb, fmt.Sprintf("it made %s %q", u.Decision.Kind, text(u.Now, "name")), nil)}, ""
	}
}

// opposite undoes what set a column that is true or false.
func opposite(verb, column string, is bool, so string) inverse {
	return func(u Undoing) ([]Step, string) {
		if u.Now == nil {
			return nil, u.gone()
		}
		if now, _ := u.Now[column].(bool); now != is {
			return nil, "it is undone already"
		}
		return []Step{u.step(verb, so+" since then", nil)}, ""
	}
}

func undoDeleteAccount(u Undoing) ([]Step, string) {
	if u.Before == nil {
		return nil, "what the account was is not known"
	}
	return []Step{{events.KindAccount, "create", map[string]any{"name": text(u.Before, "name")},
		"it will be another account, with another id; the deleted one was empty, but for users, who stay with it"}}, ""
}

func undoCreateUser(u Undoing) ([]Step, string) {
	if u.Now == nil {
		return nil, u.gone()
	}
	if revoked, _ := u.Now["revoked"].(bool); revoked {
		return nil, "the user is revoked already"
	}
	return []Step{u.step("revoke", fmt.Sprintf("user %q stays as revoked; the name is not given again", text(u.Now, "name")), nil)}, ""
}

func undoDeleteTemplate(u Undoing) ([]Step, string) {
	b := u.Before
	if b == nil {
		return nil, "what the template was is not known"
	}
	args := map[string]any{"name": b["name"], "type": b["type"], "min_memory_mib": b["min_memory_mib"]}
	for _, column := range []string{"account", "cmdline", "disk_bytes", "disk_content_sha256"} {
		if b[column] != nil {
			args[column] = b[column]
		}
	}
	for _, part := range []string{"kernel", "ramdisk", "disk"} {
		if b[part+"_sha256"] != nil {
			args[part] = map[string]any{"sha256": b[part+"_sha256"], "size": b[part+"_size"]}
		}
	}
	return []Step{{events.KindTemplate, "create", args, "it will be another template, with another id; its files must be uploaded if the server does not have them any more"}}, ""
}

func undoRemoveMachine(u Undoing) ([]Step, string) {
	b := u.Before
	if b == nil {
		return nil, "what the machine was is not known"
	}
	args := map[string]any{"name": b["name"], "macs": b["macs"], "roles": b["roles"]}
	if b["serial"] != nil {
		args["serial"] = b["serial"]
	}
	if b["bmc_address"] != nil {
		args["bmc"] = map[string]any{"address": b["bmc_address"], "user": b["bmc_user"], "secret": b["bmc_secret"]}
	}
	return []Step{{events.KindMachine, "add", args, "it will be another machine, with another id; it must boot anew"}}, ""
}

func undoPower(u Undoing) ([]Step, string) {
	var args struct{ Action string }
	_ = json.Unmarshal(u.Decision.Args, &args) // they were accepted
	other := map[string]string{events.PowerOn: events.PowerOff, events.PowerOff: events.PowerOn}[args.Action]
	switch {
	case u.Now == nil:
		return nil, u.gone()
	case other == "":
		return nil, fmt.Sprintf("power %s leaves nothing that could be undone", args.Action)
	case text(u.Before, "power_state") == args.Action:
		return nil, fmt.Sprintf("its power was %s before already", args.Action)
	case text(u.Now, "power_state") == other:
		return nil, fmt.Sprintf("its power is %s already", other)
	}
	return []Step{u.step("power", "the guards of switching power off hold for it too", map[string]any{"action": other})}, ""
}

func undoSetImage(u Undoing) ([]Step, string) {
	if u.Now == nil {
		return nil, u.gone()
	}
	before := text(u.Before, "image_wanted")
	if before == text(u.Now, "image_wanted") {
		return nil, "it is wanted to boot the image of before already"
	}
	return []Step{u.step("set_image", "it boots the image of before when it boots next", map[string]any{"image": before})}, ""
}

func undoRegisterImage(u Undoing) ([]Step, string) {
	if u.Now == nil {
		return nil, u.gone()
	}
	if u.Before != nil {
		return nil, "the image was there before"
	}
	return []Step{{events.KindBootimage, "remove", map[string]any{"bootimage": u.Now["id"]}, "no machine may be wanted to boot it"}}, ""
}

func undoCreateVM(u Undoing) ([]Step, string) {
	if u.Now == nil {
		return nil, u.gone()
	}
	var steps []Step
	if text(u.Now, "state") != "stopped" {
		steps = append(steps, u.step("shutdown", "it is "+text(u.Now, "state")+": it has to be stopped first, and waited for (--wait)", nil))
	}
	remove := u.step("delete", fmt.Sprintf("it made VM %q", text(u.Now, "name")), nil)
	var args struct {
		Pool string `json:"pool"`
	}
	if json.Unmarshal(u.Decision.Args, &args) != nil || args.Pool == "" {
		return append(steps, remove), ""
	}
	disk := map[string]any{"volume": u.id()} // the VM's disk has its id
	return append(steps, Step{events.KindVolume, "detach", disk, "the VM's disk was made with it; leave this out if it is another's now"}, remove,
		Step{events.KindVolume, "delete", disk, "what is on the disk is wiped: leave this out to keep it"}), ""
}

func undoStart(u Undoing) ([]Step, string) {
	switch {
	case u.Now == nil:
		return nil, u.gone()
	case text(u.Now, "wanted") == events.WantStopped:
		return nil, "it is wanted stopped already"
	case text(u.Before, "wanted") != events.WantStopped && u.Before != nil:
		return nil, "it was wanted running before: the intent started it again, elsewhere or after its end"
	}
	return []Step{u.step("shutdown", "it is "+text(u.Now, "state")+"; use \"vm stop\" if its guest does not shut down", nil)}, ""
}

func undoStop(u Undoing) ([]Step, string) {
	switch {
	case u.Now == nil:
		return nil, u.gone()
	case text(u.Now, "wanted") != events.WantStopped:
		return nil, "it is wanted " + text(u.Now, "wanted") + " again already"
	case text(u.Before, "wanted") == events.WantStopped:
		return nil, "it was wanted stopped before already"
	}
	return []Step{u.step("start", "its guest starts anew: what was in its memory is lost", nil)}, ""
}

func undoPause(u Undoing) ([]Step, string) {
	switch {
	case u.Now == nil:
		return nil, u.gone()
	case text(u.Now, "wanted") != events.WantPaused:
		return nil, "it is wanted " + text(u.Now, "wanted") + " already"
	}
	return []Step{u.step("resume", "it goes on where it was paused", nil)}, ""
}

func undoResume(u Undoing) ([]Step, string) {
	switch {
	case u.Now == nil:
		return nil, u.gone()
	case text(u.Now, "wanted") != events.WantRunning:
		return nil, "it is wanted " + text(u.Now, "wanted") + " already"
	}
	return []Step{u.step("pause", "what it did meanwhile stays done", nil)}, ""
}

func undoResize(u Undoing) ([]Step, string) {
	if u.Now == nil {
		return nil, u.gone()
	}
	args := map[string]any{}
	for _, column := range []string{"memory_mib", "vcpus", "max_vcpus"} {
		if u.Before[column] != nil && fmt.Sprint(u.Before[column]) != fmt.Sprint(u.Now[column]) {
			args[column] = u.Before[column]
		}
	}
	if len(args) == 0 {
		return nil, "it has the size of before already"
	}
	return []Step{u.step("resize", "what cannot be given back to a running guest counts from its next start", args)}, ""
}

package commands

import (
	"encoding/json"
	"fmt"
	"maps"
)

func init() { maps.Copy(inverses, storageInverses) }

// storageInverses are the rules for verbs of storage.
var storageInverses = map[string]inverse{
	"fabric.create":            created("delete"),
	"fabric.delete":            never("a deleted fabric had no members and no pools: create it again under its name, with another id"),
	"fabric.join":              undoJoinFabric,
	"fabric.leave":             never("\"cloudengine fabric members --at\" with the number before tells the card and the address: join it again"),
	"pool.create":              created("delete"),
	"pool.delete":              never("a deleted pool had no arrays: create it again under its name, with another id"),
	"array.create":             created("delete"),
	"array.delete":             never("a deleted array had no volumes: make another of its disks"),
	"array.replace_leg":        never("while the disk is being filled, \"cloudengine array cancel-replacement\" keeps the leg; after that, replace it back when its disk is wiped"),
	"array.cancel_replacement": never("nothing of a disk that was let go of is kept: \"cloudengine array replace\" begins again"),
	"machine.drain":            opposite("undrain", "draining", true, "its disks are not chosen; legs that were replaced stay where they are"),
	"machine.undrain":          opposite("drain", "draining", false, "its disks are chosen"),
	"array.failover":           never("who owns an array changes nothing that is on it: \"cloudengine array failover --to\" moves it back"),
	"template.import":          never("a golden volume is a copy that costs room alone: \"cloudengine volume delete\" removes it, and the next volume from its template makes it again"),
	"volume.create":            created("delete"),
	"volume.grow":              never("a volume does not shrink"),
	"volume.limit":             undoLimits("read_bps", "write_bps", "read_iops", "write_iops"),
	"volume.attach":            undoAttachVolume,
	"volume.detach":            undoDetachVolume,
	"volume.delete":            never("what was on a deleted volume is wiped"),
	"array.set_resync":         undoSetResync,
	"array.check":              never("a check changes nothing: \"cloudengine array check --stop\" ends one"),
	"pool.set":                 undoSetPool,
}

func undoJoinFabric(u Undoing) ([]Step, string) {
	args, ok := argsOf(u)
	if !ok || args["machine"] == nil {
		return nil, u.gone()
	}
	return []Step{u.step("leave", "the machine is on the fabric since then", map[string]any{"machine": args["machine"]})}, ""
}

// argsOf gives what was asked for, if its object is there still.
func argsOf(u Undoing) (map[string]any, bool) {
	var args map[string]any
	err := json.Unmarshal(u.Decision.Args, &args)
	return args, err == nil && u.Now != nil
}

func undoAttachVolume(u Undoing) ([]Step, string) {
	switch {
	case u.Now == nil:
		return nil, u.gone()
	case text(u.Now, "vm") == "":
		return nil, "it is undone already"
	}
	return []Step{u.step("detach", "it is a disk since then; its VM must be stopped", nil)}, ""
}

func undoDetachVolume(u Undoing) ([]Step, string) {
	switch {
	case u.Now == nil || u.Before == nil:
		return nil, u.gone()
	case text(u.Now, "vm") != "" || text(u.Before, "vm") == "":
		return nil, "it is undone already"
	}
	return []Step{u.step("attach", "it was a disk before; its VM must be stopped", map[string]any{"vm": text(u.Before, "vm"), "slot": text(u.Before, "slot")})}, ""
}

// undoLimits gives an object the limits of before.
func undoLimits(fields ...string) inverse {
	return func(u Undoing) ([]Step, string) {
		if u.Now == nil || u.Before == nil {
			return nil, u.gone()
		}
		args, same := map[string]any{}, true
		for _, field := range fields {
			if args[field] = u.Before[field]; args[field] == nil {
				args[field] = 0
			}
			same = same && fmt.Sprint(u.Before[field]) == fmt.Sprint(u.Now[field])
		}
		if same {
			return nil, "it has the limits of before"
		}
		return []Step{u.step("limit", "it had these limits before", args)}, ""
	}
}

// undoSetResync gives an array the limit of before, and pauses it or lets it go on as before.
func undoSetResync(u Undoing) ([]Step, string) {
	if u.Now == nil || u.Before == nil {
		return nil, u.gone()
	}
	limit, paused := fmt.Sprint(u.Before["resync_limit_kib"]), u.Before["resync_paused"] == true
	if limit == fmt.Sprint(u.Now["resync_limit_kib"]) && u.Before["resync_paused"] == u.Now["resync_paused"] {
		return nil, "it is as it was before"
	}
	args := map[string]any{"limit_kib": u.Before["resync_limit_kib"], "no_limit": limit == "0", "pause": paused, "resume": !paused}
	return []Step{u.step("set_resync", "it was so before", args)}, ""
}

func undoSetPool(u Undoing) ([]Step, string) {
	switch {
	case u.Now == nil || u.Before == nil:
		return nil, u.gone()
	case fmt.Sprint(u.Before["check_every_hours"]) == fmt.Sprint(u.Now["check_every_hours"]):
		return nil, "it is as it was before"
	}
	return []Step{u.step("set", "its arrays were checked so often before", map[string]any{"check_hours": u.Before["check_every_hours"]})}, ""
}

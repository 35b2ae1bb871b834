package main

import (
	"context"
	"encoding/json"
	"fmt"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

// arrayReplace is array replace.
func (a *app) arrayReplace() *cobra.Command {
	var disk, with string
	leg := -1
	return a.actOn(actOn{
		kind: events.KindArray, verb: "replace_leg", use: "replace", short: "Replace a leg of an array by another disk, without losing a copy meanwhile",
		long: `Replace a leg of an array by another disk. A leg that is good stays until the new disk is full; one that is dead or gone is made anew from the
other copies. Without --with a free disk is chosen: of the same storage node if it has one, and never of one that holds another copy of the same
data. The old disk is wiped then by its storage node. "array cancel-replacement" keeps the leg, if the new disk is not full yet.`,
		example: "  cloudengine array replace gold1 --leg 1 --wait\n  cloudengine array replace gold1 --disk WD-WX12D34 --with WD-WX99E01 --dry-run",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().IntVar(&leg, "leg", -1, "slot of the leg that is replaced (array show)")
			cmd.Flags().StringVar(&disk, "disk", "", "disk that is replaced, by serial number or id, in the place of --leg")
			cmd.Flags().StringVar(&with, "with", "", "disk that follows it; empty: any that is free")
			a.completeFlag(cmd, "disk", events.KindDisk)
			a.completeFlag(cmd, "with", events.KindDisk)
		},
		more: func(ctx context.Context, c *client.Client, args map[string]any) error {
			if (leg < 0) == (disk == "") {
				return usagef("want either --leg or --disk")
			}
			id, err := a.legDisk(ctx, c, fmt.Sprint(args["array"]), leg, disk)
			if err != nil {
				return err
			}
			args["disk"] = id
			if with != "" {
				args["with"], err = a.idOf(ctx, c, events.KindDisk, with)
			}
			return err
		},
	})
}

// arrayCancel is array cancel-replacement.
func (a *app) arrayCancel() *cobra.Command {
	return a.actOn(actOn{
		kind: events.KindArray, verb: "cancel_replacement", use: "cancel-replacement", short: "Let the disk go that follows a leg, unless it is the leg already",
		example: "  cloudengine array cancel-replacement gold1 --wait",
	})
}

// legDisk gives the id of the disk that is to be replaced.
func (a *app) legDisk(ctx context.Context, c *client.Client, array string, slot int, disk string) (string, error) {
	if disk != "" {
		return a.idOf(ctx, c, events.KindDisk, disk)
	}
	r, err := a.find(ctx, c, events.KindArray, array)
	if err != nil {
		return "", fmt.Errorf("find array %s: %w", array, err)
	}
	raw, err := json.Marshal(r["legs"])
	if err != nil {
		return "", fmt.Errorf("read legs of array %s: %w", array, err)
	}
	var legs []events.Leg
	if err := json.Unmarshal(raw, &legs); err != nil {
		return "", fmt.Errorf("read legs of array %s: %w", array, err)
	}
	for _, l := range legs {
		if l.Slot == slot {
			return string(l.Disk), nil
		}
	}
	return "", usagef("array %s has legs 0 to %d", r.text("name"), len(legs)-1)
}

// replacing shows which leg of an array is being replaced, and by which disk.
var replacing = column{"REPLACING", func(r row) string {
	x, ok := r["replacing"].(map[string]any)
	if !ok {
		return "-"
	}
	text := fmt.Sprintf("leg %v: %v by %v", x["slot"], x["old_serial"], x["new_serial"])
	if x["cancelled"] == true {
		text += " (cancelled)"
	}
	return text
}}

// machineDrain are machine drain and undrain.
func (a *app) machineDrain() []*cobra.Command {
	return []*cobra.Command{a.actOn(actOn{
		kind: events.KindMachine, verb: "drain", short: "Empty a storage node: replace its legs by disks of others, one after another",
		long: `Empty a storage node: none of its disks is chosen any more, and each of its legs is replaced by a free disk of another storage node, one after
another. It is refused when there are not enough. With --wait it waits until none of its disks is a leg; "disk list --filter node=…" shows how far it is.
The node may be switched off then. (A host is taken out by host cordon.)`,
		example: "  cloudengine machine drain node1 --wait --reason \"to be replaced\"\n  cloudengine machine drain node1 --dry-run",
	}), a.actOn(actOn{
		kind: events.KindMachine, verb: "undrain", short: "Let a storage node's disks be chosen again", example: "  cloudengine machine undrain node1",
	})}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

// arrayShow draws the legs of an array: its sets of copies by storage node, then its disks.
func (a *app) arrayShow() *cobra.Command {
	show := a.showCommand(events.KindArray, "an array", append([]column{field("ID", "id")}, append(append(arrayColumns[:len(arrayColumns):len(arrayColumns)], arraySyncFields...),
		replacing, optional("DEGRADED-SINCE", "degraded_at"), optional("CUT-OFF-HOSTS", "cut_off"), optional("FENCING", "fencing"),
		optional("FENCED-OFF", "fenced_off"), field("MADE", "made"), field("REVOKED", "revoked"), optional("OWNER-SINCE", "owner_since"),
		field("CREATED", "created_at"), field("CHANGED-BY", "changed_by"))...))
	show.Example = "  cloudengine array show gold1"
	plain := show.RunE
	show.RunE = func(cmd *cobra.Command, words []string) error {
		if err := plain(cmd, words); err != nil || a.output != "table" {
			return err
		}
		ctx := cmd.Context()
		c, err := a.connect(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		array, err := a.find(ctx, c, events.KindArray, words[0])
		if err != nil {
			return err
		}
		return a.drawLegs(ctx, c, array)
	}
	return a.withProgress(show)
}

var legColumns = []column{field("SLOT", "slot"), field("NODE", "node"), field("DISK", "serial"), field("LEG", "state"), field("HEALTH", "health"), optional("EXPORT", "export")}

func (a *app) drawLegs(ctx context.Context, c *client.Client, array row) error {
	disks, err := a.all(ctx, c, events.KindDisk, events.ReadRequest{Filter: map[string]string{"array": array.text("id")}})
	if err != nil {
		return err
	}
	pool, err := a.find(ctx, c, events.KindPool, array.text("pool"))
	if err != nil {
		return err
	}
	copies, err := strconv.Atoi(pool.text("redundancy"))
	if err != nil {
		return fmt.Errorf("read the copies of pool %s: %w", pool.text("name"), err)
	}
	legs := legsOf(array, disks)
	fmt.Fprintln(a.out)
	if err := a.list(legGrid(legs, copies)); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	return a.list(legColumns, legs)
}

// legsOf gives the legs of an array by slot. A state that is not known is "?".
func legsOf(array row, disks []row) []row {
	var states []string
	if raw, err := json.Marshal(array["leg_states"]); err == nil {
		_ = json.Unmarshal(raw, &states) // not known: "?" is shown
	}
	out := make([]row, 0, len(disks))
	for _, d := range disks {
		slot, err := strconv.Atoi(d.text("slot"))
		if err != nil {
			continue
		}
		s := "?"
		if slot >= 0 && slot < len(states) {
			s = states[slot]
		}
		if x, ok := array["replacing"].(map[string]any); ok && x["new"] == d["id"] {
			s = "replacing"
		}
		out = append(out, row{"slot": slot, "node": d["node_name"], "serial": d["serial"], "state": s, "health": d["health"], "export": d["export_state"], "gone": d["gone"]})
	}
	slices.SortStableFunc(out, func(x, y row) int { return x["slot"].(int) - y["slot"].(int) })
	return out
}

// legGrid draws legs with a row for each set of copies, which hold the same data, and a column for each storage node: what a node that dies takes
// away is in one column, and a row without a leg in sync is lost data.
func legGrid(legs []row, copies int) ([]column, []row) {
	columns, nodes := []column{field("SET", "set")}, []string{}
	for _, l := range legs {
		if n := l.text("node"); !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	slices.Sort(nodes)
	for _, n := range nodes {
		columns = append(columns, optional(strings.ToUpper(n), "node "+n))
	}
	var out []row
	for _, l := range legs {
		set := l["slot"].(int) / max(1, copies)
		if len(out) == 0 || out[len(out)-1]["set"] != set {
			out = append(out, row{"set": set})
		}
		text := l.text("state") + " (" + l.text("serial")
		if l["gone"] == true {
			text += ", gone"
		}
		if l.text("health") == events.DiskFailing {
			text += ", failing"
		}
		cell := "node " + l.text("node")
		if before, ok := out[len(out)-1][cell]; ok { // a leg that is replaced by a disk of its own node
			text = fmt.Sprint(before, " ", text)
		}
		out[len(out)-1][cell] = text + ")"
	}
	return columns, out
}

package main

import (
	"encoding/json"

	"cloudengine/events"

	"github.com/spf13/cobra"
)

var domainColumns = []column{
	field("DOMID", "domid"), field("NAME", "name"), field("STATE", "state"), memory("RAM", "memory_mib"), field("VCPUS", "vcpus"), field("WEIGHT", "weight"),
	field("STAMPED", "stamped"), optional("VM", "vm"), optional("EPOCH", "epoch"), optional("RESTARTS", "restarts"),
}

// inspectCommand shows what a host's own tools say now, beside what the log knows.
func (a *app) inspectCommand() *cobra.Command {
	return &cobra.Command{
		Use: "inspect NAME|ID", Short: "Ask a host live which domains it has (xl and xenstore, not the log)", Args: cobra.ExactArgs(1),
		Example: "  cloudengine host inspect host1\n  cloudengine host inspect host1 -o json", ValidArgsFunction: a.complete(events.KindHost),
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			ans, err := c.Inspect(ctx, events.MachineID(words[0]))
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(ans.Domains))
			for _, d := range ans.Domains {
				raw, err := json.Marshal(d)
				if err != nil {
					return err
				}
				r, err := parseRow(raw)
				if err != nil {
					return err
				}
				if d.Stamped {
					r["epoch"] = d.Epoch.String()
				}
				rows = append(rows, r)
			}
			return a.list(domainColumns, rows)
		},
	}
}

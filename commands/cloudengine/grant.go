package main

import (
	"cloudengine/projections"

	"github.com/spf13/cobra"
)

var grantColumns = []column{
	field("ID", "id"), field("VM", "vm_name"), field("HOST", "host_name"), field("LIVE", "live"), field("GRANTED", "granted_at"), field("BY", "granted_by"),
	optional("ENDED", "ended_at"), optional("PROOF", "proof"), optional("HOW", "how"),
}

var grantFields = append(grantColumns[:len(grantColumns):len(grantColumns)],
	field("EPOCH", "epoch"), field("BOOT", "boot"), memory("RAM", "memory_mib"), memory("OVERHEAD", "overhead_mib"), field("VCPUS", "vcpus"), optional("ADOPTED", "adopt"),
	optional("ENDED-BY", "ended_by"), field("STALE", "stale"), field("CHANGED-BY", "changed_by"))

var orphanFields = append(orphanColumns[:len(orphanColumns):len(orphanColumns)],
	field("BOOT", "boot"), optional("STAMP-EPOCH", "stamp_epoch"), field("CHANGED-BY", "changed_by"))

func (a *app) grantCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "grant", Short: "Run grants: which host was allowed to run a VM, since when, and what proved the end"}
	list := a.listCommand(projections.KindGrant, "run grants, also those that are over", grantColumns, "live", "vm", "host_name")
	list.Example = "  cloudengine grant list --live true\n  cloudengine grant list --host-name host1 --at \"2026-11-17 15:00\""
	show := a.showCommand(projections.KindGrant, "a run grant", grantFields)
	show.Example = "  cloudengine grant show 0190b6a4-0000-7000-8000-000000000001.1.7"
	cmd.AddCommand(list, show)
	return cmd
}

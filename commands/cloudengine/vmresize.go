package main

import (
	"context"
	"fmt"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

// sizes shows how a VM that runs differs from what is wanted of its next start.
var sizes = column{"RUNS-WITH", func(r row) string {
	if r["host"] == nil || r["domain_memory_mib"] == nil || r["domain_vcpus"] == nil {
		return "-"
	}
	if r.text("domain_memory_mib") == r.text("memory_mib") && r.text("domain_vcpus") == r.text("vcpus") {
		return "what is wanted"
	}
	return fmt.Sprintf("%s MiB and %s vCPUs until its next start", r.text("domain_memory_mib"), r.text("domain_vcpus"))
}}

func (a *app) vmResize() *cobra.Command {
	var ram mebibytes
	var vcpus, most int
	cmd := a.actOn(actOn{
		kind: events.KindVM, verb: "resize", short: "Change a VM's memory and virtual processors",
		example: "  cloudengine vm resize web1 --ram 8GiB --vcpus 4\n  cloudengine vm resize web1 --vcpus 2 --wait",
		flags: func(cmd *cobra.Command) {
			fs := cmd.Flags()
			fs.Var(&ram, "ram", "exact memory: 128MiB, 4GiB")
			fs.IntVar(&vcpus, "vcpus", 0, "virtual processors")
			fs.IntVar(&most, "max-vcpus", 0, "up to how many it can be given while it runs, from its next start on")
		},
		more: func(_ context.Context, _ *client.Client, args map[string]any) error {
			if ram == 0 && vcpus == 0 && most == 0 {
				return usagef("say what shall change: --ram, --vcpus or --max-vcpus")
			}
			for name, n := range map[string]int{"memory_mib": int(ram), "vcpus": vcpus, "max_vcpus": most} {
				if n != 0 {
					args[name] = n
				}
			}
			return nil
		},
	})
	cmd.Long = `Change a VM's memory and virtual processors. It takes effect at the VM's next start. If it runs, what its domain can have without being
made again is given at once: memory up to what the domain was made with, processors up to --max-vcpus of its start. Memory that is taken
away is free for others when the guest has given it back. "vm show" tells what it runs with.`
	return cmd
}

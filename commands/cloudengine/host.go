package main

import (
	"context"
	"fmt"

	"cloudengine/commands/api/client"
	"cloudengine/events"
	"cloudengine/projections"

	"github.com/spf13/cobra"
)

var hostColumns = []column{
	field("NAME", "name"), field("READY", "ready"), field("SILENT", "silent"), field("CORDONED", "cordoned"), field("VMS", "vms"),
	memory("FREE", "free_mib"), memory("ALLOCATABLE", "allocatable_mib"), field("PCPUS", "pcpus"), field("XEN", "xen_version"),
}

var hostFields = append([]column{field("ID", "id")}, append(hostColumns[:len(hostColumns):len(hostColumns)],
	memory("USED", "used_mib"), memory("DEVICE-MODELS", "device_models_mib"), memory("DEVICE-MODELS-USED", "device_models_used_mib"), field("TYPES", "types"), field("BOOT", "boot"), field("CHANGED-BY", "changed_by"))...)

var orphanColumns = []column{
	field("HOST", "host_name"), field("UUID", "uuid"), field("DOMID", "domid"), field("NAME", "name"), state,
	memory("RAM", "memory_mib"), field("VCPUS", "vcpus"), optional("STAMP", "stamp_vm"), field("STOP-WANTED", "stop_wanted"), field("FOUND", "found_at"),
}

func (a *app) hostCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "host", Short: "Machines that run VMs"}
	list := a.listCommand(events.KindHost, "hosts", hostColumns)
	list.Example = "  cloudengine host list"
	show := a.showCommand(events.KindHost, "a host", hostFields)
	show.Example = "  cloudengine host show host1"
	cmd.AddCommand(list, show, a.inspectCommand(), a.orphanCommand(), a.actOn(actOn{
		kind: events.KindHost, verb: "cordon", short: "Start no more VMs on a host; what runs goes on",
		example: "  cloudengine host cordon host1 --reason \"memory errors\"",
	}), a.actOn(actOn{
		kind: events.KindHost, verb: "uncordon", short: "Start VMs on a host again", example: "  cloudengine host uncordon host1",
	}))
	return cmd
}

func (a *app) orphanCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "orphan", Short: "Domains on hosts that are no VM of ours; they are left alone until you decide"}
	list := a.listCommand(projections.KindOrphan, "orphans", orphanColumns)
	list.Example = "  cloudengine host orphan list\n  cloudengine host orphan list --at \"2h ago\""
	show := a.showCommand(projections.KindOrphan, "an orphan, by the UUID of its domain", orphanFields)
	show.Example = "  cloudengine host orphan show 0d6c…"
	var vm string
	adopt := a.orphanAct("adopt", "adopt_orphan", "Make an orphan the domain of a VM that is stopped",
		"  cloudengine host orphan adopt 0d6c… --vm web1", func(ctx context.Context, c *client.Client, args map[string]any) error {
			r, err := a.find(ctx, c, events.KindVM, vm)
			if err != nil {
				return fmt.Errorf("find VM %s: %w", vm, err)
			}
			args["vm"] = r.text("id")
			return nil
		})
	adopt.Flags().StringVar(&vm, "vm", "", "the VM that it becomes")
	must(adopt.MarkFlagRequired("vm"))
	a.completeFlag(adopt, "vm", events.KindVM)
	cmd.AddCommand(list, show, adopt, a.orphanAct("stop", "stop_orphan", "Destroy an orphan", "  cloudengine host orphan stop 0d6c… --reason \"left by a test\"", nil))
	return cmd
}

func (a *app) orphanAct(use, verb, short, example string, more func(context.Context, *client.Client, map[string]any) error) *cobra.Command {
	var f intentFlags
	cmd := &cobra.Command{
		Use: use + " UUID", Short: short, Example: example, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			orphan, err := a.find(ctx, c, projections.KindOrphan, words[0])
			if err != nil {
				return err
			}
			args := map[string]any{"host": orphan.text("host"), "uuid": orphan.text("uuid")}
			if more != nil {
				if err := more(ctx, c, args); err != nil {
					return err
				}
			}
			_, err = a.send(ctx, c, &f, intent{events.KindHost, verb, args, "", orphan.text("uuid")})
			return err
		},
	}
	f.add(cmd)
	return cmd
}

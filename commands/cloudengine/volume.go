package main

import (
	"context"
	"fmt"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

var volumeColumns = []column{
	field("NAME", "name"), optional("ACCOUNT", "account_name"), state, memory("SIZE", "size_mib"), {"GOLDEN", func(r row) string { return yesOrNot(r["golden"] == true) }}, optional("VM", "vm_name"), optional("SLOT", "slot"), field("POOL", "pool_name"),
}

// yesOrNot shows what is so of few.
func yesOrNot(is bool) string {
	if is {
		return "yes"
	}
	return "-"
}

var volumeFields = append([]column{field("ID", "id")}, append(volumeColumns[:len(volumeColumns):len(volumeColumns)],
	field("ARRAY", "array"), field("EXTENTS", "extents"), field("SEGMENTS", "segments"), optional("TEMPLATE", "template"), optional("IMAGE", "source_sha256"),
	optional("IMAGE-BYTES", "source_bytes"), optional("COPIED-FROM", "copied_from"), optional("MESSAGE", "message"),
	rateOf("READ", "read_bps"), rateOf("WRITE", "write_bps"), iopsOf("READ-IOPS", "read_iops"), iopsOf("WRITE-IOPS", "write_iops"), field("CREATED", "created_at"), field("CHANGED-BY", "changed_by"))...)

func (a *app) volumeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "volume", Short: "Disks that VMs have: stored in several copies, and kept when a VM moves"}
	list := a.listCommand(events.KindVolume, "volumes", volumeColumns, "state", "vm_name", "pool_name", "golden")
	list.Example = "  cloudengine volume list\n  cloudengine volume list --golden true"
	show := a.showCommand(events.KindVolume, "a volume", volumeFields)
	show.Example = "  cloudengine volume show data1"
	cmd.AddCommand(a.withFills(list), a.withFills(show), a.volumeCreate(), a.volumeGrow(), a.volumeLimit(), a.volumeAttach(), a.actOn(actOn{
		kind: events.KindVolume, verb: "detach", short: "Take a volume away from its VM, which must be stopped", example: "  cloudengine volume detach data1",
	}), a.actOn(actOn{
		kind: events.KindVolume, verb: "delete", short: "Delete a volume and wipe what was on it", example: "  cloudengine volume delete data1 --wait",
	}))
	return cmd
}

func (a *app) volumeCreate() *cobra.Command {
	var f intentFlags
	var pool, template string
	var size mebibytes
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a volume, empty or from a template; its size is rounded up to whole extents", Args: cobra.ExactArgs(1),
		Example: `  cloudengine volume create data1 --account demo --pool gold --size 10GiB --wait
  cloudengine volume create root1 --account demo --pool gold --template debian --wait`,
		RunE: func(cmd *cobra.Command, words []string) error {
			if size == 0 && template == "" {
				return usagef("say its --size, or the --template whose image it is as large as")
			}
			return a.make(cmd.Context(), &f, events.KindVolume, words[0], func(ctx context.Context, c *client.Client) (any, error) {
				account, err := a.accountID(ctx, c)
				if err == nil && account == "" {
					err = usagef("a volume belongs to an account: name it with --account")
				}
				if err != nil {
					return nil, err
				}
				id, err := a.idOf(ctx, c, events.KindPool, pool)
				if err != nil {
					return nil, err
				}
				args := map[string]any{"account": account, "name": words[0], "pool": id, "size_mib": int(size)}
				if template != "" {
					t, err := a.templateFor(ctx, c, account, template)
					if err != nil {
						return nil, err
					}
					args["template"] = t.text("id")
				}
				return args, nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&pool, "pool", "", "pool that it is stored in")
	cmd.Flags().Var(&size, "size", "size, such as 10GiB; with --template left out: that of its image")
	cmd.Flags().StringVar(&template, "template", "", "template of a disk, whose image the volume begins with")
	a.completeFlag(cmd, "template", events.KindTemplate)
	a.completeFlag(cmd, "pool", events.KindPool)
	must(cmd.MarkFlagRequired("pool"))
	return cmd
}

func (a *app) volumeGrow() *cobra.Command {
	var size mebibytes
	return a.actOn(actOn{
		kind: events.KindVolume, verb: "grow", short: "Make a volume larger, also while its VM runs", example: "  cloudengine volume grow data1 --size 20GiB",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().Var(&size, "size", "size that it shall have")
			must(cmd.MarkFlagRequired("size"))
		},
		more: func(_ context.Context, _ *client.Client, args map[string]any) error {
			args["size_mib"] = int(size)
			return nil
		},
	})
}

func (a *app) volumeAttach() *cobra.Command {
	var vm, slot string
	return a.actOn(actOn{
		kind: events.KindVolume, verb: "attach", short: "Make a volume a disk of a VM, which must be stopped",
		example: "  cloudengine volume attach data1 --vm web1\n  cloudengine volume attach data2 --vm web1 --slot xvdb",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&vm, "vm", "", "the VM")
			cmd.Flags().StringVar(&slot, "slot", "", "xvda or xvdb; empty: the first that is free")
			must(cmd.MarkFlagRequired("vm"))
			a.completeFlag(cmd, "vm", events.KindVM)
		},
		more: func(ctx context.Context, c *client.Client, args map[string]any) error {
			r, err := a.find(ctx, c, events.KindVM, vm)
			if err != nil {
				return fmt.Errorf("find VM %s: %w", vm, err)
			}
			args["vm"] = r.text("id")
			if slot != "" {
				args["slot"] = slot
			}
			return nil
		},
	})
}

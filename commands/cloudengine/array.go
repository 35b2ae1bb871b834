package main

import (
	"context"

	"cloudengine/commands"
	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

var diskColumns = []column{
	field("SERIAL", "serial"), field("NODE", "node_name"), field("BYTES", "bytes"), field("HEALTH", "health"), field("GONE", "gone"),
	optional("ARRAY", "array_name"), optional("SLOT", "slot"), optional("WIPING", "wiping"), optional("HOLDS", "signature"), optional("EXPORT", "export_state"),
}

var poolColumns = []column{
	field("NAME", "name"), field("FABRIC", "fabric_name"), field("COPIES", "redundancy"), field("ARRAYS", "arrays"), memory("SIZE", "size_mib"), memory("FREE", "free_mib"),
	memory("EXTENT", "extent_mib"), field("CHECK-HOURS", "check_every_hours"),
}

var arrayColumns = []column{
	field("NAME", "name"), field("POOL", "pool_name"), state, optional("OWNER", "owner_name"), optional("EPOCH", "epoch"), optional("DEGRADED", "degraded"), syncing,
	memory("SIZE", "size_mib"), memory("FREE", "free_mib"), field("VOLUMES", "volumes"), optional("MESSAGE", "message"),
}

// storageCommands are the nouns of storage.
func (a *app) storageCommands() []*cobra.Command {
	return []*cobra.Command{a.fabricCommand(), a.poolCommand(), a.diskCommand(), a.arrayCommand(), a.volumeCommand()}
}

func (a *app) diskCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "disk", Short: "Disks of storage nodes"}
	list := a.listCommand(events.KindDisk, "disks", diskColumns, "node", "array_name", "health")
	list.Example = "  cloudengine disk list --health failing"
	show := a.showCommand(events.KindDisk, "a disk, by its serial number", append(diskColumns[:len(diskColumns):len(diskColumns)], field("ID", "id"), field("MODEL", "model"), optional("EXPORT-EPOCH", "export_epoch"),
		optional("EXPORT-TO", "export_to"), optional("EXPORT-MESSAGE", "export_message"), field("FOUND", "found_at"), field("CHANGED-BY", "changed_by")))
	show.Example = "  cloudengine disk show WD-WX12D34"
	cmd.AddCommand(list, show)
	return cmd
}

func (a *app) poolCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "pool", Short: "Storage of one fabric, with one redundancy"}
	list := a.listCommand(events.KindPool, "pools", poolColumns)
	list.Example = "  cloudengine pool list"
	show := a.showCommand(events.KindPool, "a pool", append([]column{field("ID", "id")}, append(poolColumns[:len(poolColumns):len(poolColumns)],
		field("CREATED", "created_at"), field("CHANGED-BY", "changed_by"))...))
	show.Example = "  cloudengine pool show gold"
	var f intentFlags
	var fabric string
	args := commands.CreatePool{}
	create := &cobra.Command{
		Use: "create NAME", Short: "Make a pool; arrays are added to it", Args: cobra.ExactArgs(1), Example: "  cloudengine pool create gold --fabric san --copies 2",
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.make(cmd.Context(), &f, events.KindPool, words[0], func(ctx context.Context, c *client.Client) (any, error) {
				id, err := a.idOf(ctx, c, events.KindFabric, fabric)
				args.Name, args.Fabric = words[0], events.FabricID(id)
				return args, err
			})
		},
	}
	f.add(create)
	create.Flags().StringVar(&fabric, "fabric", "", "storage network of its disks")
	create.Flags().IntVar(&args.Redundancy, "copies", 0, "of each extent, each on another storage node; 0: 2")
	create.Flags().IntVar(&args.ExtentMiB, "extent", 0, "size of an extent in MiB, a power of two; 0: 4")
	must(create.MarkFlagRequired("fabric"))
	cmd.AddCommand(list, show, create, a.poolSet(), a.actOn(actOn{
		kind: events.KindPool, verb: "delete", short: "Delete a pool without arrays", example: "  cloudengine pool delete gold",
	}))
	return cmd
}

func (a *app) arrayCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "array", Short: "RAID arrays over disks of several storage nodes; one proxy owns each"}
	list := a.listCommand(events.KindArray, "arrays", arrayColumns, "state", "pool_name", "owner_name")
	list.Example = "  cloudengine array list"
	cmd.AddCommand(a.withProgress(list), a.arrayShow(), a.arrayCreate(), a.arrayFailover(), a.arrayReplace(), a.arrayCancel(), a.arrayResync(), a.arrayCheck(), a.actOn(actOn{
		kind: events.KindArray, verb: "delete", short: "Delete an array without volumes; while it has an owner, tell that to give it up first",
		example: "  cloudengine array delete gold1",
	}))
	return cmd
}

func (a *app) arrayCreate() *cobra.Command {
	var f intentFlags
	var pool string
	var disks []string
	args := commands.CreateArray{}
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make an array of free disks", Args: cobra.ExactArgs(1),
		Long: `Make an array of free disks of a pool's fabric. Without --disk they are chosen: from the storage nodes that have most left, and no two copies
on one. Disks are named by serial number or id, copies side by side: with two copies the first and second hold the same, and so on.`,
		Example: "  cloudengine array create gold1 --pool gold --sets 2\n  cloudengine array create gold2 --pool gold --disk n1-sda,n2-sda",
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.make(cmd.Context(), &f, events.KindArray, words[0], func(ctx context.Context, c *client.Client) (any, error) {
				id, err := a.idOf(ctx, c, events.KindPool, pool)
				if err != nil {
					return nil, err
				}
				args.Name, args.Pool, args.Disks = words[0], events.PoolID(id), nil
				for _, d := range disks {
					id, err := a.idOf(ctx, c, events.KindDisk, d)
					if err != nil {
						return nil, err
					}
					args.Disks = append(args.Disks, events.DiskID(id))
				}
				return args, nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&pool, "pool", "", "pool that it is part of")
	cmd.Flags().StringSliceVar(&disks, "disk", nil, "disks in the order of their slots")
	cmd.Flags().IntVar(&args.Sets, "sets", 0, "how many sets of copies to choose disks for; 0: 1")
	must(cmd.MarkFlagRequired("pool"))
	return cmd
}

func (a *app) arrayFailover() *cobra.Command {
	var to string
	var fence bool
	return a.actOn(actOn{
		kind: events.KindArray, verb: "failover", short: "Move an array to another proxy: its owner gives it up first, or is fenced off",
		long: `Move an array to another proxy. Its owner gives it up, and says so, before the other may have it; VMs wait meanwhile. An owner that is silent
must be proven off first (machine power off); then the array moves by itself.

With --fence nothing is awaited of the owner: all storage nodes are told to close the array's legs to it, and when each of them has said that its own
are closed, the other proxy has the array. That is for an owner that hangs and whose power cannot be taken. It is refused while a storage node is
silent or off: a leg there may still be open. It cannot be taken back; "array show" lists the legs that are not closed yet under FENCING, and
under FENCED-OFF proxies that must give the array up, or boot anew, before they can have it again.`,
		example: "  cloudengine array failover gold1 --to proxy2 --wait\n  cloudengine array failover gold1 --dry-run\n  cloudengine array failover gold1 --fence --wait",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&to, "to", "", "proxy that shall have it; empty: any other")
			cmd.Flags().BoolVar(&fence, "fence", false, "do not wait for its owner: close all legs to it")
			a.completeFlag(cmd, "to", events.KindMachine)
		},
		more: func(ctx context.Context, c *client.Client, args map[string]any) error {
			if fence {
				args["fence"] = true
			}
			if to == "" {
				return nil
			}
			id, err := a.idOf(ctx, c, events.KindMachine, to)
			args["to"] = id
			return err
		},
	})
}

package main

import (
	"context"
	"net"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

var machineColumns = []column{
	field("NAME", "name"), state, field("POWER", "power_state"), bmcField("BMC", "bmc_healthy"), field("ROLES", "roles"),
	imageColumn, field("CPUS", "cpus"), memory("RAM", "memory_mib"), optional("CONTRADICTION", "contradiction"),
}

var machineFields = []column{
	field("ID", "id"), field("NAME", "name"), state, field("ROLES", "roles"), field("MACS", "macs"), field("SERIAL", "serial"),
	field("POWER", "power_state"), optional("POWER-WANTED", "power_wanted"), optional("POWER-ERROR", "power_error"),
	optional("BMC", "bmc_address"), bmcField("BMC-HEALTHY", "bmc_healthy"), optional("BMC-DETAIL", "bmc_detail"),
	field("DRAINING", "draining"), optional("BOOT", "boot"), imageColumn, optional("IMAGE-WANTED", "image_wanted"), optional("IMAGE-BEFORE", "image_before"),
	optional("IMAGE-SERVED", "image_served"), optional("SERVED", "served_at"), optional("ENROLLED", "enrolled_at"),
	field("PRODUCT", "product"), field("CPUS", "cpus"), memory("RAM", "memory_mib"), field("INVENTORY", "inventory"),
	optional("CONTRADICTION", "contradiction"), field("CREATED", "created_at"), field("CHANGED-BY", "changed_by"),
}

// bmcField shows what is known through a machine's BMC, and nothing for a machine without one.
func bmcField(head, name string) column {
	return column{head, func(r row) string {
		switch {
		case r["bmc_address"] == nil:
			return "-"
		case r[name] == true:
			return "healthy"
		case r[name] == false:
			return "FAILED"
		}
		return "?"
	}}
}

func (a *app) machineCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "machine", Short: "Computers that are managed: identity, power, boot"}
	list := a.listCommand(events.KindMachine, "machines", machineColumns, "state")
	list.Example = "  cloudengine machine list\n  cloudengine machine list --watch"
	show := a.showCommand(events.KindMachine, "a machine", machineFields)
	show.Example = "  cloudengine machine show host1"
	cmd.AddCommand(a.machineDrain()...)
	cmd.AddCommand(a.machineSetImage(), a.machineDiscovered(), a.machineConsole())
	cmd.AddCommand(list, show, a.machineAdd(), a.machinePower(), a.actOn(actOn{
		kind: events.KindMachine, verb: "remove", short: "Make a machine unknown again",
		example: "  cloudengine machine remove host1 --reason \"sold\"",
	}))
	return cmd
}

func (a *app) machineAdd() *cobra.Command {
	var f intentFlags
	var macs, roles []string
	var serial, bmc, bmcUser, bmcSecret, found string
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Make a machine known, before it is ever switched on", Args: cobra.ExactArgs(1),
		Example: `  cloudengine secret set host1-bmc --file password.txt
  cloudengine machine add host1 --mac 52:54:00:12:34:56 --bmc 10.0.1.11 --bmc-user admin --bmc-secret host1-bmc
  cloudengine machine add host2 --discovered 52:54:00:77:00:09`,
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx := cmd.Context()
			if (found == "") == (len(macs) == 0) {
				return usagef("want either --mac or --discovered")
			}
			args := map[string]any{"name": words[0], "macs": macs, "roles": roles}
			if serial != "" {
				args["serial"] = serial
			}
			if bmc != "" {
				args["bmc"] = events.BMC{Address: withPort(bmc, ipmiPort), User: bmcUser, Secret: bmcSecret}
			} else if bmcUser != "" || bmcSecret != "" {
				return usagef("--bmc-user and --bmc-secret need --bmc")
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			if found != "" {
				mac, said, err := a.discoveredMAC(ctx, c, found)
				if err != nil {
					return err
				}
				if args["macs"] = []string{mac}; serial == "" && said != "" {
					args["serial"] = said
				}
			}
			_, err = a.send(ctx, c, &f, intent{events.KindMachine, "add", args, "", words[0]})
			return err
		},
	}
	f.add(cmd)
	fs := cmd.Flags()
	fs.StringSliceVar(&macs, "mac", nil, "MAC of a boot NIC; may be given several times")
	fs.StringSliceVar(&roles, "role", []string{events.RoleHost}, "what it is for")
	fs.StringVar(&serial, "serial", "", "serial number that it must have when it enrols")
	fs.StringVar(&bmc, "bmc", "", "address of its BMC (IPMI 2.0), host or host:port")
	fs.StringVar(&bmcUser, "bmc-user", "", "user of the BMC")
	fs.StringVar(&bmcSecret, "bmc-secret", "", "name of the secret that holds the password")
	fs.StringVar(&found, "discovered", "", "MAC of a machine that is held (machine discovered ls), in the place of --mac; it must keep the serial number that it said")
	return cmd
}

// ipmiPort is where BMCs listen (IPMI 2.0, section 13.1.2).
const ipmiPort = "623"

// withPort adds a port to an address that has none.
func withPort(address, port string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(address, port)
}

func (a *app) machinePower() *cobra.Command {
	cmd := &cobra.Command{Use: "power", Short: "Switch a machine's power over its BMC"}
	for _, p := range []struct{ action, short string }{
		{events.PowerOn, "Switch a machine on"},
		{events.PowerOff, "Switch a machine off, at once"},
		{events.PowerCycle, "Switch a machine off and on"},
		{events.PowerStatus, "Read back whether a machine is on"},
	} {
		cmd.AddCommand(a.actOn(actOn{
			kind: events.KindMachine, verb: "power", use: p.action, short: p.short,
			example: "  cloudengine machine power " + p.action + " host1 --wait",
			more: func(_ context.Context, _ *client.Client, args map[string]any) error {
				args["action"] = p.action
				return nil
			},
		}))
	}
	return cmd
}

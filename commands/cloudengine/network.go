package main

import (
	"context"
	"encoding/json"
	"strings"

	"cloudengine/commands/api/client"
	"cloudengine/events"
	"cloudengine/projections"

	"github.com/spf13/cobra"
)

var networkColumns = []column{
	field("NAME", "name"), field("ACCOUNT", "account_name"), field("VNI", "vni"), field("MTU", "mtu"), field("SUBNETS", "subnets"), field("NICS", "nics"),
}

var subnetColumns = []column{
	field("NAME", "name"), field("ACCOUNT", "account_name"), field("NETWORK", "network_name"), field("CIDR", "cidr"), field("FIRST", "first_address"), field("LAST", "last_address"),
	field("GIVEN", "given"), field("RESERVED", "reserved"),
}

var addressColumns = []column{
	field("ADDRESS", "address"), field("ACCOUNT", "account_name"), field("NETWORK", "network_name"), state, optional("VM", "vm_name"), optional("MAC", "mac"), field("SINCE", "since"),
}

var nicColumns = []column{
	field("NAME", "name"), field("ACCOUNT", "account_name"), field("VM", "vm_name"), field("SLOT", "slot"), field("NETWORK", "network_name"), field("MAC", "mac"), nicAddresses,
}

// nicAddresses shows the addresses of a NIC in one cell.
var nicAddresses = column{"ADDRESSES", func(r row) string {
	raw, err := json.Marshal(r["addresses"])
	var all []projections.NICAddress
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err != nil {
		return "?"
	}
	var out []string
	for _, x := range all {
		out = append(out, x.Address)
	}
	return strings.Join(out, " ")
}}

// more adds columns to those of a list.
func more(columns []column, others ...column) []column {
	return append(append([]column{field("ID", "id")}, columns...), others...)
}

// networkCommands are the nouns of networks of accounts.
func (a *app) networkCommands() []*cobra.Command {
	return []*cobra.Command{a.networkCommand(), a.subnetCommand(), a.addressCommand(), a.nicCommand()}
}

func (a *app) networkCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "network", Short: "Networks of accounts: only VMs of the account are on them"}
	list := a.listCommand(events.KindNetwork, "networks", networkColumns)
	list.Example = "  cloudengine network list --account demo"
	show := a.showCommand(events.KindNetwork, "a network", more(networkColumns, optional("FABRIC", "fabric_name"), field("CREATED", "created_at"), field("CHANGED-BY", "changed_by")))
	show.Example = "  cloudengine network show back"
	cmd.AddCommand(list, show, a.networkCreate(), a.actOn(actOn{
		kind: events.KindNetwork, verb: "delete", short: "Delete a network without subnets and NICs", example: "  cloudengine network delete back",
	}))
	return cmd
}

func (a *app) networkCreate() *cobra.Command {
	var f intentFlags
	var fabric string
	var mtu int
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a network of an account", Args: cobra.ExactArgs(1),
		Long: `Make a network of an account. It is an Ethernet of its own that spans all hosts of a fabric of transport vxlan, and only VMs of the account
can have NICs on it. Give it addresses next (subnet create).`,
		Example: "  cloudengine network create back --account demo\n  cloudengine network create back --account demo --fabric wire --mtu 1400",
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.make(cmd.Context(), &f, events.KindNetwork, words[0], func(ctx context.Context, c *client.Client) (any, error) {
				account, err := a.accountID(ctx, c)
				if err == nil && account == "" {
					account, err = a.onlyAccount(ctx, c)
				}
				args := map[string]any{"account": account, "name": words[0], "mtu": mtu}
				if err == nil && fabric != "" {
					args["fabric"], err = a.idOf(ctx, c, events.KindFabric, fabric)
				}
				return args, err
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&fabric, "fabric", "", "fabric of transport vxlan; empty: the only one")
	cmd.Flags().IntVar(&mtu, "mtu", 0, "bytes of a packet of a guest; 0: as many as fit")
	a.completeFlag(cmd, "fabric", events.KindFabric)
	return cmd
}

func (a *app) subnetCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "subnet", Short: "Addresses of networks"}
	list := a.listCommand(events.KindSubnet, "subnets", subnetColumns, "network_name")
	list.Example = "  cloudengine subnet list --network-name back"
	show := a.showCommand(events.KindSubnet, "a subnet", more(subnetColumns, field("SERVER", "server_address"), field("CREATED", "created_at"), field("CHANGED-BY", "changed_by")))
	show.Example = "  cloudengine subnet show back4"
	cmd.AddCommand(list, show, a.subnetCreate(), a.actOn(actOn{
		kind: events.KindSubnet, verb: "delete", short: "Delete a subnet of which no address is given or reserved", example: "  cloudengine subnet delete back4",
	}))
	return cmd
}

func (a *app) subnetCreate() *cobra.Command {
	var f intentFlags
	var network, cidr, first, last string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Give a network addresses, IPv4 or IPv6", Args: cobra.ExactArgs(1),
		Long: `Give a network addresses, IPv4 or IPv6. The first one is the hosts' own: there each host answers DHCP and DNS to its guests. NICs get the
lowest free one from --first to --last; others of the subnet are given only when they are asked for (nic create --address).`,
		Example: `  cloudengine subnet create back4 --network back --cidr 10.0.0.0/24
  cloudengine subnet create back6 --network back --cidr fd00:1::/64 --first fd00:1::100`,
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.make(cmd.Context(), &f, events.KindSubnet, words[0], func(ctx context.Context, c *client.Client) (any, error) {
				id, err := a.idOf(ctx, c, events.KindNetwork, network)
				args := map[string]any{"network": id, "name": words[0], "cidr": cidr}
				put(args, "first", first)
				put(args, "last", last)
				return args, err
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&network, "network", "", "network that it is of")
	cmd.Flags().StringVar(&cidr, "cidr", "", "such as 10.0.0.0/24 or fd00:1::/64")
	cmd.Flags().StringVar(&first, "first", "", "first address that is given; empty: the second of the subnet")
	cmd.Flags().StringVar(&last, "last", "", "last address that is given; empty: the last of the subnet")
	must(cmd.MarkFlagRequired("network"))
	must(cmd.MarkFlagRequired("cidr"))
	a.completeFlag(cmd, "network", events.KindNetwork)
	return cmd
}

// put sets an argument unless it is empty.
func put(args map[string]any, name, value string) {
	if value != "" {
		args[name] = value
	}
}

func (a *app) addressCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "address", Short: "Addresses that are given or reserved: who has which, and who had"}
	list := a.listCommand(projections.KindAddress, "addresses that are not free", addressColumns, "address", "network_name", "vm_name", "state")
	list.Example = "  cloudengine address list --network-name back\n  cloudengine address list --address 10.0.0.5 --at 2026-11-30T03:12:00Z"
	cmd.AddCommand(list, a.addressOf("reserve", "Keep an address back: it is given only to a NIC that asks for it", "  cloudengine address reserve back4 10.0.0.9"),
		a.addressOf("release", "End the reservation of an address", "  cloudengine address release back4 10.0.0.9"))
	return cmd
}

func (a *app) addressOf(verb, short, example string) *cobra.Command {
	var f intentFlags
	cmd := &cobra.Command{
		Use: verb + " SUBNET ADDRESS", Short: short, Args: cobra.ExactArgs(2), Example: example,
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			subnet, err := a.idOf(ctx, c, events.KindSubnet, words[0])
			if err != nil {
				return err
			}
			_, err = a.send(ctx, c, &f, intent{events.KindSubnet, verb, map[string]any{"subnet": subnet, "address": words[1]}, "", words[1]})
			return err
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) nicCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "nic", Short: "Network interfaces of VMs: their MAC and addresses stay as long as they are there"}
	list := a.listCommand(events.KindNIC, "NICs", nicColumns, "vm_name", "network_name", "mac")
	list.Example = "  cloudengine nic list --vm-name web1"
	show := a.showCommand(events.KindNIC, "a NIC", more(nicColumns, bitRateOf("IN", "in_bps"), bitRateOf("OUT", "out_bps"), field("CREATED", "created_at"), field("CHANGED-BY", "changed_by")))
	show.Example = "  cloudengine nic show web1-eth0"
	cmd.AddCommand(list, show, a.nicCreate(), a.nicLimit(), a.actOn(actOn{
		kind: events.KindNIC, verb: "delete", short: "Take a NIC from its VM, which must be stopped; its addresses are free", example: "  cloudengine nic delete web1-eth0",
	}))
	return cmd
}

func (a *app) nicCreate() *cobra.Command {
	var f intentFlags
	var network, slot, mac string
	var addresses []string
	cmd := &cobra.Command{
		Use: "create VM", Short: "Give a VM, which must be stopped, a NIC", Args: cobra.ExactArgs(1),
		Long: `Give a VM, which must be stopped, a NIC on a network of its account. It gets an address of each family that the network has: the one of
--address, or the lowest that is free.`,
		Example: `  cloudengine nic create web1 --network back
  cloudengine nic create web1 --network back --address 10.0.0.9 --mac 00:16:3e:aa:00:01 --slot eth1`,
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.make(cmd.Context(), &f, events.KindNIC, words[0], func(ctx context.Context, c *client.Client) (any, error) {
				vm, err := a.find(ctx, c, events.KindVM, words[0])
				if err != nil {
					return nil, err
				}
				net, err := a.get(ctx, c, events.KindNetwork, network, events.ReadRequest{Account: vm.text("account")})
				if err != nil {
					return nil, err
				}
				args := map[string]any{"vm": vm.text("id"), "network": net.text("id")}
				put(args, "slot", slot)
				put(args, "mac", mac)
				if len(addresses) > 0 {
					args["addresses"] = addresses
				}
				return args, nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&network, "network", "", "network that it is on")
	cmd.Flags().StringVar(&slot, "slot", "", "eth0 to eth3; empty: the first that is free")
	cmd.Flags().StringVar(&mac, "mac", "", "MAC address; empty: one of Xen's (00:16:3e:…)")
	cmd.Flags().StringArrayVar(&addresses, "address", nil, "address that it gets; once for IPv4, once for IPv6")
	must(cmd.MarkFlagRequired("network"))
	a.completeFlag(cmd, "network", events.KindNetwork)
	return cmd
}

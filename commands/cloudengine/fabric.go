package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cloudengine/commands"
	"cloudengine/commands/api/client"
	"cloudengine/events"
	"cloudengine/projections"

	"github.com/spf13/cobra"
)

var fabricColumns = []column{
	field("NAME", "name"), field("TRANSPORT", "transport"), field("SUBNET", "subnet"), field("MTU", "mtu"), field("MEMBERS", "members"),
}

var memberColumns = []column{
	field("FABRIC", "fabric_name"), field("MACHINE", "machine_name"), field("MAC", "mac"), field("ADDRESS", "address"),
}

func (a *app) fabricCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "fabric", Short: "Networks of machines, for storage or as an underlay: who is on them, and what they speak"}
	list := a.listCommand(events.KindFabric, "fabrics", fabricColumns)
	list.Example = "  cloudengine fabric list"
	show := a.showCommand(events.KindFabric, "a fabric", append([]column{field("ID", "id")}, append(fabricColumns[:len(fabricColumns):len(fabricColumns)],
		field("CREATED", "created_at"), field("CHANGED-BY", "changed_by"))...))
	show.Example = "  cloudengine fabric show san"
	members := a.listCommand(projections.KindMember, "the machines on fabrics", memberColumns, "fabric_name", "machine_name")
	members.Use, members.Aliases, members.Example = "members", nil, "  cloudengine fabric members --fabric-name san"
	cmd.AddCommand(list, show, members, a.fabricCreate(), a.fabricJoin(), a.fabricLeave(), a.actOn(actOn{
		kind: events.KindFabric, verb: "delete", short: "Delete a fabric that nobody is on", example: "  cloudengine fabric delete san",
	}))
	return cmd
}

func (a *app) fabricCreate() *cobra.Command {
	var args commands.CreateFabric
	var f intentFlags
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a network of machines known", Args: cobra.ExactArgs(1),
		Example: "  cloudengine fabric create san --transport srp --subnet 10.77.2.0/24 --mtu 4200\n  cloudengine fabric create wire --transport vxlan --subnet 10.77.3.0/24",
		RunE: func(cmd *cobra.Command, words []string) error {
			args.Name = words[0]
			return a.make(cmd.Context(), &f, events.KindFabric, words[0], func(context.Context, *client.Client) (any, error) { return args, nil })
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&args.Transport, "transport", events.TransportSRP, "what is spoken on it: srp or iscsi for storage, vxlan for networks of accounts")
	cmd.Flags().StringVar(&args.Subnet, "subnet", "", "IPv4 subnet that members get their addresses from")
	cmd.Flags().IntVar(&args.MTU, "mtu", 0, "bytes; 0: 1500")
	must(cmd.MarkFlagRequired("subnet"))
	return cmd
}

// make sends the intent that creates an object.
func (a *app) make(ctx context.Context, f *intentFlags, kind events.Kind, name string, args func(context.Context, *client.Client) (any, error)) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	body, err := args(ctx, c)
	if err != nil {
		return err
	}
	_, err = a.send(ctx, c, f, intent{kind, "create", body, "", name})
	return err
}

// idOf finds an object of a kind by name or id.
func (a *app) idOf(ctx context.Context, c *client.Client, kind events.Kind, name string) (string, error) {
	r, err := a.find(ctx, c, kind, name)
	if err != nil {
		return "", fmt.Errorf("find %s %s: %w", kind, name, err)
	}
	return r.text("id"), nil
}

func (a *app) fabricJoin() *cobra.Command {
	var f intentFlags
	var mac, address string
	cmd := &cobra.Command{
		Use: "join FABRIC MACHINE", Short: "Attach a network card of a machine to a fabric", Args: cobra.ExactArgs(2),
		Long: `Attach a network card of a machine to a fabric. Its address comes from the fabric's subnet: the lowest that is free, unless you name one.
Without --mac it is the machine's only card that it does not boot from, as its agent has reported it.`,
		Example: "  cloudengine fabric join san node1\n  cloudengine fabric join san node1 --mac 52:54:00:aa:00:01",
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.onFabric(cmd.Context(), &f, "join", words, func(m row, args map[string]any) error {
				if mac == "" {
					var err error
					if mac, err = otherCard(m); err != nil {
						return err
					}
				}
				args["mac"] = mac
				if address != "" {
					args["address"] = address
				}
				return nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&mac, "mac", "", "MAC address of the card (machine show lists them); empty: the only one that the machine does not boot from")
	cmd.Flags().StringVar(&address, "address", "", "address on the fabric")
	return cmd
}

func (a *app) fabricLeave() *cobra.Command {
	var f intentFlags
	cmd := &cobra.Command{
		Use: "leave FABRIC MACHINE", Short: "Take a machine off a fabric", Args: cobra.ExactArgs(2), Example: "  cloudengine fabric leave san node1",
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.onFabric(cmd.Context(), &f, "leave", words, func(row, map[string]any) error { return nil })
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) onFabric(ctx context.Context, f *intentFlags, verb string, words []string, more func(machine row, args map[string]any) error) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	fabric, err := a.idOf(ctx, c, events.KindFabric, words[0])
	if err != nil {
		return err
	}
	machine, err := a.find(ctx, c, events.KindMachine, words[1])
	if err != nil {
		return fmt.Errorf("find %s %s: %w", events.KindMachine, words[1], err)
	}
	args := map[string]any{"fabric": fabric, "machine": machine.text("id")}
	if err := more(machine, args); err != nil {
		return err
	}
	_, err = a.send(ctx, c, f, intent{events.KindFabric, verb, args, "", words[1]})
	return err
}

// otherCard gives the MAC address of the only card of a machine that it does not boot from.
func otherCard(machine row) (string, error) {
	var m struct {
		MACs      []string `json:"macs"`
		Inventory struct {
			NICs []struct {
				MAC string `json:"mac"`
			} `json:"nics"`
		} `json:"inventory"`
	}
	raw, err := json.Marshal(machine)
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		return "", fmt.Errorf("read cards of machine %s: %w", machine.text("name"), err)
	}
	var cards []string
	for _, n := range m.Inventory.NICs {
		if n.MAC != "" && !slices.Contains(m.MACs, n.MAC) {
			cards = append(cards, n.MAC)
		}
	}
	switch len(cards) {
	case 0:
		return "", usagef("machine %s has reported no card beside the one that it boots from: name one with --mac", machine.text("name"))
	case 1:
		return cards[0], nil
	}
	return "", usagef("machine %s has several cards that it does not boot from (%s): name one with --mac", machine.text("name"), strings.Join(cards, ", "))
}

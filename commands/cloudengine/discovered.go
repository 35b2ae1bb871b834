package main

import (
	"context"
	"fmt"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

var discoveredColumns = []column{
	field("MAC", "mac"), optional("SERIAL", "serial"), optional("MANUFACTURER", "manufacturer"), optional("PRODUCT", "product"), optional("UUID", "uuid"),
	field("FOUND", "found_at"),
}

func (a *app) machineDiscovered() *cobra.Command {
	cmd := &cobra.Command{
		Use: "discovered", Short: "Machines that asked for a boot and are not known: they are held until they are added or dropped",
		Long: `Machines that asked for a boot and are not known. Each is recorded once, at most 64 at a time; it boots an image that only waits.
What is shown beside the MAC is the machine's own word.`,
	}
	list := a.listCommand(events.KindDiscovered, "machines that wait to be added or dropped", discoveredColumns)
	list.Use, list.Aliases, list.Example = "ls", []string{"list"}, "  cloudengine machine discovered ls"
	drop := a.actOn(actOn{
		kind: events.KindDiscovered, verb: "drop", short: "Give it no boot, and do not record it again",
		long:    "Give it no boot, and do not record it again. \"machine add NAME --mac MAC\" makes it known all the same.",
		example: "  cloudengine machine discovered drop 52:54:00:77:00:09 --reason \"not ours\"",
	})
	drop.Use = "drop MAC"
	cmd.AddCommand(list, drop)
	return cmd
}

// discoveredMAC finds a discovered machine by its MAC and gives that and its serial number, if it said one.
func (a *app) discoveredMAC(ctx context.Context, c *client.Client, ref string) (mac, serial string, err error) {
	r, err := a.find(ctx, c, events.KindDiscovered, ref)
	if isNotFound(err) {
		return "", "", fmt.Errorf("%w (cloudengine machine discovered ls; a machine that never asked is added with --mac)", err)
	}
	if err != nil {
		return "", "", err
	}
	if r["serial"] != nil {
		serial = r.text("serial")
	}
	return r.text("mac"), serial, nil
}

package main

import (
	"context"
	"strconv"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

// bitRate is a flag of bits per second, such as 100Mbit. Its value is in bytes per second.
type bitRate uint64

// bitRates are the units of networks: powers of 1000, as tc(8) has them.
var bitRates = rateUnits{{"Gbit", 125_000_000}, {"Mbit", 125_000}, {"Kbit", 125}}

func (r *bitRate) String() string {
	if *r == 0 {
		return ""
	}
	return formatBits(uint64(*r))
}

// Type names the value in --help.
func (r *bitRate) Type() string { return "RATE" }

// Set reads 1500Kbit, 100Mbit or 1Gbit.
func (r *bitRate) Set(s string) error {
	n, err := bitRates.parse(s, "100Mbit or 1Gbit")
	if err == nil {
		*r = bitRate(n)
	}
	return err
}

// formatBits says bytes per second in bits.
func formatBits(n uint64) string {
	return bitRates.format(n, func(n uint64) string { return strconv.FormatUint(n*8, 10) + "bit" })
}

// bitRateOf shows bytes per second in bits.
func bitRateOf(head, name string) column {
	return column{head, func(r row) string {
		if n := r.number(name); n != 0 {
			return formatBits(n)
		}
		return noLimit
	}}
}

func (a *app) nicLimit() *cobra.Command {
	var in, out bitRate
	var none bool
	cmd := a.actOn(actOn{
		kind: events.KindNIC, verb: "limit", short: "Bound what a VM may send and get through a NIC, also while it runs",
		long: `Bound what a VM may send and get through a NIC, in bits per second of what TCP carries with full packets; the headers come on top. The host's
kernel holds back what is more, and serves the connections of a NIC in turn. A running VM has the new limits in a moment, and keeps them wherever it
runs. They take the place of both that the NIC had: what is not named is unlimited. Limits are the platform's to set: users of an account cannot.`,
		example: "  cloudengine nic limit web1-eth0 --out 100Mbit --in 1Gbit\n  cloudengine nic limit web1-eth0 --out 100Mbit\n  cloudengine nic limit web1-eth0 --none",
		flags: func(cmd *cobra.Command) {
			f := cmd.Flags()
			f.Var(&in, "in", "most that the guest gets, such as 1Gbit; 1Mbit to 25Gbit")
			f.Var(&out, "out", "most that the guest sends, such as 100Mbit; 1Mbit to 25Gbit")
			f.BoolVar(&none, "none", false, "no limits")
		},
		more: func(_ context.Context, _ *client.Client, args map[string]any) error {
			args["in_bps"], args["out_bps"] = uint64(in), uint64(out)
			return nil
		},
	})
	act := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		if some := in != 0 || out != 0; some == none {
			return usagef("say which limits the NIC shall have, or --none")
		}
		return act(cmd, words)
	}
	return cmd
}

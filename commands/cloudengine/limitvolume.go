package main

import (
	"context"
	"strconv"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

// noLimit is shown where a volume has no limit.
const noLimit = "unlimited"

// byteRate is a flag of bytes per second, such as 20MiB/s.
type byteRate uint64

var byteRates = rateUnits{{"GiB/s", 1 << 30}, {"MiB/s", 1 << 20}, {"KiB/s", 1 << 10}}

func (r *byteRate) String() string {
	if *r == 0 {
		return ""
	}
	return formatRate(uint64(*r))
}

// Type names the value in --help.
func (r *byteRate) Type() string { return "RATE" }

// Set reads 512KiB/s, 20MiB/s or 1GiB/s.
func (r *byteRate) Set(s string) error {
	n, err := byteRates.parse(s, "20MiB/s or 1GiB/s")
	if err == nil {
		*r = byteRate(n)
	}
	return err
}

func formatRate(n uint64) string {
	return byteRates.format(n, func(n uint64) string { return strconv.FormatUint(n, 10) + "B/s" })
}

// rateOf shows bytes per second.
func rateOf(head, name string) column {
	return column{head, func(r row) string {
		if n := r.number(name); n != 0 {
			return formatRate(n)
		}
		return noLimit
	}}
}

// iopsOf shows requests per second.
func iopsOf(head, name string) column {
	return column{head, func(r row) string {
		if n := r.number(name); n != 0 {
			return strconv.FormatUint(n, 10) + "/s"
		}
		return noLimit
	}}
}

func (a *app) volumeLimit() *cobra.Command {
	var read, write byteRate
	var readIOPS, writeIOPS uint32
	var none bool
	cmd := a.actOn(actOn{
		kind: events.KindVolume, verb: "limit", short: "Bound what a VM may read from and write to a volume, also while it runs",
		long: `Bound what a VM may read from and write to a volume, in bytes and in requests per second. The host's kernel holds requests back that are
more. A running VM has the new limits in a moment, and keeps them wherever it runs. The limits take the place of all that the volume had:
what is not named is unlimited. Limits are the platform's to set: users of an account cannot.`,
		example: "  cloudengine volume limit data1 --read 20MiB/s --write 10MiB/s --read-iops 500 --write-iops 300\n  cloudengine volume limit data1 --write 10MiB/s\n" +
			"  cloudengine volume limit data1 --none",
		flags: func(cmd *cobra.Command) {
			f := cmd.Flags()
			f.Var(&read, "read", "most that is read, such as 20MiB/s; at least 1MiB/s")
			f.Var(&write, "write", "most that is written, such as 10MiB/s; at least 1MiB/s")
			f.Uint32Var(&readIOPS, "read-iops", 0, "most read requests per second; at least 10")
			f.Uint32Var(&writeIOPS, "write-iops", 0, "most write requests per second; at least 10")
			f.BoolVar(&none, "none", false, "no limits")
		},
		more: func(_ context.Context, _ *client.Client, args map[string]any) error {
			args["read_bps"], args["write_bps"] = uint64(read), uint64(write)
			args["read_iops"], args["write_iops"] = readIOPS, writeIOPS
			return nil
		},
	})
	act := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		if some := read != 0 || write != 0 || readIOPS != 0 || writeIOPS != 0; some == none {
			return usagef("say which limits the volume shall have, or --none")
		}
		return act(cmd, words)
	}
	return cmd
}

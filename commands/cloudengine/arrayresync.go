package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

// syncing shows what an array has to copy or compare, as its owner last said. How far it is only the owner knows: see drawProgress.
var syncing = column{"SYNC", func(r row) string {
	runs, needs := words(r, "sync_runs"), words(r, "sync_needs")
	waits := ""
	switch {
	case r["resync_paused"] == true:
		waits = " (paused)"
	case r["sync_behind"] != nil:
		waits = " (waits)"
	}
	switch {
	case runs != "":
		return runs
	case needs != "":
		return needs + waits
	case r["check_wanted_at"] != nil:
		return "check (waits)"
	case waits == " (paused)":
		return "paused"
	}
	return "-"
}}

// words gives a field's text, or nothing where it is null.
func words(r row, name string) string {
	if r[name] == nil {
		return ""
	}
	return r.text(name)
}

// resyncLimit shows how much may be copied or compared.
var resyncLimit = column{"RESYNC-LIMIT", func(r row) string {
	text := noLimit
	if n := r.number("resync_limit_kib"); n != 0 {
		text = formatRate(n << 10)
	}
	if r["resync_paused"] == true {
		text += ", paused"
	}
	return text
}}

// lasted shows a sum of milliseconds, and since when more is added to it.
func lasted(head, sum, since string) column {
	return column{head, func(r row) string {
		text := (time.Duration(r.number(sum)) * time.Millisecond).Round(time.Second).String()
		if r[since] != nil {
			text += ", and since " + r.text(since)
		}
		return text
	}}
}

var arraySyncFields = []column{
	resyncLimit, optional("CHECK-WANTED", "check_wanted_at"), optional("CHECK-STARTED", "check_started_at"), optional("CHECKED", "checked_at"),
	optional("MISMATCHES", "mismatches"), lasted("DEGRADED-TIME", "degraded_ms", "degraded_at"), lasted("UNAVAILABLE-TIME", "unavailable_ms", "unavailable_at"),
}

var progressColumns = []column{field("ARRAY", "array"), field("SYNC", "sync"), field("DONE", "done"), field("RATE", "rate"), field("LEFT", "left")}

// drawProgress asks the owners of arrays that copy or compare how far they are, and shows that. One that does not answer is left out, and said.
func (a *app) drawProgress(ctx context.Context, c *client.Client, arrays []row) error {
	asked := map[string]events.StorageReport{}
	var out []row
	for _, r := range arrays {
		owner := words(r, "owner")
		if owner == "" || r["sync_runs"] == nil {
			continue
		}
		seen, ok := asked[owner]
		if !ok {
			var err error
			if seen, err = c.Storage(ctx, events.MachineID(owner)); err != nil {
				fmt.Fprintf(a.err, "how far array %s is: %v\n", r.text("name"), err)
				continue
			}
			asked[owner] = seen
		}
		for _, x := range seen.Arrays {
			if string(x.Array) == r.text("id") && x.Sync != "" {
				out = append(out, progress(r.text("name"), x))
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	return a.list(progressColumns, out)
}

func progress(name string, x events.ArrayReport) row {
	r := row{"array": name, "sync": x.Sync, "done": strconv.FormatFloat(float64(x.SyncDone)/10, 'f', 1, 64) + "%", "rate": "?", "left": "?"}
	if x.SyncKiB > 0 {
		r["rate"] = strconv.FormatFloat(float64(x.SyncKiB)/1024, 'f', 1, 64) + "MiB/s"
		r["left"] = (time.Duration(x.SyncETA) * time.Second).String()
	}
	return r
}

// withProgress adds to a command that lists or shows arrays how far those are that copy or compare now.
func (a *app) withProgress(cmd *cobra.Command) *cobra.Command {
	plain := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := plain(cmd, args); err != nil || a.output != "table" || cmd.Flags().Changed("at") || cmd.Flags().Changed("watch") {
			return err
		}
		ctx := cmd.Context()
		c, err := a.connect(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		all, err := a.all(ctx, c, events.KindArray, events.ReadRequest{})
		if err != nil {
			return err
		}
		var shown []row
		for _, r := range all {
			if len(args) == 0 || args[0] == r.text("name") || strings.HasPrefix(r.text("id"), args[0]) {
				shown = append(shown, r)
			}
		}
		return a.drawProgress(ctx, c, shown)
	}
	return cmd
}

func (a *app) arrayResync() *cobra.Command {
	var limit byteRate
	var none, pause, resume bool
	cmd := a.actOn(actOn{
		kind: events.KindArray, verb: "set_resync", use: "resync", short: "Bound or pause what an array copies to legs that are behind, and compares",
		long: `Bound what an array copies to legs that are new or came back, and what it reads to compare copies, per second. What VMs read and write goes first
in any case. A pause holds until --resume, whoever owns the array: until then a leg that came back is not good, and another loss may lose data.
On each storage node one array copies at a time, those without all copies first; the others wait by themselves ("cloudengine array list").`,
		example: "  cloudengine array resync gold1 --limit 20MiB/s\n  cloudengine array resync gold1 --no-limit\n" +
			"  cloudengine array resync gold1 --pause\n  cloudengine array resync gold1 --resume",
		flags: func(cmd *cobra.Command) {
			f := cmd.Flags()
			f.Var(&limit, "limit", "most that is copied or compared, such as 20MiB/s; at least 1MiB/s")
			f.BoolVar(&none, "no-limit", false, "as fast as it goes")
			f.BoolVar(&pause, "pause", false, "copy and compare nothing")
			f.BoolVar(&resume, "resume", false, "copy and compare again")
		},
		more: func(_ context.Context, _ *client.Client, args map[string]any) error {
			args["limit_kib"], args["no_limit"], args["pause"], args["resume"] = uint64(limit)>>10, none, pause, resume
			return nil
		},
	})
	act := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case limit == 0 && !none && !pause && !resume:
			return usagef("say --limit, --no-limit, --pause or --resume")
		case limit != 0 && none, pause && resume:
			return usagef("--limit and --no-limit, and --pause and --resume, exclude each other")
		}
		return act(cmd, args)
	}
	return cmd
}

func (a *app) arrayCheck() *cobra.Command {
	var stop bool
	return a.actOn(actOn{
		kind: events.KindArray, verb: "check", short: "Compare all copies of an array, while it is used",
		long: `Compare all copies of an array, while it is used. It waits until nothing is to be copied on its storage nodes and no other check runs there, and
begins anew when the array moves to another proxy or loses a leg. "cloudengine array show" tells how far it is, and then what was found. Pools
have their arrays checked by themselves: "cloudengine pool set --check-every".`,
		example: "  cloudengine array check gold1\n  cloudengine array check gold1 --stop",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().BoolVar(&stop, "stop", false, "end the check that waits or is under way")
		},
		more: func(_ context.Context, _ *client.Client, args map[string]any) error {
			args["stop"] = stop
			return nil
		},
	})
}

func (a *app) poolSet() *cobra.Command {
	var every time.Duration
	return a.actOn(actOn{
		kind: events.KindPool, verb: "set", short: "Say how often the arrays of a pool are checked",
		long: `Say how long after a check of an array the next one begins, in whole hours. All copies are compared, one array at a time on each storage node,
and not while anything is to be copied there. 0h: checks are made by hand only ("cloudengine array check").`,
		example: "  cloudengine pool set gold --check-every 720h\n  cloudengine pool set gold --check-every 0h",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().DurationVar(&every, "check-every", 0, "such as 168h; 0h: never by itself")
			must(cmd.MarkFlagRequired("check-every"))
		},
		more: func(_ context.Context, _ *client.Client, args map[string]any) error {
			if every < 0 || every%time.Hour != 0 {
				return usagef("--check-every: want whole hours, such as 720h")
			}
			args["check_hours"] = int(every / time.Hour)
			return nil
		},
	})
}

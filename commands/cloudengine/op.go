package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

var opColumns = []column{
	field("ID", "id"), field("NUMBER", "number"), field("ACTOR", "actor"), {"INTENT", func(r row) string { return r.text("kind") + "." + r.text("verb") }},
	optional("OBJECT", "object_name"), state, optional("CODE", "code"), optional("MESSAGE", "message"),
}

var opFields = append(opColumns[:len(opColumns):len(opColumns)],
	field("OUTCOME", "outcome"), optional("GUARD", "guard"), optional("REASON", "reason"), optional("CAUSE", "cause"),
	optional("CORRELATION", "correlation"), optional("OVERRIDE", "override_guards"), field("STARTED", "started_at"),
	optional("DEADLINE", "deadline"), optional("ENDED", "ended_at"))

func (a *app) opCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "op", Short: "Operations: every intent, its outcome and what became of it"}
	list := a.listCommand(events.KindOperation, "operations, with refused ones", opColumns, "state", "actor", "kind")
	list.Example = "  cloudengine op list --state running\n  cloudengine op list --actor ann -o json"
	show := a.showCommand(events.KindOperation, "an operation", opFields)
	show.Example = "  cloudengine op show 0190b6a4"
	cmd.AddCommand(list, show, a.opWait())
	return cmd
}

func (a *app) opWait() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "wait ID", Short: "Wait until an operation is over; its end is the exit code", Args: cobra.ExactArgs(1),
		Example:           "  cloudengine op wait 0190b6a4 --timeout 5m",
		ValidArgsFunction: a.complete(events.KindOperation),
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			op, err := a.find(ctx, c, events.KindOperation, words[0])
			if err != nil {
				return err
			}
			return a.waitFor(ctx, c, events.Answer{ID: events.IntentID(op.text("id"))}, &fillTeller{a: a})
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait")
	return cmd
}

// feedCommand follows FEED, as any NATS client can.
func (a *app) feedCommand() *cobra.Command {
	var kind string
	var after uint64
	var all bool
	var span time.Duration
	cmd := &cobra.Command{
		Use: "feed", Short: "Follow the events of the log as they come, until interrupted", Args: cobra.NoArgs,
		Long: `Follow the events of the log, in their order, until interrupted. FEED holds 30 days. Each line begins with the event's sequence in
FEED; give the last one that you saw with --after to go on behind it.`,
		Example: "  cloudengine feed\n  cloudengine feed --kind vm --after 4711\n  cloudengine feed --all -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if span > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, span)
				defer cancel()
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			f := client.Feed{Kind: events.Kind(kind), After: after, New: !all && after == 0}
			return c.Follow(ctx, f, a.printEvent)
		},
	}
	cmd.Flags().StringVar(&kind, "kind", "", "only events of objects of this kind")
	cmd.Flags().Uint64Var(&after, "after", 0, "go on after this sequence")
	cmd.Flags().DurationVar(&span, "for", 0, "end after this time (0: only when interrupted)")
	cmd.Flags().BoolVar(&all, "all", false, "begin with the oldest event that FEED holds")
	return cmd
}

func (a *app) printEvent(seq uint64, m events.FeedMessage) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("print event: %w", err)
	}
	if a.output == "json" {
		_, err := fmt.Fprintf(a.out, "{\"sequence\":%d,\"message\":%s}\n", seq, raw)
		return err
	}
	data, err := json.Marshal(m.Event.Data)
	if err != nil {
		return fmt.Errorf("print event: %w", err)
	}
	_, err = fmt.Fprintf(a.out, "%d  %d  %s  %s  %s  %s  %s\n", seq, m.Number, m.Time, m.Actor, m.Event.Aggregate, m.Event.Type,
		oneLine(strings.TrimSpace(string(data))))
	return err
}

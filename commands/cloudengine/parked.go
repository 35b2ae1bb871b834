package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"cloudengine/commands/api/wire"

	"github.com/spf13/cobra"
)

func (a *app) parkedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "parked", Short: "Look at events that the read models could not apply, and let their objects go on",
		Long: `An event that cannot be applied to the read models (its type is of a newer version, or it does not fit) is parked, with all later
events of its object, so that nothing is skipped. The log and the decisions are not touched by this, only what is shown of the object.
A newer version that knows the event builds the read models anew at its start: then the object goes on by itself.`,
		Example: "  cloudengine parked ls\n  cloudengine parked retry vm 0199aaaa\n  cloudengine parked drop vm 0199aaaa --reason \"written by a test version\"",
	}
	cmd.AddCommand(a.parkedList(), a.parkedShow(), a.parkedRetry(), a.parkedDrop())
	return cmd
}

var parkedColumns = []column{plain("KIND", "kind"), plain("OBJECT", "object"), plain("DECISION", "number"), plain("EVENT", "type"), plain("BEHIND", "behind"),
	plain("STATE", "state"), plain("WHY", "error")}

// askParked asks for parked events and prints them.
func (a *app) askParked(ctx context.Context, q wire.ParkedRequest, dropped bool) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	found, err := c.Parked(ctx, q)
	if err != nil {
		return err
	}
	switch a.output {
	case "json":
		return a.json(found)
	case "yaml":
		return a.yaml(found)
	}
	var rows []row
	for _, e := range found.Items {
		state := "parked"
		if !e.First {
			state = "waits"
		}
		rows = append(rows, parkedRow(e, state, e.Error))
	}
	if dropped {
		for _, e := range found.Dropped {
			rows = append(rows, parkedRow(e, "dropped", fmt.Sprintf("%s (dropped by %s: %s)", e.Error, e.By, e.Reason)))
		}
	}
	if a.output == "name" {
		for _, r := range rows {
			fmt.Fprintln(a.out, r.text("kind")+"/"+r.text("object"))
		}
		return nil
	}
	if found.More {
		a.talk("there are more: ask with a greater --limit")
	}
	return table(a.out, parkedColumns, rows, withHeads)
}

func parkedRow(e wire.ParkedEvent, state, why string) row {
	return row{"kind": string(e.Kind), "object": e.Object, "number": strconv.FormatUint(e.Number, 10), "type": e.Type, "behind": strconv.Itoa(e.Behind), "state": state, "error": why}
}

func (a *app) parkedList() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List parked objects with the event that parked each, and events that were dropped", Args: cobra.NoArgs,
		Long:    "List parked objects: the event that could not be applied and why, and how many later events of the object wait behind it. Then the events that were dropped, with the reason.",
		Example: "  cloudengine parked ls\n  cloudengine parked ls -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.askParked(cmd.Context(), wire.ParkedRequest{Limit: limit}, true)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "list at most so many (1 to 1000)")
	return cmd
}

func (a *app) parkedShow() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "show KIND ID", Short: "Show all parked events of one object, in the order of the log", Args: cobra.ExactArgs(2),
		Example: "  cloudengine parked show vm 0199aaaa\n  cloudengine parked show vm 0199aaaa -o yaml",
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.askParked(cmd.Context(), wire.ParkedRequest{Kind: parkedKind(words[0]), Object: words[1], Limit: limit}, true)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 1000, "show at most so many (1 to 1000)")
	return cmd
}

func (a *app) parkedRetry() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "retry KIND ID", Short: "Apply an object's parked events again, in their place in the log: all of them or none", Args: cobra.ExactArgs(2),
		Long: `Apply the parked events of an object again. They belong between other events, so the read models are built anew from the log, beside
the present ones: if the object goes on then, they take their place, else nothing is changed and exit code 4 says so.`,
		Example: "  cloudengine parked retry vm 0199aaaa",
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.onParked(cmd.Context(), words, wire.ProjectionRequest{Action: wire.ProjectionRetry}, timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", time.Hour, "how long to look; the work goes on")
	return cmd
}

func (a *app) parkedDrop() *cobra.Command {
	var reason string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "drop KIND ID --reason TEXT", Short: "Give up the event that parked an object, and let the object go on without it", Args: cobra.ExactArgs(2),
		Long: `Give up the event that parked an object: the read models go on without it, now and in every rebuild, and its later events are applied.
Should one of those not be applicable either, the object is parked again there. The log keeps the event; who dropped it and why is kept
in the table dropped_events. A database that is lost forgets that: then the event is parked again.`,
		Example: "  cloudengine parked drop vm 0199aaaa --reason \"written by a test version\"",
		RunE: func(cmd *cobra.Command, words []string) error {
			if reason == "" {
				return usagef("--reason is needed: it is kept with the event")
			}
			return a.onParked(cmd.Context(), words, wire.ProjectionRequest{Action: wire.ProjectionDrop, Reason: reason}, timeout)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is kept")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Hour, "how long to look; the work goes on")
	return cmd
}

// onParked finds the parked object that is meant and has work done on it.
func (a *app) onParked(ctx context.Context, words []string, q wire.ProjectionRequest, timeout time.Duration) error {
	asking, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	c, err := a.connect(asking)
	if err != nil {
		return err
	}
	found, err := c.Parked(asking, wire.ParkedRequest{Kind: parkedKind(words[0]), Object: words[1], Limit: 1})
	c.Close()
	if err != nil {
		return err
	}
	if len(found.Items) == 0 {
		return fmt.Errorf("find parked %s %s: nothing came", words[0], words[1])
	}
	q.Kind, q.Object = found.Items[0].Kind, found.Items[0].Object
	a.talk("%s/%s: decision %d, %s: %s", q.Kind, q.Object, found.Items[0].Number, found.Items[0].Type, found.Items[0].Error)
	return a.upkeep(ctx, q, true, timeout)
}

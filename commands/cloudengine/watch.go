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

// watchCommand follows the log from any place in it, of one object or of all.
func (a *app) watchCommand() *cobra.Command {
	var from string
	var span time.Duration
	cmd := &cobra.Command{
		Use: "watch [KIND NAME]", Short: "Follow the events of the log, of one object or all, from any place on, until interrupted", Args: cobra.MatchAll(cobra.MaximumNArgs(2), notOne),
		Long: `Follow the events of the log, in their order, until interrupted: what is to come, or with --from all since a decision or a time, however
long ago. Each line begins with the number of the decision; give the one after the last that you saw to go on there. Users of an
account see what is the account's. KIND is vm, machine, host, template, account or operation.`,
		Example: "  cloudengine watch\n  cloudengine watch vm web1 --from 4711\n  cloudengine watch --from \"2026-11-17 15:00\" -o json",
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx := cmd.Context()
			if span > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, span)
				defer cancel()
			}
			at, err := momentText("from", from, time.Now())
			if err != nil {
				return err
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			w := client.Watch{From: at}
			if len(words) == 2 {
				object, err := a.object(ctx, c, words[0], words[1])
				if err != nil {
					return err
				}
				w.Kind, w.ID = object.Kind, object.ID
			}
			return c.Watch(ctx, w, a.printWatched)
		},
	}
	cmd.Flags().StringVar(&from, "from", "now", "begin with this decision, or at this time: "+momentHelp)
	cmd.Flags().DurationVar(&span, "for", 0, "end after this time (0: only when interrupted)")
	return cmd
}

func notOne(_ *cobra.Command, words []string) error {
	if len(words) == 1 {
		return fmt.Errorf("watch %s: of which one?", words[0])
	}
	return nil
}

func (a *app) printWatched(m events.FeedMessage) error {
	if a.output == "json" {
		raw, err := json.Marshal(m)
		if err == nil {
			_, err = fmt.Fprintf(a.out, "%s\n", raw)
		}
		return err
	}
	data, err := json.Marshal(m.Event.Data)
	if err != nil {
		return fmt.Errorf("print event: %w", err)
	}
	_, err = fmt.Fprintf(a.out, "%d  %s  %s  %s  %s  %s\n", m.Number, m.Time, m.Actor, m.Event.Aggregate, m.Event.Type, oneLine(strings.TrimSpace(string(data))))
	return err
}

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections/history"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// whyCommand tells what led to something and what followed from it.
func (a *app) whyCommand() *cobra.Command {
	var limit int
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "why NUMBER|INTENT|KIND NAME", Short: "Tell what led to a decision, an intent or an object's state, and what followed", Args: cobra.RangeArgs(1, 2),
		Long: `Tell what led to something and what followed from it, as a tree: a decision by its number, an intent by its id, or the last decision
that changed an object. Nothing is inferred: a decision stands under another only if it names it, by its number (reactions), its
operation, the epoch of its run grant, its boot token or its boot. A decision that names several stands under the strongest.`,
		Example: "  cloudengine why 4711\n  cloudengine why 0190b6a4-0000-7000-8000-000000000001\n  cloudengine why vm web1\n  cloudengine why vm web1 -o json",
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			q, err := a.target(ctx, c, words)
			if err != nil {
				return err
			}
			all, err := pages(limit, func(after uint64, n int) (wire.HistoryAnswer, error) {
				q.After, q.Limit = after, n
				ans, err := c.Why(ctx, q)
				q.Number = ans.Target // an object may change between two pages
				return ans, err
			})
			if err != nil {
				return err
			}
			return a.printWhy(all)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 1000, "tell only the first so many decisions (0: all)")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait for the server")
	return cmd
}

// target reads what is to be explained.
func (a *app) target(ctx context.Context, c *client.Client, words []string) (wire.WhyRequest, error) {
	if len(words) == 2 {
		object, err := a.object(ctx, c, words[0], words[1])
		return wire.WhyRequest{Kind: object.Kind, ID: object.ID}, err
	}
	if n, err := strconv.ParseUint(words[0], 10, 64); err == nil && n > 0 {
		return wire.WhyRequest{Number: n}, nil
	}
	if id, err := uuid.Parse(words[0]); err == nil {
		return wire.WhyRequest{Intent: events.IntentID(id.String())}, nil
	}
	return wire.WhyRequest{}, usagef("%q: want a number of a decision, the whole id of an intent, or KIND NAME", words[0])
}

func (a *app) printWhy(all wire.HistoryAnswer) error {
	if done, err := a.form(all.Items, all); done {
		return err
	}
	for _, l := range history.Explain(all.Items) {
		mark := strings.Repeat("    ", l.Depth)
		if l.Number > 0 {
			mark += strconv.FormatUint(l.Number, 10) + "  "
		}
		if l.Number == all.Target && l.Number > 0 {
			mark += "<== "
		}
		fmt.Fprintln(a.out, oneLine(mark+l.Text))
	}
	if all.Next > 0 {
		a.talk("there is more after decision %d: ask with a larger --limit", all.Next)
	}
	return nil
}

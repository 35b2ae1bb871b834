package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/commands/api/wire"
	"cloudengine/events/feed/alerts"

	"github.com/spf13/cobra"
)

var alertColumns = []column{
	field("ID", "id"), field("SEVERITY", "severity"), field("STATE", "state"), field("RULE", "rule"), field("OBJECT", "object"), field("RAISED", "raised"),
	field("TOLD", "told"), field("MESSAGE", "message"),
}

func (a *app) alertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "alert", Short: "What is not as it should be, and who was told of it",
		Long: `Alerts are raised and ended by events of the log (an Unknown VM, a silent machine, a contradiction, a stale domain, a BMC that does not
answer, a new term, an override) and by measures (lag, parked events, disks). They are kept by the servers, and copied to the table
alerts. "serve --alert-webhook" and "--alert-mail-relay" send each raise and each end at least once, with an id that stays the same.`,
	}
	var all bool
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List open alerts, and those of which somebody could not be told", Args: cobra.NoArgs,
		Example: "  cloudengine alert list\n  cloudengine alert ls --all -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAlerts(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				found, err := c.Alerts(ctx, all)
				if err != nil {
					return err
				}
				if found.More > 0 {
					a.talk("%d more are left out", found.More)
				}
				return a.listAlerts(found.Items)
			})
		},
	}
	list.Flags().BoolVar(&all, "all", false, "also those that are over (of the last 90 days)")
	cmd.AddCommand(list, a.alertDo(wire.AlertAck, "Acknowledge an alert: somebody has seen it",
		"Acknowledge an alert. One that was raised by something that happened, such as a contradiction, is over with it; others stay open until what\nthey tell of is over.",
		"  cloudengine alert ack 5537d0 --reason \"the cable was pulled for work\""),
		a.alertDo(wire.AlertRetry, "Send an alert again that could not be sent", "Send again what was given up after many attempts.", "  cloudengine alert retry 5537d0"))
	return cmd
}

func (a *app) alertDo(action, short, long, example string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: action + " ID", Short: short, Long: long, Example: example, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.withAlerts(cmd.Context(), func(ctx context.Context, c *client.Client) error {
				r, err := c.Alert(ctx, words[0], action, reason)
				if err != nil {
					return err
				}
				return a.listAlerts([]alerts.Record{r})
			})
		},
	}
	if action == wire.AlertAck {
		cmd.Flags().StringVar(&reason, "reason", "", "why; it is kept with the alert")
	}
	return cmd
}

func (a *app) withAlerts(ctx context.Context, f func(context.Context, *client.Client) error) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return f(ctx, c)
}

func (a *app) listAlerts(list []alerts.Record) error {
	if a.output == "json" || a.output == "yaml" {
		if list == nil {
			list = []alerts.Record{}
		}
		raw, err := json.Marshal(list)
		if err != nil {
			return fmt.Errorf("encode alerts: %w", err)
		}
		if a.output == "yaml" {
			return a.yaml(json.RawMessage(raw))
		}
		return a.json(json.RawMessage(raw))
	}
	rows := make([]row, len(list))
	for i, r := range list {
		rows[i] = row{
			"id": r.ID, "severity": string(r.Severity), "state": stateOf(r), "rule": r.Rule, "object": r.Object.String(),
			"raised": r.Raised.UTC().Format(time.RFC3339), "told": toldOf(r), "message": r.Message,
		}
	}
	return a.list(alertColumns, rows)
}

func stateOf(r alerts.Record) string {
	switch {
	case !r.Open():
		return "over"
	case r.Acked != nil:
		return "seen by " + r.AckedBy
	}
	return "open"
}

// toldOf says of each sender how far it is.
func toldOf(r alerts.Record) string {
	var out []string
	for _, s := range r.Sent {
		word := s.Sender + ": sent"
		switch {
		case s.Dead:
			word = s.Sender + ": dead, " + s.Error
		case s.Done.IsZero() && s.Attempts > 0:
			word = fmt.Sprintf("%s: %d attempts, %s", s.Sender, s.Attempts, s.Error)
		case s.Done.IsZero():
			word = s.Sender + ": waits"
		}
		out = append(out, word)
	}
	if len(out) == 0 {
		return "nobody"
	}
	return strings.Join(slices.Compact(out), "; ")
}

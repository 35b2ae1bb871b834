package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"cloudengine/commands"
	"cloudengine/commands/api/client"
	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

// logCommand is for what concerns the log as a whole.
func (a *app) logCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "log", Short: "The term of the log, and what a restore left to be found out",
		Long: `The log is in a term. A restore from a backup begins a new one, and so does "log reopen" after the loss of the log's end. What the
lost part had started is not known then, so nothing is started before the new term is settled:

  1. Machines that were added after the backup are not known any more: add them again, or switch them off by hand.
  2. "log status" lists the machines that have not yet said what they run. Those that enrolled after the backup cannot: end them by
     "machine power off" or let them boot again.
  3. It lists the domains that run under lost grants. "host orphan adopt" takes each back, under the same epoch.
  4. "log settle" ends it. "verify" then compares everything.`,
	}
	status := &cobra.Command{
		Use: "status", Short: "Show the term of the log and what is still to be found out", Args: cobra.NoArgs,
		Example: "  cloudengine log status\n  cloudengine log status -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withLog(cmd.Context(), func(_ context.Context, _ *client.Client, s wire.LogStatus) error { return a.printLogStatus(s) })
		},
	}
	var settling, reopening intentFlags
	settle := &cobra.Command{
		Use: "settle", Short: "Allow starts again after a restore", Args: cobra.NoArgs,
		Example: "  cloudengine log settle --reason \"restored from the backup of Monday; all hosts were looked at\"",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withLog(cmd.Context(), func(ctx context.Context, c *client.Client, s wire.LogStatus) error {
				_, err := a.send(ctx, c, &settling, intent{events.KindLog, "settle", commands.SettleLog{Term: s.Term}, "", "log"})
				return err
			})
		},
	}
	settling.add(settle)
	reopen := &cobra.Command{
		Use: "reopen", Short: "Begin a new term, after the end of the log was lost", Args: cobra.NoArgs,
		Long: `Begin a new term, after servers were lost that alone had the end of the log. Documents of the lost part are outranked, and nothing is
started before the term is settled.`,
		Example: "  cloudengine log reopen --reason \"two of three servers were lost\"",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withLog(cmd.Context(), func(ctx context.Context, c *client.Client, s wire.LogStatus) error {
				args := commands.OpenLog{Term: s.Term + 1, Cause: events.CauseReopened}
				_, err := a.send(ctx, c, &reopening, intent{events.KindLog, "open", args, "", "log"})
				return err
			})
		},
	}
	reopening.add(reopen)
	cmd.AddCommand(status, settle, reopen)
	return cmd
}

func (a *app) withLog(ctx context.Context, f func(context.Context, *client.Client, wire.LogStatus) error) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	asking, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := c.LogStatus(asking)
	if err != nil {
		return err
	}
	return f(ctx, c, s)
}

func (a *app) printLogStatus(s wire.LogStatus) error {
	switch a.output {
	case "json":
		return a.json(s)
	case "yaml":
		return a.yaml(s)
	}
	settled := "settled"
	if !s.Settled {
		settled = "NOT settled: nothing is started"
	}
	if _, err := fmt.Fprintf(a.out, "term %d (%s), %s, %d decisions\n", s.Term, s.Cause, settled, s.Applied); err != nil {
		return err
	}
	if len(s.Unreported) > 0 && s.Term > 1 {
		a.talk("not reported in this term: %s", strings.Join(s.Unreported, ", "))
	}
	if len(s.Lost) == 0 {
		return nil
	}
	a.talk("these run under grants that the log has lost; take each back with: host orphan adopt UUID --vm VM")
	rows := make([]row, 0, len(s.Lost))
	for _, l := range s.Lost {
		rows = append(rows, row{"host": l.Host, "uuid": l.UUID, "vm": string(l.VM), "epoch": l.Epoch.String()})
	}
	return a.list([]column{field("HOST", "host"), field("UUID", "uuid"), field("VM", "vm"), field("EPOCH", "epoch")}, rows)
}

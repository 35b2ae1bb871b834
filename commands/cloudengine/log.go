package main

import (
	"context"
	"fmt"
	"strconv"
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
		Use: "log", Short: "The term and the level of the log, and what a restore left to be found out",
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
	cmd.AddCommand(status, settle, reopen, a.raiseLevel())
	return cmd
}

func (a *app) raiseLevel() *cobra.Command {
	var f intentFlags
	cmd := &cobra.Command{
		Use: "raise-level [LEVEL]", Short: "Let the log hold what a new release brings, after all servers were upgraded", Args: cobra.MaximumNArgs(1),
		Long: `A new release may write events that older ones cannot read. It does so only when the log's level allows it, so servers of both releases
serve one log while you upgrade them one by one, and you can go back. When all run the new release and you do not want to go back, raise
the level: to LEVEL, or to the highest that every server knows. It never falls again; a server of an older release then stops, and says why.`,
		Example: "  cloudengine log raise-level\n  cloudengine log raise-level 3 --dry-run",
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.withLog(cmd.Context(), func(ctx context.Context, c *client.Client, s wire.LogStatus) error {
				to, err := levelTo(s, words)
				if err != nil {
					return err
				}
				if to == s.Level {
					a.talk("the log is at level %d, the highest that every server knows: there is nothing to raise", s.Level)
					return nil
				}
				_, err = a.send(ctx, c, &f, intent{events.KindLog, "raise_level", commands.RaiseLevel{Level: to}, "", "log"})
				return err
			})
		},
	}
	f.add(cmd)
	return cmd
}

// levelTo is the level that is asked for, or the highest that all servers know.
func levelTo(s wire.LogStatus, words []string) (int, error) {
	if len(words) > 0 {
		to, err := strconv.Atoi(words[0])
		if err != nil {
			return 0, usagef("level %s: want a number", words[0])
		}
		return to, nil
	}
	to := 0
	for _, v := range s.Servers {
		if to == 0 || v.Level < to {
			to = v.Level
		}
	}
	return max(to, s.Level), nil
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
	if _, err := fmt.Fprintf(a.out, "term %d (%s), %s, level %d, %d decisions\n", s.Term, s.Cause, settled, s.Level, s.Applied); err != nil {
		return err
	}
	if to, err := levelTo(s, nil); err == nil && to > s.Level {
		a.talk("every server knows level %d: raise it when you do not want to go back to the older release (log raise-level)", to)
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

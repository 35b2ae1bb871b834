package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/commands/api/wire"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

func (a *app) projectionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "projection", Short: "Look after the read models: the tables in MariaDB that are built from the log",
		Long: `The read models are tables in MariaDB, built from the log by the server that is active. They can be built anew at any time; nobody
who reads them notices. Each server has its own: these commands are about those of the active one.`,
		Example: "  cloudengine projection ls\n  cloudengine projection rebuild --watch\n  cloudengine projection fork --until \"2026-11-22 15:04\" --schema tuesday",
	}
	cmd.AddCommand(a.projectionList(), a.projectionRebuild(), a.projectionFork())
	return cmd
}

func (a *app) projectionList() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "Show each read model with its rows, how far behind the log it is, and what is parked", Args: cobra.NoArgs,
		Long: `Show each read model: its table, its rows, the last decision in it, how many decisions the log is ahead (LAG) and how old the first
of those is (BEHIND), how many objects are parked, and the version of the tables. On stderr: forks, and work that is under way.`,
		Example: "  cloudengine projection ls\n  cloudengine projection ls -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerTime)
			defer cancel()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := c.ProjectionStatus(ctx)
			if err != nil {
				return err
			}
			return a.printProjections(s)
		},
	}
}

func (a *app) printProjections(s wire.ProjectionStatus) error {
	switch a.output {
	case "json":
		return a.json(s)
	case "yaml":
		return a.yaml(s)
	case "name":
		for _, m := range s.Models {
			fmt.Fprintln(a.out, m.Table)
		}
		return nil
	}
	rows := make([]row, len(s.Models))
	for i, m := range s.Models {
		rows[i] = row{"model": string(m.Kind), "table": s.Schema + "." + m.Table, "rows": strconv.FormatUint(m.Rows, 10), "applied": strconv.FormatUint(s.Applied, 10),
			"lag": strconv.FormatUint(s.LagDecisions, 10), "behind": strconv.FormatFloat(s.LagSeconds, 'f', 1, 64) + "s", "parked": strconv.Itoa(m.Parked), "version": s.Version[:min(12, len(s.Version))]}
	}
	if err := table(a.out, []column{plain("MODEL", "model"), plain("TABLE", "table"), plain("ROWS", "rows"), plain("APPLIED", "applied"), plain("LAG", "lag"),
		plain("BEHIND", "behind"), plain("PARKED", "parked"), plain("VERSION", "version")}, rows, withHeads); err != nil {
		return err
	}
	for _, f := range s.Forks {
		if f.Until == 0 {
			a.talk("fork %s is not whole: make it again, or \"projection fork --drop --schema %s\"", f.Schema, f.Schema)
			continue
		}
		a.talk("fork %s: as of decision %d", f.Schema, f.Until)
	}
	if s.Parked > 0 {
		a.talk("%d objects are parked, with %d events: see \"cloudengine parked ls\"", s.Parked, s.Waiting)
	}
	if s.Version != s.Wanted {
		a.talk("the tables are of another version than the server: new ones are being built, these serve until then")
	}
	if j := s.Job; j != nil {
		a.talk("%s by %s: %s", j.Request.Action, j.By, jobLine(*j))
	}
	return nil
}

// plain shows a field as it is.
func plain(head, name string) column {
	return column{head, func(r row) string { return r.text(name) }}
}

// jobLine says in one line how far work is.
func jobLine(j wire.ProjectionJob) string {
	took := time.Duration(j.Took * float64(time.Second)).Round(100 * time.Millisecond)
	switch {
	case j.Done && j.Error != nil:
		return "failed: " + j.Error.Message
	case j.Done:
		return fmt.Sprintf("done in %s, %d rows, up to decision %d", took, j.Loaded, j.Number)
	}
	left := ""
	if j.Left > 0 {
		left = fmt.Sprintf(", about %s left", time.Duration(j.Left*float64(time.Second)).Round(time.Second))
	}
	if j.Phase == "load" {
		return fmt.Sprintf("load: %d of %d rows, %.0f/s%s", j.Loaded, j.Rows, j.Rate, left)
	}
	return fmt.Sprintf("%s: %d of %d decisions, %.0f/s%s", j.Phase, j.Number, max(j.Head, j.Number), j.Rate, left)
}

func (a *app) projectionRebuild() *cobra.Command {
	var watch bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "rebuild", Short: "Build the read models anew from the log, beside the present ones, and swap", Args: cobra.NoArgs,
		Long: `Build the read models anew from the log. The present ones serve meanwhile and stay up to date; the new ones take their place in one
moment. Should anything fail, the present ones stay. Without --watch the command returns as soon as the work has begun.`,
		Example: "  cloudengine projection rebuild --watch\n  cloudengine projection rebuild && cloudengine projection ls",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.upkeep(cmd.Context(), wire.ProjectionRequest{Action: wire.ProjectionRebuild}, watch, timeout)
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show how far it is until it is done")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Hour, "with --watch: how long to look; the work goes on")
	return cmd
}

func (a *app) projectionFork() *cobra.Command {
	var schema, until string
	var drop, watch bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "fork --until TIME|SEQ --schema NAME", Short: "Build the read models of a past moment in another schema, for any MySQL client", Args: cobra.NoArgs,
		Long: `Build the read models as they were after a decision, or at a time, in a schema of their own on the same database server. It stays as it
is until it is forked anew or dropped. The live schema, and schemas that hold anything but such a fork, are refused.`,
		Example: "  cloudengine projection fork --until \"2026-11-22 15:04\" --schema tuesday\n  cloudengine projection fork --until 4711 --schema before\n  cloudengine projection fork --drop --schema before",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if schema == "" || drop == (until != "") {
				return usagef("give --schema, and either --until or --drop")
			}
			if drop {
				return a.upkeep(cmd.Context(), wire.ProjectionRequest{Action: wire.ProjectionDropFork, Schema: schema}, true, timeout)
			}
			at, err := momentText("until", until, time.Now())
			if err != nil {
				return err
			}
			return a.upkeep(cmd.Context(), wire.ProjectionRequest{Action: wire.ProjectionFork, Schema: schema, Until: at}, watch, timeout)
		},
	}
	f := cmd.Flags()
	f.StringVar(&schema, "schema", "", "name of the schema: a–z, 0–9 and _")
	f.StringVar(&until, "until", "", "the last decision in it: "+momentHelp)
	f.BoolVar(&drop, "drop", false, "remove this fork with its schema")
	f.BoolVar(&watch, "watch", true, "show how far it is until it is done; --watch=false returns at once")
	f.DurationVar(&timeout, "timeout", time.Hour, "how long to look; the work goes on")
	return cmd
}

// upkeep has work on the read models done, and with watch shows how far it is until it is over.
func (a *app) upkeep(ctx context.Context, q wire.ProjectionRequest, watch bool, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	asking, stop := context.WithTimeout(ctx, answerTime)
	defer stop()
	job, err := c.Projection(asking, q)
	if err != nil {
		return err
	}
	if watch {
		if job, err = a.watchJob(ctx, c, job); err != nil {
			return err
		}
	} else {
		a.talk("it has begun; \"cloudengine projection ls\" shows how far it is")
	}
	switch a.output {
	case "json":
		err = a.json(job)
	case "yaml":
		err = a.yaml(job)
	case "name":
		_, err = fmt.Fprintln(a.out, job.ID)
	default:
		if job.Done {
			_, err = fmt.Fprintf(a.out, "%s: %s\n", q.Action, jobLine(job))
		}
	}
	return err
}

// watchJob shows how far a job is until it is over. The server that does it may be restarted meanwhile: then it is not known.
func (a *app) watchJob(ctx context.Context, c *client.Client, job wire.ProjectionJob) (wire.ProjectionJob, error) {
	said := ""
	for {
		s, err := c.ProjectionStatus(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return job, fmt.Errorf("watch the work on the read models: %w", errTimeout)
		}
		if err != nil {
			return job, err
		}
		if s.Job == nil || s.Job.ID != job.ID {
			return job, fmt.Errorf("watch the work on the read models: the server does not know of it any more: it was restarted, and the read models are as they were; ask again")
		}
		job = *s.Job
		if job.Done && job.Error != nil {
			return job, &client.Refusal{Outcome: *job.Error}
		}
		if job.Done {
			return job, nil
		}
		if line := jobLine(job); line != said {
			a.talk("%s", line)
			said = line
		}
		select {
		case <-ctx.Done():
			return job, fmt.Errorf("watch the work on the read models: %w", errTimeout)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// parkedKinds are the words for kinds of objects that can be parked, beside those with a history.
func parkedKind(word string) events.Kind {
	if k, ok := logKinds[word]; ok {
		return k
	}
	return events.Kind(word)
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/spf13/cobra"
)

// answerTime bounds how long a read is asked for.
const answerTime = 30 * time.Second

// get reads one object by name, id or unique prefix of the id.
func (a *app) get(ctx context.Context, c *client.Client, kind events.Kind, ref string, q events.ReadRequest) (row, error) {
	q.ID = ref
	answer, err := c.Read(ctx, kind, "get", q)
	if err != nil {
		return nil, err
	}
	if len(answer.Items) != 1 {
		return nil, fmt.Errorf("read %s %s: got %d objects", kind, ref, len(answer.Items))
	}
	return parseRow(answer.Items[0])
}

// find reads the object that the command line means. VMs and templates are looked up in --account if it is given.
func (a *app) find(ctx context.Context, c *client.Client, kind events.Kind, ref string) (row, error) {
	return a.findAt(ctx, c, kind, ref, "")
}

// findAt is find at a moment of the past; empty: now.
func (a *app) findAt(ctx context.Context, c *client.Client, kind events.Kind, ref, at string) (row, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	q := events.ReadRequest{At: at}
	switch kind {
	case events.KindVM, events.KindTemplate, events.KindNetwork, events.KindSubnet, events.KindNIC:
		account, err := a.accountIDAt(ctx, c, at)
		if err != nil {
			return nil, err
		}
		q.Account = account
	}
	return a.get(ctx, c, kind, ref, q)
}

// accountID gives the id of --account; empty if it was not given.
func (a *app) accountID(ctx context.Context, c *client.Client) (string, error) {
	return a.accountIDAt(ctx, c, "")
}

// accountIDAt is accountID at a moment of the past; empty: now.
func (a *app) accountIDAt(ctx context.Context, c *client.Client, at string) (string, error) {
	if a.account == "" {
		return "", nil
	}
	r, err := a.get(ctx, c, events.KindAccount, a.account, events.ReadRequest{At: at})
	if err != nil {
		return "", fmt.Errorf("find account %s: %w", a.account, err)
	}
	return r.text("id"), nil
}

// all reads a whole list.
func (a *app) all(ctx context.Context, c *client.Client, kind events.Kind, q events.ReadRequest) ([]row, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	items, _, err := c.List(ctx, kind, q)
	if err != nil {
		return nil, err
	}
	return parseRows(items)
}

func parseRows(items []json.RawMessage) ([]row, error) {
	rows := make([]row, len(items))
	for i, raw := range items {
		r, err := parseRow(raw)
		if err != nil {
			return nil, err
		}
		rows[i] = r
	}
	return rows, nil
}

// listCommand is "list" of a kind.
func (a *app) listCommand(kind events.Kind, what string, columns []column, filters ...string) *cobra.Command {
	var watch bool
	var limit int
	var at atFlag
	values := make([]string, len(filters))
	cmd := &cobra.Command{
		Use: "list", Short: "List " + what, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			if watch && at != "" {
				return usagef("--watch shows what comes, --at what was: leave one of them out")
			}
			q := events.ReadRequest{Limit: 500, Filter: map[string]string{}, At: string(at)}
			for i, name := range filters {
				if values[i] != "" {
					q.Filter[name] = values[i]
				}
			}
			if q.Account, err = a.accountIDAt(ctx, c, q.At); err != nil {
				return err
			}
			read := func(ctx context.Context) ([]row, error) { return a.some(ctx, c, kind, q, limit) }
			if watch {
				return a.watch(ctx, c, kind, "", columns, read)
			}
			rows, err := read(ctx)
			if err != nil {
				return err
			}
			return a.list(columns, rows)
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "then print each row that changes, until interrupted")
	cmd.Flags().IntVar(&limit, "limit", 0, "print at most so many (0: all)")
	at.add(cmd)
	for i, name := range filters {
		cmd.Flags().StringVar(&values[i], strings.ReplaceAll(name, "_", "-"), "", "only those with this "+strings.ReplaceAll(name, "_", " "))
	}
	return cmd
}

// some reads at most limit rows; 0: all.
func (a *app) some(ctx context.Context, c *client.Client, kind events.Kind, q events.ReadRequest, limit int) ([]row, error) {
	if limit <= 0 || limit > 1000 {
		rows, err := a.all(ctx, c, kind, q)
		if limit > 0 && len(rows) > limit {
			rows = rows[:limit]
		}
		return rows, err
	}
	q.Limit = limit
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	answer, err := c.Read(ctx, kind, "list", q)
	if err != nil {
		return nil, err
	}
	return parseRows(answer.Items)
}

// showCommand is "show" of a kind.
func (a *app) showCommand(kind events.Kind, what string, columns []column) *cobra.Command {
	var watch bool
	var at atFlag
	cmd := &cobra.Command{
		Use: "show NAME|ID", Short: "Show " + what, Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(kind),
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			if watch && at != "" {
				return usagef("--watch shows what comes, --at what was: leave one of them out")
			}
			r, err := a.findAt(ctx, c, kind, words[0], string(at))
			if err != nil {
				return err
			}
			if !watch {
				return a.show(columns, r)
			}
			id := r.text("id")
			return a.watch(ctx, c, kind, id, columns, func(ctx context.Context) ([]row, error) {
				ctx, cancel := context.WithTimeout(ctx, answerTime)
				defer cancel()
				r, err := a.get(ctx, c, kind, id, events.ReadRequest{})
				return []row{r}, err
			})
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "print it again whenever it changes, until interrupted")
	at.add(cmd)
	return cmd
}

// watch prints rows as they are and then each one that changes, until ctx ends. FEED says when to look again; who may not read it
// looks every second.
func (a *app) watch(ctx context.Context, c *client.Client, kind events.Kind, id string, columns []column, read func(context.Context) ([]row, error)) error {
	woken := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	defer func() { cancel(); <-ended }()
	go func() {
		ended <- c.Follow(ctx, client.Feed{Kind: kind, ID: id, New: true}, func(uint64, events.FeedMessage) error {
			select {
			case woken <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	seen := map[string]string{}
	for first := true; ; first = false {
		rows, err := read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var gone *client.Refusal
		if errors.As(err, &gone) && gone.Outcome.Code == events.CodeNotFound && !first {
			return nil // it was deleted
		}
		if err != nil {
			return err
		}
		if err := a.changed(columns, rows, seen, first); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-woken:
		case <-time.After(time.Second): // FEED is ahead of the read models now and then
		}
	}
}

// changed prints the rows that differ from what was seen.
func (a *app) changed(columns []column, rows []row, seen map[string]string, first bool) error {
	var now []row
	for _, r := range rows {
		id, by := r.text("id"), r.text("changed_by")+r.text("state")
		if seen[id] != by {
			seen[id] = by
			now = append(now, r)
		}
	}
	if len(now) == 0 && !first {
		return nil
	}
	if a.output == "table" && !first {
		return table(a.out, columns, now, withoutHeads)
	}
	return a.list(columns, now)
}

// complete offers the names of a kind on TAB.
func (a *app) complete(kind events.Kind) cobra.CompletionFunc {
	return func(cmd *cobra.Command, words []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(words) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.namesOf(cmd, kind, begun)
	}
}

// completeFlag is complete for the value of a flag.
func (a *app) completeFlag(cmd *cobra.Command, flag string, kind events.Kind) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return a.namesOf(cmd, kind, begun)
	})
	if err != nil {
		panic(err) // the flag is not there: a mistake in this program
	}
}

func (a *app) namesOf(cmd *cobra.Command, kind events.Kind, begun string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	failed := func(err error) ([]string, cobra.ShellCompDirective) {
		cobra.CompDebugln(err.Error(), false)
		return nil, cobra.ShellCompDirectiveError
	}
	if err := a.settings(cmd); err != nil {
		return failed(err)
	}
	c, err := a.connect(ctx)
	if err != nil {
		return failed(err)
	}
	defer c.Close()
	rows, err := a.all(ctx, c, kind, events.ReadRequest{Limit: 1000})
	if err != nil {
		return failed(err)
	}
	var out []string
	for _, r := range rows {
		if name := nameOf(r); strings.HasPrefix(name, begun) {
			out = append(out, name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

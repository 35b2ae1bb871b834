package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cloudengine/commands/api/client"
	"cloudengine/commands/api/wire"
	"cloudengine/events"
	"cloudengine/projections"
	"cloudengine/projections/read"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// rowKinds are the words for kinds of rows.
var rowKinds = map[string]events.Kind{
	"vm": events.KindVM, "machine": events.KindMachine, "host": events.KindHost, "template": events.KindTemplate, "user": events.KindUser,
	"secret": events.KindSecret, "operation": events.KindOperation, "op": events.KindOperation, "grant": projections.KindGrant, "orphan": projections.KindOrphan,
	"bootimage": events.KindBootimage, "discovered": events.KindDiscovered, "server": events.KindServer,
	"fabric": events.KindFabric, "disk": events.KindDisk, "pool": events.KindPool, "array": events.KindArray, "volume": events.KindVolume,
	"network": events.KindNetwork, "subnet": events.KindSubnet, "nic": events.KindNIC,
}

// diffFlags are the two moments, and how much is told.
type diffFlags struct {
	from, to string
	limit    int
	timeout  time.Duration
}

// diffCommand tells what differs between two moments.
func (a *app) diffCommand() *cobra.Command {
	var f diffFlags
	cmd := &cobra.Command{
		Use: "diff KIND NAME|account NAME|cloud", Short: "Tell what differs between two moments: of an object, an account or the whole cloud", Args: cobra.RangeArgs(1, 2),
		Long: `Tell what differs between two moments: which rows appeared, which are gone, and which columns changed, each with the number of the
decision that last changed the row. KIND is vm (with its run grants), machine or host (with its orphans), template, user, secret,
operation, grant, orphan, bootimage or discovered; "account NAME" compares all that belongs to an account, "cloud" everything. Both states are folded from the
log. What happened in between, step by step, is told by "history".`,
		Example: `  cloudengine diff vm web1 --from "2026-11-17 00:00" --to "2026-11-18 00:00"
  cloudengine diff account acme --from "1d ago"
  cloudengine diff cloud --from 4711 --to 4715 -o json`,
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			q, err := a.diffQuestion(ctx, c, words, f)
			if err != nil {
				return err
			}
			return a.diff(ctx, c, q, f.limit)
		},
	}
	cmd.Flags().StringVar(&f.from, "from", "", "what was: "+momentHelp)
	cmd.Flags().StringVar(&f.to, "to", "now", "what is compared with it, in the same forms")
	cmd.Flags().IntVar(&f.limit, "limit", 1000, "tell at most so many rows (0: all)")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 2*time.Minute, "how long to wait for the server")
	must(cmd.MarkFlagRequired("from"))
	return cmd
}

func (a *app) diffQuestion(ctx context.Context, c *client.Client, words []string, f diffFlags) (q wire.DiffRequest, err error) {
	if q.From, err = momentText("from", f.from, time.Now()); err != nil {
		return q, err
	}
	if q.To, err = momentText("to", f.to, time.Now()); err != nil {
		return q, err
	}
	if len(words) == 1 {
		if words[0] != "cloud" {
			return q, usagef("diff %s: of which one? or \"diff cloud\"", words[0])
		}
		return q, nil
	}
	kind, ok := rowKinds[words[0]]
	if words[0] == "account" {
		kind, ok = events.KindAccount, true
	}
	if !ok {
		return q, usagef("%q: want %s, account, or cloud", words[0], kindWords(rowKinds))
	}
	id := ""
	if whole, err := uuid.Parse(words[1]); err == nil {
		id = whole.String()
	} else if id, err = a.idThen(ctx, c, kind, words[1], q); err != nil {
		return q, err
	}
	if kind == events.KindAccount {
		q.Account = events.AccountID(id)
	} else {
		q.Kind, q.ID = kind, id
	}
	return q, nil
}

// idThen finds an object that may be there at only one of the moments.
func (a *app) idThen(ctx context.Context, c *client.Client, kind events.Kind, ref string, q wire.DiffRequest) (string, error) {
	r, err := a.findAt(ctx, c, kind, ref, q.To)
	var no *client.Refusal
	if errors.As(err, &no) && no.Outcome.Code == events.CodeNotFound {
		r, err = a.findAt(ctx, c, kind, ref, q.From)
	}
	if err != nil {
		return "", err
	}
	return r.text("id"), nil
}

// diff asks page by page and prints.
func (a *app) diff(ctx context.Context, c *client.Client, q wire.DiffRequest, limit int) error {
	var all wire.DiffAnswer
	for {
		q.Limit = 500
		if limit > 0 {
			q.Limit = min(q.Limit, limit-len(all.Items))
		}
		p, err := c.Diff(ctx, q)
		if err != nil {
			return err
		}
		p.Items = append(all.Items, p.Items...)
		all = p
		if all.Next == "" || limit > 0 && len(all.Items) >= limit {
			break
		}
		q.After, q.From, q.To = all.Next, fmt.Sprint(all.From), fmt.Sprint(all.To) // "now" has moved on
	}
	return a.printDiff(all)
}

func (a *app) printDiff(all wire.DiffAnswer) error {
	switch a.output {
	case "json":
		return a.json(all)
	case "yaml":
		return a.yaml(all)
	case "name":
		for _, r := range all.Items {
			fmt.Fprintln(a.out, string(r.Kind)+"/"+r.ID)
		}
		return nil
	}
	for _, r := range all.Items {
		fmt.Fprintln(a.out, oneLine(rowHead(r)))
		for _, f := range r.Fields {
			line := fmt.Sprintf("    %s: %s → %s", f.Field, cell(f.Old), cell(f.New))
			switch r.What {
			case read.Appeared:
				line = fmt.Sprintf("    %s: %s", f.Field, cell(f.New))
			case read.Gone:
				line = fmt.Sprintf("    %s: %s", f.Field, cell(f.Old))
			}
			fmt.Fprintln(a.out, oneLine(line))
		}
	}
	a.talk("%d rows differ between decision %d and decision %d", len(all.Items), all.From, all.To)
	if all.Next != "" {
		a.talk("there are more: ask with a larger --limit")
	}
	return nil
}

func rowHead(r read.RowDiff) string {
	name := r.Name
	if name == "" || name == r.ID {
		name = r.ID
	} else {
		name += " (" + r.ID + ")"
	}
	head := fmt.Sprintf("%s  %s %s  decision %d", r.What, r.Kind, name, r.Number)
	if r.Time != nil {
		head += "  " + r.Time.UTC().Format(time.RFC3339)
	}
	return head
}

// cell writes a value; what is null or not there is a dash.
func cell(raw json.RawMessage) string {
	var text string
	switch {
	case len(raw) == 0, string(raw) == "null":
		return "-"
	case json.Unmarshal(raw, &text) == nil:
		return text
	}
	return string(raw)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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

// logKinds are the words for kinds of objects that have a history.
var logKinds = map[string]events.Kind{
	"vm": events.KindVM, "machine": events.KindMachine, "host": events.KindHost, "template": events.KindTemplate,
	"account": events.KindAccount, "operation": events.KindOperation, "op": events.KindOperation, "user": events.KindUser, "secret": events.KindSecret,
	"bootimage": events.KindBootimage, "discovered": events.KindDiscovered, "server": events.KindServer,
	"fabric": events.KindFabric, "disk": events.KindDisk, "pool": events.KindPool, "array": events.KindArray, "volume": events.KindVolume,
	"network": events.KindNetwork, "subnet": events.KindSubnet, "nic": events.KindNIC,
}

// kindWords lists the words for kinds, for people.
func kindWords(kinds map[string]events.Kind) string {
	all := slices.Sorted(maps.Keys(kinds))
	return strings.Join(all[:len(all)-1], ", ") + " or " + all[len(all)-1]
}

// pageSize is how many decisions are asked for at once.
const pageSize = 500

// historyCommand tells what happened to one object.
func (a *app) historyCommand() *cobra.Command {
	var limit, last int
	var diff bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "history KIND NAME|ID", Short: "Tell all that happened to one object, in the order of the log", Args: cobra.ExactArgs(2),
		Long: `Tell all events of one object (vm, machine, host, account, volume and every other kind) in the order of the log, and what was refused about it. The server reads the log for it, so the answer cannot disagree with the log. What was deleted has no name any more: give its id.
-o json and -o yaml print the decisions. --diff prints what each event changed; "?" is what cannot be told from the events.`,
		Example: "  cloudengine history vm web1\n  cloudengine history vm web1 --diff\n  cloudengine history machine host1 --last 20 -o json",
		RunE: func(cmd *cobra.Command, words []string) error {
			if last < 0 || last > 0 && limit > 0 {
				return usagef("want either --limit or --last")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			object, err := a.object(ctx, c, words[0], words[1])
			if err != nil {
				return err
			}
			ask := func(after uint64, n int) (wire.HistoryAnswer, error) {
				return c.History(ctx, wire.HistoryRequest{Kind: object.Kind, ID: object.ID, After: after, Limit: n})
			}
			var all wire.HistoryAnswer
			if last > 0 {
				all, err = lastPages(last, func(before uint64, n int) (wire.HistoryAnswer, error) {
					return c.History(ctx, wire.HistoryRequest{Kind: object.Kind, ID: object.ID, Before: before, Last: n})
				})
			} else {
				all, err = pages(limit, ask)
			}
			if err != nil {
				return err
			}
			if diff {
				return a.printChanges(object, all.Items)
			}
			return a.printHistory(object, all.Items)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "tell only the first so many decisions (0: all)")
	cmd.Flags().IntVar(&last, "last", 0, "tell only the last so many decisions")
	cmd.Flags().BoolVar(&diff, "diff", false, "tell field by field what each event changed")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait for the server")
	return cmd
}

// object finds the object that the command line means; an object that is not there any more by its whole id.
func (a *app) object(ctx context.Context, c *client.Client, word, ref string) (events.Ref, error) {
	kind, ok := logKinds[word]
	if !ok {
		return events.Ref{}, usagef("%q: want %s", word, kindWords(logKinds))
	}
	if id, err := uuid.Parse(ref); err == nil {
		return events.Ref{Kind: kind, ID: id.String()}, nil
	}
	r, err := a.find(ctx, c, kind, ref)
	var no *client.Refusal
	if errors.As(err, &no) && no.Outcome.Code == events.CodeNotFound {
		if kind == events.KindServer || kind == events.KindBootimage || kind == events.KindDiscovered { // their ids are no UUIDs: it may be one
			return events.Ref{Kind: kind, ID: ref}, nil
		}
		return events.Ref{}, fmt.Errorf("%w (what was deleted has no name any more: give its whole id, \"op list\" tells it)", err)
	}
	if err != nil {
		return events.Ref{}, err
	}
	return events.Ref{Kind: kind, ID: r.text("id")}, nil
}

// pages asks for pages until there is no more, or there are limit decisions (0: all).
func pages(limit int, ask func(after uint64, n int) (wire.HistoryAnswer, error)) (wire.HistoryAnswer, error) {
	var all wire.HistoryAnswer
	for {
		n := pageSize
		if limit > 0 {
			n = min(n, limit-len(all.Items))
		}
		p, err := ask(all.Next, n)
		if err != nil {
			return all, err
		}
		p.Items = append(all.Items, p.Items...)
		if all = p; p.Next == 0 || limit > 0 && len(p.Items) >= limit {
			return all, nil
		}
	}
}

// lastPages asks for pages from the end backwards, until there is no more, or there are so many decisions.
func lastPages(last int, ask func(before uint64, n int) (wire.HistoryAnswer, error)) (wire.HistoryAnswer, error) {
	var all wire.HistoryAnswer
	for {
		p, err := ask(all.Prev, min(pageSize, last-len(all.Items)))
		if err != nil {
			return all, err
		}
		p.Items = append(p.Items, all.Items...)
		if all = p; p.Prev == 0 || len(p.Items) >= last {
			return all, nil
		}
	}
}

// form prints v if a form other than a table was asked for.
func (a *app) form(entries []history.Entry, v any) (done bool, err error) {
	switch a.output {
	case "json":
		return true, a.json(v)
	case "yaml":
		return true, a.yaml(v)
	case "name":
		for _, e := range entries {
			fmt.Fprintln(a.out, e.Number)
		}
		return true, nil
	}
	return false, nil
}

var historyColumns = []column{
	field("NUMBER", "number"), field("TIME", "time"), field("ACTOR", "actor"), field("INTENT", "intent"), field("EVENT", "event"),
	optional("DATA", "data"), optional("REASON", "reason"),
}

// printHistory prints a line for each event, and one for each decision that changed nothing.
func (a *app) printHistory(object events.Ref, entries []history.Entry) error {
	if done, err := a.form(entries, entries); done {
		return err
	}
	rows := []row{}
	for _, e := range entries {
		r := row{"number": strconv.FormatUint(e.Number, 10), "time": e.Time.UTC().Format(time.RFC3339), "actor": e.Actor,
			"intent": string(e.Kind) + "." + e.Verb, "event": string(e.Outcome.Status), "data": history.Verdict(e.Outcome)}
		if e.Reason != "" {
			r["reason"] = e.Reason
		}
		own := e.Of(object)
		for _, ev := range own {
			line := row{}
			for k, v := range r {
				line[k] = v
			}
			line["event"], line["data"] = ev.Type, nil
			if words := history.Words(ev); words != "" {
				line["data"] = words
			}
			rows = append(rows, line)
		}
		if len(own) == 0 {
			rows = append(rows, r)
		}
	}
	return table(a.out, historyColumns, rows, withHeads)
}

// changed fields of one event.
type changes struct {
	Number  uint64           `json:"number"`
	Time    time.Time        `json:"time"`
	Actor   string           `json:"actor"`
	Reason  string           `json:"reason,omitempty"`
	Type    string           `json:"type"`
	Changes []history.Change `json:"changes"`
}

// printChanges prints for each event what it changed.
func (a *app) printChanges(object events.Ref, entries []history.Entry) error {
	d, out := history.NewDiffer(), []changes{}
	for _, e := range entries {
		for _, ev := range e.Of(object) {
			out = append(out, changes{e.Number, e.Time, e.Actor, e.Reason, ev.Type, d.Add(ev)})
		}
	}
	if done, err := a.form(entries, out); done {
		return err
	}
	none := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	for _, c := range out {
		head := fmt.Sprintf("%d  %s  %s  %s  %s", c.Number, c.Time.UTC().Format(time.RFC3339), c.Actor, c.Type, c.Reason)
		fmt.Fprintln(a.out, oneLine(head))
		for _, x := range c.Changes {
			fmt.Fprintln(a.out, oneLine(fmt.Sprintf("    %s: %s → %s", x.Field, none(x.Old), none(x.New))))
		}
	}
	return nil
}
